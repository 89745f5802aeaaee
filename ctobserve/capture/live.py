"""The live kinds of the seam: what this host says now, and conntrack as our programs see it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from functools import cached_property
from typing import NamedTuple, Self, TypeVar

import numpy as np

from ctobserve.capture import read_via
from ctobserve.capture.capture import PROBES_OFF, Allocation, Expected, Fidelity, Host, NamespaceState, PacketCount, Snapshot
from ctobserve.capture.correlator import Correlator
from ctobserve.capture.decoder import Decoder
from ctobserve.capture.extensions import extensions_dtype
from ctobserve.capture.follower import Follower
from ctobserve.capture.read_via import ReadVia
from ctobserve.capture.records import RecordKind, record_dtype, row_dtype
from ctobserve.capture.ring_consumer import RingConsumer
from ctobserve.capture.table import Lengths, Table
from ctobserve.capture.table_reader import HashReader, Lister
from ctobserve.clock import Clock
from ctobserve.errors import CtobserveError
from ctobserve.event import RING_MIB, Events
from ctobserve.host import (
    account,
    addresses,
    capabilities,
    counters,
    dump,
    expectations,
    helpers,
    kernel,
    listing,
    netlink,
    netns,
    ruleset,
    slab,
    whose,
)
from ctobserve.host.listener import Listener
from ctobserve.host.listing import Listed
from ctobserve.host.symbols import Symbols
from ctobserve.host.sysctls import LIMIT
from ctobserve.host.whose import Whose
from ctobserve.model import EXPECTATION, PROTOCOLS, Entries, Expectations, join
from ctobserve.programs import syscalls
from ctobserve.programs.attachment import UNCOUNTED, Attachment
from ctobserve.programs.hooks import Purpose
from ctobserve.programs.ring import Ring

LOOK_NS = 1_000_000_000
RULES_S = 20.0  # for the rule sets of all namespaces together
COUNTED = {kind.name.lower(): int(kind) for kind in RecordKind if kind != RecordKind.WALK}  # a listing counts its own
# Kinds of records of which none enters the table.
NOT_OF_TABLE = frozenset({"drop", "confirm", "free", "evictor", UNCOUNTED})
T = TypeVar("T")


class Options(NamedTuple):
    """How to observe. `attach` is auto, fentry or kprobe; `chains` counts chain lengths at inserts; `read_via` names a ReadVia.

    Without `reads` the kernel's table is neither read nor followed, and nothing is needed for that. Without `tells` only the
    table takes events, straight from the ring, and `step` tells none. With `netns` (inode number) events of other namespaces
    never leave the kernel: there is then no whole table. `counts` is the namespace whose records are counted apart.
    """

    purpose: Purpose
    attach: str = "auto"
    chains: bool = False
    ring_mib: int = RING_MIB
    read_via: str = "auto"
    reads: bool = True
    tells: bool = True
    netns: int | None = None
    counts: int | None = None


class LiveView:
    """What this host says now, without a program in the kernel: a HostView. Needs no root for what every user may read."""

    @cached_property
    def host(self) -> Host:
        """This machine."""
        return Host(
            kernel.release(),
            kernel.machine(),
            os.stat(netns.HERE).st_ino,
            counters.limits_chains(),
            frozenset(PROTOCOLS),
            kernel.security_contexts(),
            kernel.boot_id(),
        )

    def allocation(self) -> Allocation:
        """Memory of this machine, and what of it entries take now."""
        return self._aside(lambda: Allocation(kernel.memory_bytes(), slab.read()))

    def names(self) -> dict[int, str]:
        """What text calls each network namespace that can be entered, by inode number."""
        return self._aside(lambda: {inum: space.label for inum, space in netns.discover().items()})

    def whose(self) -> dict[int, Whose]:
        """The same, and who owns each."""
        return self._aside(lambda: whose.whose(netns.discover()))

    def namespaces(
        self,
        sysctls: Collection[str] | None = (),
        among: Collection[int] | None = None,
        rules_of: Collection[int] = (),
    ) -> dict[int, NamespaceState]:
        """As HostView has it; of one that cannot be entered, the complaint."""
        return self._aside(lambda: _states(sysctls, among, rules_of))

    def counters(self, only: int | None = None) -> counters.Reading:
        """The kernel's own counters, of all namespaces or `only` of one."""
        return self._aside(lambda: counters.read(only))

    def accounts(self, only: int | None = None) -> dict[int, account.Account]:
        """What each namespace that can be entered says beside its entries, or `only` one."""
        return self._aside(lambda: account.read(only))

    def dumps(self, only: int | None = None) -> dict[int, dump.Dumped] | None:
        """A netlink dump of each namespace that can be entered; None where nf_conntrack_netlink is not loaded."""
        return self._aside(lambda: _dumps(dump.dump, None if only is None else (only,))) if netlink.available() else None

    def helped(self, among: Collection[int]) -> dict[int, dump.Dumped] | None:
        """The entries of these namespaces that have a helper, with its name; None where nf_conntrack_netlink is not loaded."""
        return self._aside(lambda: _dumps(dump.dump_helped, among)) if netlink.available() else None

    def expectations(self, only: int | None = None) -> Expected:
        """Those of all namespaces, or `only` of one, as far as it is known whose they are."""
        return self._aside(lambda: _expected(None if only is None else (only,)))

    def listing(self, inum: int, via: ReadVia) -> Iterator[Listed]:
        """The entries of one namespace as the kernel lists them; raises as HostView has it."""
        here = self.host.here
        return self._aside(lambda: _listing(inum, via, here))

    def wall_ns(self) -> int:
        """Now, nanoseconds since 1970."""
        return time.time_ns()

    def _aside(self, function: Callable[[], T]) -> T:
        """Result of a function that may take its time."""
        return function()


