"""One observation: programs attached, the ring drained, the table followed. It prints nothing and decides nothing."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ctobserve import facts, kernel, syscalls
from ctobserve.clock import Clock
from ctobserve.compile import build
from ctobserve.details import Details, detail_dtype, details_of
from ctobserve.errors import CtobserveError, KernelLacks
from ctobserve.events import Kind, Records, picked, record_dtype, together
from ctobserve.hooks import DELETE, LOCK, WHYS, Planned, Purpose, plan
from ctobserve.listener import Listener
from ctobserve.model import Entries
from ctobserve.probes import Probes, Variables
from ctobserve.ring import Ring
from ctobserve.table import Addresses, Merge, Table, entries_of_walk, walked_records

SETTLE_S = 0.02
POLL_S = 0.02
RESIZED = 0xFFFFFFFF
WALK_TRIES = 5
BUCKET_TRIES = 8
CHECK_NS = 1_000_000_000
DEFAULT_RING_MIB = 32


@dataclass(frozen=True)
class Options:
    """How to observe. `form` is auto, fentry or kprobe; `chains` counts chain lengths at every insert."""

    purpose: Purpose
    form: str = "auto"
    chains: bool = False
    ring_mib: int = DEFAULT_RING_MIB


@dataclass(frozen=True)
class Walk:
    """The table as a walk saw it. `unread` counts buckets that could not be read to their end.

    `details` has a row for each of `entries`, or none when they were not asked for.
    """

    entries: Entries
    details: Details
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
        self.facts = facts.read()
        if options.form == "fentry" and not self.facts.function_ids:
            raise KernelLacks("this kernel has no BTF of nf_conntrack's functions for fentry; try: --attach kprobe")
        ids = {} if options.form == "kprobe" else self.facts.function_ids
        self.plan: list[Planned] = plan(self.symbols, ids, options.purpose) if options.purpose else []
        self.trampolines = any(item.btf for item in self.plan)
        self.table = Table()
        self.seen = 0
        self.walked_ns = 0
        self.unread = 0
        self.resized = False
        self.uncertain_ns = 0
        self._lost_known = 0
        self._checked_ns = 0
        self._pending: list[Records] = []

    def __enter__(self) -> Observer:
        """Compile, load, attach. From here on every event is in the ring."""
        ring_bytes = self.options.ring_mib << 20
        self._probes = Probes(build(self._defines()), self._variables(), ring_bytes)
        self._listener = Listener()
        try:
            if Purpose.UPDATES in self.options.purpose:
                self._listener.renew()
            self._dtype = record_dtype(self.facts.layout)
            self._detail_dtype = detail_dtype(self.facts.layout)
            self._ring = Ring(self._probes.maps["ring"], ring_bytes, self._dtype.itemsize)
            self._walk_fd = self._probes.load_runnable("walk")
            self._clock_fd = self._probes.load_runnable("clock")
            self._probes.attach(self.plan)
            self.started_ns = time.monotonic_ns()
            self.started = self.clock()
        except BaseException:
            self._probes.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._ring.close()
        self._probes.close()

    def _defines(self) -> dict[str, int]:
        purpose, symbols = self.options.purpose, self.symbols
        return self.facts.layout.defines | {
            "TRAMPOLINE": int(self.trampolines),
            "CHAINS": int(self.options.chains),
            "CONFIRMS": int(Purpose.CONFIRMS in purpose),
            "DETAILS": int(bool(purpose & WHYS)),
            "INVALID": int(Purpose.INVALID in purpose),
            "PACKETS": int(Purpose.PACKETS in purpose),
            "SPLIT_DELETE": int(symbols.resolve(*DELETE) != DELETE[-1]),
            "LOCK_ARG": int(symbols.resolve(*LOCK) == LOCK[0]),
        }

    def _variables(self) -> Variables:
        known = self.symbols.addresses
        count = known.get("__preempt_count") or known.get("pcpu_hot")
        return Variables(
            self._address("nf_conntrack_hash"),
            self._address("nf_conntrack_htable_size"),
            known.get("__per_cpu_offset", 0),
            count + self.facts.layout.preempt_count if count and "__per_cpu_offset" in known else 0,
        )

    def _address(self, symbol: str) -> int:
        address = self.symbols.addresses.get(symbol)
        if not address:
            raise KernelLacks(f"/proc/kallsyms has no {symbol}: the kernel lacks CONFIG_KALLSYMS_ALL, which the table walk needs")
        return address

    def clock(self) -> Clock:
        """Now, on all clocks."""
        return Clock.at(syscalls.test_run(self._clock_fd, bytes(16)))

    def packets(self) -> list[tuple[int, int, int, int]]:
        """Namespace, hook, state and number of packets so far, with Purpose.PACKETS."""
        found = self._probes.per_cpu_hash("packet_counts")
        return sorted((*struct.unpack("<IHH", key), sum(counts)) for key, counts in found.items())

    def lost(self) -> dict[Kind, int]:
        """Records that found the ring full, by kind; a walk's own are not lost, it reads the bucket again."""
        counts = {kind: sum(self._probes.per_cpu("lost", kind)) for kind in Kind}
        return {kind: n for kind, n in counts.items() if n and kind not in (Kind.WALK, Kind.WALK_REPLY)}

    def poll(self) -> Records:
        """Everything that happened since the last call, in the kernel's order; the table has it already."""
        self._take()
        records, self._pending = self._pending, []
        return np.concatenate(records)

    def watch(self, ended: Callable[[], bool]) -> Iterator[Records]:
        """Poll until `ended`, yielding what is not empty; walks again after a resize."""
        while not ended():
            self._repair()
            if self._listener.listening:
                self._listener.renew()
            records = self.poll()
            if len(records):
                yield records
            time.sleep(POLL_S)
        self._repair(at_once=True)
        records = self.poll()
        if len(records):
            yield records

    def _repair(self, at_once: bool = False) -> None:
        """Walk again when the hash was resized, or records were lost; the time in which the table was wrong is added up."""
        if not self.walked_ns:
            return
        now = time.monotonic_ns()
        if self.resized:
            self.seed()
        elif at_once or now - self._checked_ns > CHECK_NS:
            lost = sum(self.lost().values())
            if lost != self._lost_known:
                self._lost_known = lost
                self.seed()
                self.uncertain_ns += time.monotonic_ns() - max(self._checked_ns, self.started_ns)
            self._checked_ns = time.monotonic_ns()

    def seed(self) -> Merge:
        """Fill or repair the table by a walk, keeping what events say meanwhile."""
        self.resized = False
        walk, touched = self.walk()
        self.walked_ns = walk.at_ns
        self.unread = walk.unread
        return self.table.merge(walk.entries, touched)

    def walk(self, details: bool = False) -> tuple[Walk, Addresses]:
        """The kernel's table, and the addresses that events touched from shortly before the walk until its end.

        Raises CtobserveError when the hash is resized again and again meanwhile.
        """
        beside = [self._take()]
        time.sleep(SETTLE_S)
        for _ in range(WALK_TRIES):
            walked: list[Records] = [np.empty(0, self._dtype)]
            unread = self._walk_once(walked, beside, details)
            if unread is not None:
                records = together(walked) if details else np.concatenate(walked)
                more = details_of(walked_records(records) if details else records[:0], self._detail_dtype)
                return Walk(entries_of_walk(records), more, self.buckets, time.monotonic_ns(), unread), np.concatenate(beside)
        raise CtobserveError("the hash table was resized during every attempt to read it; try again when that has ended")

    def _walk_once(self, walked: list[Records], beside: list[Addresses], details: bool) -> int | None:
        """One pass over all buckets; number of unreadable buckets, None when the size changed under way."""
        self.buckets = kernel.htable_size()
        bucket, unread, tries = 0, 0, 0
        while bucket < self.buckets:
            following = syscalls.test_run(self._walk_fd, struct.pack("<QQQ", bucket, self.buckets, details))
            if following == RESIZED:
                return None
            beside.append(self._take(walked))
            tries = tries + 1 if following == bucket else 0
            if tries == BUCKET_TRIES:
                following, unread, tries = bucket + 1, unread + 1, 0
            bucket = following
        return unread

    def _take(self, walked: list[Records] | None = None) -> Addresses:
        """Drain into the table and the queue for poll; walk records go to `walked`. Returns the addresses touched."""
        records = self._drain()
        kinds = records["kind"]
        of_walk = (kinds == Kind.WALK) | (kinds == Kind.WALK_REPLY)
        if walked is not None:
            walked.append(picked(records, of_walk))
            records = records[~of_walk]
        self.seen += len(records)
        self.resized |= bool((records["kind"] == Kind.RESIZE).any())
        self._pending.append(records)
        return self.table.apply(records)

    def _drain(self) -> Records:
        return self._ring.drain().view(self._dtype)[:, 0]
