"""One observation: programs attached, the ring drained, the table followed. It prints nothing and decides nothing."""

from __future__ import annotations

import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ctobserve.capture import read_via
from ctobserve.capture.address_index import Addresses
from ctobserve.capture.extensions import Extensions, extensions_dtype
from ctobserve.capture.records import Kind, Records, record_dtype
from ctobserve.capture.ring_consumer import RingConsumer
from ctobserve.capture.snapshot_builder import SnapshotBuilder
from ctobserve.capture.table import Lengths, Table, in_bucket, lengths_of
from ctobserve.capture.table_reader import HashReader, Lister
from ctobserve.clock import Clock
from ctobserve.errors import CtobserveError
from ctobserve.host import kernel, kernel_build, netlink
from ctobserve.host.btf import BtfId
from ctobserve.host.listener import Listener
from ctobserve.host.threads import elsewhere
from ctobserve.model import UNKNOWN_BUCKET, Entries
from ctobserve.programs import syscalls
from ctobserve.programs.compile import build
from ctobserve.programs.hooks import DELETE, FUNCTIONS, LOCK, REASON_HOOKS, Planned, Purpose, check, plan
from ctobserve.programs.loader import Choices, Programs, Variables
from ctobserve.programs.ring import Ring

SETTLE_S = 0.02
POLL_S = 0.02
WALK_TRIES = 5
RESIZING = "the hash table was resized during every attempt to read it; try again when that has ended"
CHECK_NS = 1_000_000_000
# Programs of which each call is an event (an update: at most).
MISSED = {Kind.INSERT: "insert", Kind.DESTROY: "destroy", Kind.UPDATE: "update"}
UNPAIRED = "unpaired"
DRAIN_S = 0.005
T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """How to observe. `form` is auto, fentry or kprobe; `chains` counts chain lengths at inserts; `source` names a ReadVia.

    Without `table` the kernel's table is neither read nor followed, and nothing is needed for that. Without `stream` only the
    table takes events, straight from the ring, and `poll` has nothing to tell. With `netns` (inode number) events of other
    namespaces never leave the kernel: there is then no whole table.
    """

    purpose: Purpose
    form: str = "auto"
    chains: bool = False
    ring_mib: int = 32
    source: str = "auto"
    table: bool = True
    stream: bool = True
    netns: int | None = None


@dataclass(frozen=True)
class Snapshot:
    """The table as a walk saw it. `unread` counts buckets (of a listing: entries) that could not be read.

    `details` has a row for each of `entries`, or none when they were not asked for.
    """

    entries: Entries
    details: Extensions
    buckets: int
    at_ns: int
    unread: int


