"""A capture made up for a test: events, tables, counters and namespaces from lists, on a clock of its own. No kernel, no root."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ctobserve.capture.capture import Allocation, Expected, Fidelity, Host, NamespaceState, PacketCount, Snapshot
from ctobserve.capture.extensions import EXTENSION
from ctobserve.capture.read_via import ReadVia
from ctobserve.capture.table import Lengths, Table, in_bucket, lengths_of
from ctobserve.clock import NS_PER_S, Clock
from ctobserve.event import EVENT, NO_EVENTS, Events, Kind
from ctobserve.host.account import Account
from ctobserve.host.counters import Reading
from ctobserve.host.dump import Dumped
from ctobserve.host.listing import Listed
from ctobserve.host.owner import Owner
from ctobserve.host.ruleset import Ruleset
from ctobserve.host.whose import Whose
from ctobserve.model import ENTRY, EXPECTATION, Entries, Expectations

T = TypeVar("T")
NETNS = 7
BUCKETS = 1024
CLOCK = Clock(monotonic_ns=10**12, wall_ns=1_700_000_000_000_000_000, jiffies=1_000_000, hz=250)
HOST = Host("6.1.0-test", "x86_64", NETNS, limits_chains=True, trackers=frozenset((1, 6, 17, 58)))
ALLOCATED = Allocation(memory_bytes=4 << 30)
FIDELITY = Fidelity("fentry", read_via="walk")
NO_ENTRIES: Entries = np.empty(0, ENTRY)


def events(kind: Kind, of: Entries, **columns: Any) -> Events:
    """One event of this kind for each of these entries; columns are one value or one for each. `at_s`: since the start."""
    made = np.zeros(len(of), EVENT)
    made["entry"], made["kind"] = of, kind
    made["entry"]["seen_ns"] = CLOCK.monotonic_ns + (np.asarray(columns.pop("at_s", 0)) * NS_PER_S).astype(np.int64)
    for name, value in columns.items():
        made[name] = value
    return made


def reading(netns: int = NETNS, cpu: int = 0, cookie: int = 1, **values: int) -> Reading:
    """The counters of one namespace and CPU; those not given are 0."""
    names = ("found", "invalid", "insert", "insert_failed", "drop", "early_drop", "error", "search_restart", "clash_resolve")
    return Reading({(netns, cookie, cpu): Counter(dict.fromkeys((*names, "chaintoolong"), 0) | values)})


@dataclass
class ScriptedCapture:
    """`batches` come one per step; `entries` are the table at the start. `readings` and `accounted` are told in turn, the
    last for ever.

    `held` comes after the batches, when it is drained. The clock moves when somebody waits. The first
    `follow` reads `entries`; later ones and `snapshot` read what events have made of them, unless `kernel` says what the kernel
    has. `touched` are addresses that events touch meanwhile.
    """

    batches: Iterable[Events] = ()
    entries: Entries = field(default_factory=lambda: NO_ENTRIES)
    kernel: Entries | None = None
    touched: Sequence[int] = ()
    extensions: np.ndarray[Any, Any] | None = None
    readings: Sequence[Reading] = field(default_factory=lambda: [reading()])
    states: Mapping[int, NamespaceState] = field(default_factory=lambda: {NETNS: NamespaceState(NETNS, "blue", init=True)})
    accounted: Sequence[Mapping[int, Account]] = ()
    rulesets: Mapping[int, Ruleset] = field(default_factory=dict)
    dumped: Mapping[int, Dumped] | None = None
    with_helper: Mapping[int, Dumped] | None = None
    expected: Expectations = field(default_factory=lambda: np.empty(0, EXPECTATION))
    expected_via: ReadVia = ReadVia.NETLINK
    helpers: frozenset[str] = frozenset()
    listings: Mapping[ReadVia, Iterable[Listed] | Exception] = field(default_factory=dict)
    counted: Sequence[PacketCount] = ()
    told: Fidelity = FIDELITY
    host: Host = HOST
    allocated: Allocation = ALLOCATED
    buckets: int = BUCKETS
    over: bool = False
    held: Events = field(default_factory=lambda: NO_EVENTS)
    owners: Mapping[int, Owner] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.table = Table()
        self.started = CLOCK
        self.ceased = False
        self._ns = 0
        self._left = list(self.batches)
        self._read = 0
        self._accounted = 0
        self._seen = 0
        self._followed = 0
        self.repairs = 0

    @property
    def uncertain_ns(self) -> int:
        return self.told.uncertain_ns

    def now_ns(self) -> int:
        return CLOCK.monotonic_ns + self._ns

    def clock(self) -> Clock:
        return Clock(self.now_ns(), CLOCK.wall_ns + self._ns, CLOCK.jiffies + self._ns * CLOCK.hz // NS_PER_S, CLOCK.hz)

    def wait(self, seconds: float) -> None:
        self._ns += round(seconds * NS_PER_S)

    def follow(self) -> None:
        if not self._followed:
            self.table.put(self.entries)
        elif self.kernel is not None:
            self.table = Table()
            self.table.put(self.kernel)
        self._followed = self.now_ns()

    def step(self) -> Events:
        return self._told(self._left.pop(0) if self._left else NO_EVENTS)

    def drain(self) -> Events:
        if self._left:
            return self.step()
        batch, self.held = self.held, NO_EVENTS
        return self._told(batch)

    def _told(self, batch: Events) -> Events:
        self.table.apply(batch)
        self._seen += len(batch)
        return NO_EVENTS if self.ceased else batch

    def settle(self) -> None:
        pass

    def cease(self) -> None:
        self.ceased = True

    def snapshot(self, extensions: bool = False) -> Snapshot:
        followed = self.table.entries() if self._followed else self.entries
        found = followed if self.kernel is None else self.kernel
        more = np.zeros(len(found), EXTENSION) if self.extensions is None else self.extensions
        touched = np.array(self.touched, np.uint64)
        return Snapshot(found, more if extensions else more[:0], self.buckets, self.now_ns(), 0, touched)

    def lengths(self) -> Lengths:
        return lengths_of(self.snapshot().entries, self.buckets)

    def chain(self, bucket: int) -> Entries:
        return in_bucket(self.snapshot().entries, bucket)

    def aside(self, function: Callable[[], T]) -> T:
        return function()

    def packets(self) -> list[PacketCount]:
        return list(self.counted)

    def allocation(self) -> Allocation:
        return self.allocated

    def names(self) -> dict[int, str]:
        return {inum: state.label for inum, state in self.states.items()}

    def whose(self) -> dict[int, Whose]:
        owners = {inum: state.owner for inum, state in self.states.items()} | dict(self.owners)
        return {inum: Whose(label, owners.get(inum)) for inum, label in self.names().items()}

    def namespaces(
        self,
        sysctls: Collection[str] | None = (),
        among: Collection[int] | None = None,
        rules_of: Collection[int] = (),
    ) -> dict[int, NamespaceState]:
        return {
            inum: state._replace(
                sysctls={name: value for name, value in state.sysctls.items() if sysctls is None or name in sysctls},
                ruleset=self.rulesets.get(inum) if inum in rules_of else None,
                addresses=state.addresses if inum in rules_of else None,
                owner=self.owners.get(inum, state.owner),
            )
            for inum, state in self.states.items()
            if among is None or inum in among or state.init
        }

    def counters(self, only: int | None = None) -> Reading:
        now = self.readings[min(self._read, len(self.readings) - 1)]
        self._read += 1
        return Reading({place: values for place, values in now.counts.items() if only in (None, place[0])}, now.unread)

    def accounts(self, only: int | None = None) -> dict[int, Account]:
        now = self.accounted[min(self._accounted, len(self.accounted) - 1)] if self.accounted else {}
        self._accounted += 1
        return {inum: one for inum, one in now.items() if only in (None, inum)}

    def dumps(self, only: int | None = None) -> dict[int, Dumped] | None:
        return None if self.dumped is None else {inum: rows for inum, rows in self.dumped.items() if only in (None, inum)}

    def helped(self, among: Collection[int]) -> dict[int, Dumped] | None:
        return None if self.with_helper is None else {inum: rows for inum, rows in self.with_helper.items() if inum in among}

    def expectations(self, only: int | None = None) -> Expected:
        rows = self.expected
        return Expected(rows if only is None else rows[rows["netns"] == only], self.expected_via, self.helpers)

    def listing(self, inum: int, via: ReadVia) -> Iterator[Listed]:
        found = self.listings[via]
        if isinstance(found, Exception):
            raise found
        return iter(found if inum in self.states else ())

    def wall_ns(self) -> int:
        return self.clock().wall_ns

    def fidelity(self) -> Fidelity:
        return self.told._replace(seen=self._seen, read_ns=self._followed)