def _states(
    sysctls: Collection[str] | None, among: Collection[int] | None, rules_of: Collection[int]
) -> dict[int, NamespaceState]:
    until = time.monotonic() + RULES_S
    spaces = {inum: space for inum, space in netns.discover().items() if among is None or space.init or inum in among}
    known = whose.whose(spaces)
    states = {
        inum: NamespaceState(inum, known[inum].label, tuple(space.names), space.init, space.pid, owner=known[inum].owner)
        for inum, space in spaces.items()
    }
    wanted = spaces.values() if sysctls is None or sysctls else [space for inum, space in spaces.items() if inum in rules_of]

    def ask(space: netns.Namespace) -> NamespaceState:
        return _asked(states[space.inum], sysctls, until if space.inum in rules_of else None)

    given, failed = netns.inside_each(wanted, ask)
    return states | given | {inum: states[inum]._replace(not_entered=str(error)) for inum, error in failed.items()}


def _asked(state: NamespaceState, sysctls: Collection[str] | None, rules_until: float | None) -> NamespaceState:
    """With what this thread's namespace says; `rules_until`: by when its rules must be listed, None: they are not asked for."""
    if rules_until is not None:
        state = state._replace(ruleset=ruleset.read(rules_until), addresses=addresses.read())
    if sysctls is not None:
        own = frozenset((LIMIT,)) if LIMIT in sysctls and kernel.may_set(LIMIT) else frozenset()
        return state._replace(sysctls=kernel.sysctls_of(sysctls), writable=own)
    every = kernel.sysctls()
    writable = frozenset(name for name, (_, may) in every.items() if may)
    return state._replace(sysctls={name: value for name, (value, _) in every.items()}, writable=writable)


def _listing(inum: int, via: ReadVia, here: int) -> Iterator[Listed]:
    ask = {ReadVia.PROC: listing.of_proc, ReadVia.NETLINK: listing.of_netlink}[via]
    if inum == here:
        return ask()
    space = netns.discover().get(inum)
    if space is None:
        raise CtobserveError(f"no process and no name holds network namespace {inum}, so it cannot be looked into")
    return netns.run_inside(space, ask)