class Observer:
    """Context manager; `poll` yields what happened, `walk` reads the table, `table` is the state rebuilt from both."""

    def __init__(self, options: Options) -> None:
        """Plan only; raises NotPermitted or KernelLacks where observation is impossible here."""
        kernel.require_root()
        self.options = options
        self.symbols = kernel.Symbols.read()
        self.facts = kernel_build.read(FUNCTIONS)
        self.source = read_via.choose(options.source, self.symbols) if options.table else None
        self._purpose = options.purpose | (self.source.purpose if self.source else Purpose(0))
        self.plan = self._plan()
        check(self.plan, self.facts.function_ids, options.form)
        # Without any hook the programs are compiled in the form that other commands will want, and found again.
        self.trampolines = any(item.btf for item in self.plan) or (not self.plan and bool(self._ids()))
        self.table = Table()
        self.walked_ns = 0
        self.unread = 0
        self.gone = False
        self.uncertain_ns = 0
        self._before: Counter[str] = Counter()
        self._unfit: list[str] = []
        self._lost_known = 0
        self._checked_ns = self._looked_ns = 0

    def __enter__(self) -> Observer:
        """Compile, load, attach. From here on every event is in the ring."""
        syscalls.keep_freed_memory()
        ring_bytes = self.options.ring_mib << 20
        with ExitStack() as opened:
            self._probes = Programs(build(self._defines()), self._choices(), ring_bytes)
            opened.callback(self._probes.close)
            self._probes.configure(self._variables())
            self._listener = Listener()
            opened.callback(self._listener.close)
            self._netlink = netlink.available()
            if Purpose.UPDATES in self._purpose:
                self._listener.renew()
            form = record_dtype(self.facts.layout)
            self._detail_dtype = extensions_dtype(self.facts.layout)
            ring = Ring(self._probes.map("ring"), ring_bytes, form.itemsize)
            opened.callback(ring.close)
            self._intake = RingConsumer(ring, form, self.table if self.options.table else None, self.options.stream)
            self._reader = self._reader_of(form)
            self._clock_fd = self._probes.load_runnable("clock")
            self._probes.attach(self.plan)
            # While the hooks came one by one, what was seen is true of the table, but no story that could be told or counted.
            self._intake.begin()
            self._before = self._counted()
            self.started_ns = time.monotonic_ns()
            self.started = self.clock()
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _reader_of(self, form: np.dtype[np.void]) -> HashReader | Lister:
        if self.source in (read_via.ReadVia.PROC, read_via.ReadVia.NETLINK):
            return Lister(self._probes, self.source)
        return HashReader(self._probes, self.facts.layout, form)

    def _plan(self) -> list[Planned]:
        return plan(self.symbols, self._ids(), self._purpose) if self._purpose else []

    def _ids(self) -> dict[str, BtfId]:
        return {} if self.options.form == "kprobe" else self.facts.function_ids

    def _defines(self) -> dict[str, int]:
        symbols = self.symbols
        return self.facts.layout.defines | {
            "TRAMPOLINE": int(self.trampolines),
            "SPLIT_DELETE": int(symbols.resolve(*DELETE) != DELETE[-1]),
            "LOCK_ARG": int(symbols.resolve(*LOCK) == LOCK[0]),
        }

    def _choices(self) -> Choices:
        purpose = self._purpose
        return Choices(
            chains=self.options.chains and "nf_conntrack_hash" in self.symbols.addresses,
            confirms=Purpose.CONFIRMS in purpose,
            details=bool(purpose & REASON_HOOKS),
            invalid=Purpose.INVALID in purpose,
            packets=Purpose.PACKETS in purpose,
            netns=self.options.netns or 0,
        )

    def _variables(self) -> Variables:
        known = self.symbols.addresses
        count = known.get("__preempt_count") or known.get("pcpu_hot")
        return Variables(
            known.get("nf_conntrack_hash", 0),
            known.get("nf_conntrack_htable_size", 0),
            known.get("__per_cpu_offset", 0),
            count + self.facts.layout.preempt_count if count and "__per_cpu_offset" in known else 0,
            known.get("nf_conntrack_generation", 0),
        )

    @property
    def buckets(self) -> int:
        """Number of buckets of the table when it was last read."""
        return self._reader.buckets

    def clock(self) -> Clock:
        """Now, on all clocks."""
        return Clock.at(syscalls.test_run(self._clock_fd, bytes(16)))

    def packets(self) -> list[tuple[int, int, int, int]]:
        """Namespace, hook, state and number of packets so far, with Purpose.PACKETS."""
        found = self._probes.per_cpu_hash("packet_counts")
        return sorted((*struct.unpack("<IHH", key), sum(counts)) for key, counts in found.items())

    def lost(self) -> dict[Kind, int]:
        """Records that found the ring full, by kind, and calls that a program missed, since everything was attached.

        Those of a listing are counted by it.
        """
        now = self._counted()
        return {kind: n for kind in Kind if (n := now[kind.name] - self._before[kind.name]) and kind != Kind.WALK}

    @property
    def unattached(self) -> list[str]:
        """Functions that a hook wants and that have none: this kernel lacks them, or they came later and take another form."""
        return sorted({item.hook.functions[-1] for item in self.plan if item.function is None}.union(self._unfit))

    @property
    def unpaired(self) -> int:
        """Calls of early_drop of which the begin or the return stayed unseen: their victims have no evictor."""
        return self._counted()[UNPAIRED] - self._before[UNPAIRED]

    def _counted(self) -> Counter[str]:
        counts = {kind.name: sum(self._probes.per_cpu("lost", kind)) + self._probes.missed(MISSED.get(kind)) for kind in Kind}
        return Counter(counts | {UNPAIRED: sum(self._probes.per_cpu("unpaired", 0))})

    def poll(self) -> Records:
        """Everything that happened since the last call, in the kernel's order; the table has it already."""
        return self._intake.poll()

    @property
    def seen(self) -> int:
        """Events so far."""
        return self._intake.seen

    def watch(self, ended: Callable[[], bool], idle: bool = False) -> Iterator[Records]:
        """Poll until `ended` or conntrack is `gone`; walks again after a resize or a loss. Empty batches only if `idle`."""
        while not ended() and not self.gone:
            self._look_around()
            self._repair()
            if self._listener.listening:
                self._listener.renew()
            records = self.poll()
            if idle or len(records):
                yield records
            time.sleep(POLL_S)
        if not self.gone:
            self.settle()
        records = self.poll()
        if len(records):
            yield records

    def _look_around(self) -> None:
        """Once a second: is conntrack still there, and has nf_conntrack_netlink come since?"""
        now = time.monotonic_ns()
        if now - self._looked_ns < CHECK_NS:
            return
        self._looked_ns = now
        self.gone = not kernel.conntrack_loaded()
        if netlink.available() and not self._netlink:
            self._netlink = True
            self._attach_late()

    def _attach_late(self) -> None:
        """Hooks of a module that was loaded after us; in the form that the programs are compiled for."""
        attached = {item.hook for item in self.plan if item.function}
        self.symbols, self.facts = kernel.Symbols.read(), kernel_build.read(FUNCTIONS)
        self.plan = self._plan()
        late = [item for item in self.plan if item.function and item.hook not in attached]
        fitting = [item for item in late if item.hook.kprobe_only or bool(item.btf) == self.trampolines]
        self._unfit += [item.function for item in late if item.function and item not in fitting]
        self._probes.attach(fitting)
        if Purpose.UPDATES in self._purpose:
            self._listener.renew()

    def settle(self) -> None:
        """Take what is in the ring and repair the table now if something was lost or the hash resized."""
        self._intake.take()
        self._repair(at_once=True)

    def _repair(self, at_once: bool = False) -> None:
        """Snapshot again when the hash was resized, or records were lost; the time in which the table was wrong is added up."""
        if not self.walked_ns:
            return
        now = time.monotonic_ns()
        if self._intake.resized:
            self.seed()
        elif at_once or now - self._checked_ns > CHECK_NS:
            lost = sum(self.lost().values())
            if lost != self._lost_known:
                self._lost_known = lost
                self.seed()
                self.uncertain_ns += time.monotonic_ns() - max(self._checked_ns, self.started_ns)
            self._checked_ns = time.monotonic_ns()

    def drained(self, function: Callable[[], T], keep: bool = True) -> T:
        """Result of a function that takes its time, while the ring is emptied; its exceptions are ours.

        Without `keep`, what comes meanwhile reaches the table alone, and no later `poll` tells it.
        """
        return elsewhere(function, self._intake.take if keep else self._intake.forget, DRAIN_S)

    def seed(self) -> None:
        """Fill or repair the table by a walk, keeping what events say meanwhile."""
        self._intake.resized = False
        walk, touched = self.walk()
        self.walked_ns = walk.at_ns
        self.unread = walk.unread
        self.table.merge(walk.entries, touched)

    def walk(self, details: bool = False) -> tuple[Snapshot, Addresses]:
        """The kernel's table, and the addresses that events touched from shortly before the walk until its end.

        Raises CtobserveError when the hash is resized again and again meanwhile.
        """
        beside = [self._intake.take()]

        def drain(listed: SnapshotBuilder | None = None) -> None:
            beside.append(self._intake.take(listed))

        time.sleep(SETTLE_S)
        for _ in range(WALK_TRIES):
            found = SnapshotBuilder(self._detail_dtype if details else None)
            unread = self._reader.entries(found, drain, details)
            if unread is not None:
                walk = Snapshot(*found.result(), self.buckets, time.monotonic_ns(), unread)
                return walk, np.concatenate(beside)
        raise CtobserveError(RESIZING)

    def lengths(self) -> Lengths:
        """The lengths of all chains now; where the hash can be walked, by a pass that copies no entry and leaves the table alone.

        Raises CtobserveError when the hash is resized again and again meanwhile.
        """
        if isinstance(self._reader, Lister):
            self.seed()
            return lengths_of(self.table.entries(), self.buckets)
        for _ in range(WALK_TRIES):
            found = self._reader.lengths()
            if found is not None:
                self.walked_ns, self.unread = time.monotonic_ns(), found.unread
                return found
        raise CtobserveError(RESIZING)

    def chain(self, bucket: int) -> Entries:
        """The entries with a node in this bucket, and both their buckets: read now, or from the table after a listing."""
        if isinstance(self._reader, Lister):
            return in_bucket(self.table.entries(), bucket)
        gathering = SnapshotBuilder()
        self._reader.chain(bucket, gathering)
        found, _ = gathering.result()
        for entry in found:
            for direction in (1,) if entry["reply_only"] else (0, 1):
                if entry["bucket"][direction] == UNKNOWN_BUCKET:
                    entry["bucket"][direction] = self._reader.locate(int(entry["ct"]), direction)
        return found