def _dumps(ask: Callable[[], T], among: Collection[int] | None) -> dict[int, T]:
    """What is found in each namespace, or `among` these, by inode number; of those that cannot be entered or refuse, nothing."""
    asked = (space for inum, space in netns.discover().items() if among is None or inum in among)
    return netns.inside_each(asked, lambda _: ask())[0]


def _expected(among: Collection[int] | None) -> Expected:
    none: Expectations = np.empty(0, EXPECTATION)
    if netlink.available():
        by_netns = _dumps(expectations.of_netlink, among)
        for inum, rows in by_netns.items():
            rows["netns"] = inum
        return Expected(join([none, *by_netns.values()]), ReadVia.NETLINK, helpers.loaded())
    # Older kernels list everybody's everywhere: alike but for the time between two readings.
    listed = join([none, *_dumps(expectations.of_proc, among).values()])
    alike = listed.copy()
    alike["left_s"] = 0
    _, first = np.unique(alike.view(np.dtype((np.void, EXPECTATION.itemsize))), return_index=True)
    return Expected(listed[np.sort(first)], ReadVia.PROC, helpers.loaded())


class LiveCapture(LiveView):
    """Conntrack on this host from now on: a Capture, and a context manager. It prints nothing and decides nothing."""

    def __init__(self, options: Options) -> None:
        """Plan only; raises NotPermitted or KernelLacks where observation is impossible here."""
        capabilities.require()
        self._options = options
        symbols = Symbols.read()
        self._via: ReadVia | None = read_via.choose(options.read_via, symbols) if options.reads else None
        self._purpose = options.purpose | (self._via.purpose if self._via else Purpose(0))
        self._attachment = Attachment(self._purpose, options.attach, symbols)
        self._gone = False
        self._looked_ns = 0
        self._off_s = 0

    @cached_property
    def host(self) -> Host:
        """This machine."""
        return super().host._replace(trackers=self._attachment.symbols.trackers())

    def __enter__(self) -> Self:
        """Compile, load, attach. From here on every event is in the ring."""
        syscalls.keep_freed_memory()
        options, attachment = self._options, self._attachment
        ring_bytes = options.ring_mib << 20
        with ExitStack() as opened:
            attachment.load(attachment.choices(options.chains, options.netns), ring_bytes)
            opened.callback(attachment.close)
            self._listener = Listener()
            opened.callback(self._listener.close)
            if Purpose.UPDATES in self._purpose:
                self._listener.renew()
            layout = attachment.build.layout
            record = record_dtype(layout)
            self.table = Table(row_dtype(record))
            ring = Ring(attachment.programs.map("ring"), ring_bytes, record.itemsize)
            opened.callback(ring.close)
            decoder = Decoder(attachment.symbols) if options.tells else None
            # Whoever follows the table alone counts what happened, and asks no story of it.
            lives = Purpose.REASONS in self._purpose or Purpose.TABLE not in self._purpose
            self._correlator = Correlator(lives, late=Purpose.INVALID in self._purpose)
            self._consumer = RingConsumer(ring, record, self.table if options.reads else None, decoder, options.counts)
            reader = self._reader(record)
            self._follower = Follower(self.table, self._consumer, reader, extensions_dtype(layout), self._lost_of_table)
            self._clock_fd = attachment.programs.load_runnable("clock")
            attachment.attach()
            # While the hooks came one by one, what was seen is true of the table, but no story that could be told or counted.
            self._follower.begin()
            attachment.begin(COUNTED)
            self.started = self.clock()
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _reader(self, record: np.dtype[np.void]) -> HashReader | Lister:
        programs = self._attachment.programs
        if self._via in (ReadVia.PROC, ReadVia.NETLINK):
            return Lister(programs, self._via)
        return HashReader(programs, self._attachment.build.layout, record)

    @property
    def buckets(self) -> int:
        """Size of the hash when it was read last."""
        return self._follower.buckets

    @property
    def uncertain_ns(self) -> int:
        """How long in all the table was wrong because records were lost, until it was read again."""
        return self._follower.uncertain_ns

    @property
    def repairs(self) -> int:
        """How often the table was read again, because records were lost or the hash was resized."""
        return self._follower.repairs

    @property
    def over(self) -> bool:
        """Whether nf_conntrack was unloaded."""
        return self._gone

    def now_ns(self) -> int:
        """Now, CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def clock(self) -> Clock:
        """Now, on all clocks."""
        return Clock.at(syscalls.test_run(self._clock_fd, bytes(16)))

    def wait(self, seconds: float) -> None:
        """Let that much time pass."""
        time.sleep(seconds)

    def follow(self) -> None:
        """Read the kernel's table, or read it again; events keep it true."""
        self._follower.read()

    def step(self) -> Events:
        """As Capture has it; once a second it also looks whether conntrack is still there, and repairs the table."""
        self._look_around()
        self._follower.repair()
        if self._listener.listening:
            self._listener.renew()
        return self._correlator.complete(self._consumer.decoded())

    def drain(self) -> Events:
        """What came, and what was held back."""
        return self._correlator.complete(self._consumer.decoded(), final=True)

    def settle(self) -> None:
        """Repair the table now where records were lost or the hash was resized."""
        self._note_probes()
        if not self._gone:
            self._follower.settle()

    def cease(self) -> None:
        """From now on events keep the table true, and `step` tells none any more."""
        self._consumer.cease()
        self._correlator.forget()

    def snapshot(self, extensions: bool = False) -> Snapshot:
        """The kernel's table read once, beside the one that is followed."""
        return self._follower.snapshot(extensions)

    def lengths(self) -> Lengths:
        """The lengths of all chains now."""
        return self._follower.lengths()

    def chain(self, bucket: int) -> Entries:
        """The entries with a node in this bucket now."""
        return self._follower.chain(bucket)

    def packets(self) -> list[PacketCount]:
        """Packets by state so far, with Purpose.PACKETS."""
        return [PacketCount(*row) for row in self._attachment.packets()]

    def fidelity(self) -> Fidelity:
        """How true this view is so far."""
        attachment, follower = self._attachment, self._follower
        attached = "fentry" if attachment.trampolines else "kprobe"
        return Fidelity(
            attach=attached if attachment.plan else "walk",
            not_attached=attachment.not_attached,
            read_via=self._via and self._via.value,
            seen=self._consumer.seen,
            seen_of=None if self._options.counts is None else self._consumer.seen_of,
            lost=self._lost(),
            unpaired=attachment.unpaired(),
            read_ns=follower.read_ns,
            uncertain_ns=self.uncertain_ns,
            unread=follower.unread,
        )

    def _look_around(self) -> None:
        """Once a second: is conntrack still there, and has nf_conntrack_netlink come since?"""
        now_ns = time.monotonic_ns()
        if now_ns - self._looked_ns < LOOK_NS:
            return
        self._looked_ns = now_ns
        self._gone = not kernel.conntrack_loaded()
        self._note_probes()
        if self._attachment.attach_late() and Purpose.UPDATES in self._purpose:
            self._listener.renew()

    def _note_probes(self) -> None:
        """What happens while they are off nobody counts; so each look that finds them off counts, and the table is read again."""
        self._off_s += self._attachment.switched_off() is not None

    def _lost(self) -> dict[str, int]:
        return self._attachment.missed() | ({PROBES_OFF: self._off_s} if self._off_s else {})

    def _lost_of_table(self) -> int:
        """Of these, those that make the table: a loss or a packet that nobody saw leaves it as it is."""
        return sum(count for kind, count in self._lost().items() if kind not in NOT_OF_TABLE)

    def aside(self, function: Callable[[], T]) -> T:
        """Result of a function that takes its time, while the ring is emptied."""
        return self._aside(function)

    def _aside(self, function: Callable[[], T]) -> T:
        """Of one of ours."""
        return self._follower.drained(function)
