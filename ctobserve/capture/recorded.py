"""The recorded kinds of the seam: what a host said of itself, and conntrack as it was seen, read from a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import numpy as np

from ctobserve.capture.capture import DAMAGED, Allocation, Expected, Fidelity, Host, NamespaceState, PacketCount, Snapshot
from ctobserve.capture.read_via import ReadVia
from ctobserve.capture.replay import Replay
from ctobserve.capture.store.container import Unreadable, shown
from ctobserve.capture.store.facts import CountersRead, ExpectedRead, HelpedRead
from ctobserve.capture.store.joined import RUN, Recording, opened
from ctobserve.capture.store.reader import Fact
from ctobserve.capture.store.valid import MOST_NS
from ctobserve.capture.table import Lengths, Table, in_bucket, lengths_of
from ctobserve.clock import NS_PER_S, Clock
from ctobserve.errors import CtobserveError
from ctobserve.event import FOUND_BAD, NO_EVENTS, DestroyReason, Events, Kind
from ctobserve.host.account import Account
from ctobserve.host.counters import NAMES, Reading
from ctobserve.host.dump import Dumped
from ctobserve.host.listing import Listed
from ctobserve.host.owner import Owner
from ctobserve.host.sysctls import LIMIT
from ctobserve.host.whose import Whose
from ctobserve.model import Entries, join, pick
from ctobserve.programs.hooks import Purpose

COUNT = "nf_conntrack_count"
STEPS = 200_000  # a stretch is told in so many, or as a live one is: whatever is fewer
# Kinds of records that no hook tells but for this.
ASKED_FOR = {"update": Purpose.UPDATES, "confirm": Purpose.CONFIRMS, "free": Purpose.REASONS | Purpose.UNCONFIRMED}
MOST_DRAINED = 16  # parts of what came while the table was read for the last time
NEAR_NS = NS_PER_S  # a reading of the table is of an instant that is no further away
T = TypeVar("T")


class RecordedView:
    """What a host said of itself when a recording ended: a HostView. Raises Unreadable where the file does not say enough."""

    def __init__(self, reader: Recording) -> None:
        self._reader = reader
        host, first, last = reader.last("host"), reader.first("clock"), reader.last("clock")
        self.keyframes = list(reader.all("keyframe"))
        if host is None or first is None or last is None or not self.keyframes:
            raise Unreadable(f"{shown(reader.path)} ended before it began, or is damaged: no reading of the table can be found")
        self.host: Host = host.found
        self._first: Clock = first.found
        end = reader.last("end")
        # A flight recorder ends what it keeps of an incident, and goes on.
        self.finished = end is not None and end.number > self.keyframes[-1].number
        self.begin_ns = self.keyframes[0].at_ns
        self.end_ns = max(self.begin_ns, last.at_ns, reader.newest_ns())

    @property
    def sees(self) -> Purpose:
        """What the recorder looked for."""
        words = self._reader.meta.get("sees", "").split(",")
        return Purpose(sum(one.value for one in Purpose if (one.name or "").lower() in words))

    def iso(self, at_ns: int) -> str:
        """Wall time of an instant of the recording."""
        return self._first.iso(at_ns)

    def monotonic_ns(self, wall_ns: int) -> int:
        """The instant of a wall time (ns since 1970)."""
        return wall_ns - self._first.wall_ns + self._first.monotonic_ns

    def now_ns(self) -> int:
        """The end of the recording."""
        return self.end_ns

    def clock(self) -> Clock:
        """Now, on all clocks."""
        found = self._last("clock")
        return moved(self._first if found is None else found.found, self.now_ns())

    def wall_ns(self) -> int:
        """Now, nanoseconds since 1970."""
        return self.clock().wall_ns

    def allocation(self) -> Allocation:
        """Its memory, and what of it entries took."""
        found = self._last("allocation")
        return Allocation() if found is None else found.found

    def names(self) -> Mapping[int, str]:
        """What each namespace was called."""
        found = self._last("names")
        return {} if found is None else found.found

    def whose(self) -> dict[int, Whose]:
        """The same, and who owned each; nobody is known of a recording without owners."""
        found = self._last("owners")
        owners: Mapping[int, Owner] = {} if found is None else found.found
        return {inum: Whose(label, owners.get(inum)) for inum, label in self.names().items()}

    def spaces(self) -> dict[int, NamespaceState]:
        """All namespaces that there were, by inode number."""
        named = {inum: label for fact in self._reader.all("names") for inum, label in fact.found.items()}
        found = {inum: NamespaceState(inum, label) for inum, label in named.items()}
        return found | {fact.found.inum: fact.found for fact in self._reader.all("namespace")}

    def namespaces(
        self,
        sysctls: Collection[str] | None = (),
        among: Collection[int] | None = None,
        rules_of: Collection[int] = (),
    ) -> dict[int, NamespaceState]:
        """As HostView has it, as far as the recorder asked."""
        return {
            inum: self._asked(fact, sysctls, inum in rules_of)
            for inum, fact in self._states().items()
            if among is None or inum in among or fact.found.init
        }

    def _states(self) -> dict[int, Fact]:
        present = self._last("present")
        there = set() if present is None else set(present.found)
        latest = {fact.found.inum: fact for fact in self._reader.all("namespace", self._known_ns())}
        return {inum: fact for inum, fact in latest.items() if inum in there}

    def _asked(self, fact: Fact, sysctls: Collection[str] | None, rules: bool) -> NamespaceState:
        state: NamespaceState = fact.found
        values = state.sysctls
        if not self._is_now(fact) and COUNT in values:
            values = {**values, COUNT: self._counted(state.inum)}
        if sysctls is not None:
            values = {name: value for name, value in values.items() if name in sysctls}
        return state._replace(
            sysctls=values,
            writable=state.writable if sysctls is None else state.writable & {LIMIT}.intersection(sysctls),
            ruleset=state.ruleset if rules else None,
            addresses=state.addresses if rules else None,
        )

    def _counted(self, _inum: int) -> int | None:
        """Entries of a namespace at an instant at which nobody asked it."""
        return None

    def counters(self, only: int | None = None) -> Reading:
        """The kernel's own counters; none at an instant at which nobody read them."""
        fact = self._last("counters")
        if fact is None or not self._is_now(fact):
            return Reading({}, frozenset(self.names()), 0 if fact is None else fact.at_ns)
        return self._counters(fact, only)

    def last_counters(self) -> tuple[int, Reading]:
        """When they were read last (CLOCK_MONOTONIC), and what they were; 0 and none where that cannot be read."""
        fact = self._last("counters")
        return (0, Reading({})) if fact is None else (fact.at_ns, self._counters(fact, None))

    def records_lost(self) -> Counter[str]:
        """Records that the recorder lost in this time, by kind."""
        found = self._last("fidelity")
        told: Fidelity = Fidelity("unknown") if found is None else found.found
        return +(Counter(told.lost) - Counter(self._before("fidelity", Fidelity("unknown")).lost))

    def _before(self, kind: str, none: T) -> T:
        """What had been counted when this began: a flight recorder counts for months."""
        found = self._reader.first(kind) if RUN in self._reader.meta else None
        return none if found is None else found.found

    def _counters(self, fact: Fact, only: int | None) -> Reading:
        found: CountersRead = fact.found
        rows = self._reader.rows("counters", fact.number, found.rows)
        counts = {
            (int(row["netns"]), int(row["cookie"]), int(row["cpu"])): Counter(
                {name: int(row[f"value.{name}"]) for at, name in enumerate(NAMES) if row["has"] >> at & 1}
            )
            for row in rows
        }
        return Reading({place: values for place, values in counts.items() if only in (None, place[0])}, found.unread)

    def accounts(self, only: int | None = None) -> dict[int, Account]:
        """What each namespace said beside its entries; nothing at an instant at which nobody asked."""
        fact = self._last("accounts")
        if fact is None or not self._is_now(fact):
            return {}
        return {inum: one for inum, one in fact.found.items() if only in (None, inum)}

    def dumps(self, only: int | None = None) -> None:
        """A recording has none: its readings of the table are what a dump would be compared with."""

    def helped(self, among: Collection[int]) -> dict[int, Dumped] | None:
        """The entries of these namespaces that had a helper, with its name."""
        fact = self._last("helped")
        found: HelpedRead | None = None if fact is None else fact.found
        if fact is None or found is None or found.of is None:
            return None
        rows = self._reader.rows("helped", fact.number, found.rows)
        return {inum: np.ascontiguousarray(rows["row"][rows["netns"] == inum]) for inum in found.of if inum in among}

    def expectations(self, only: int | None = None) -> Expected:
        """Those of all namespaces, or `only` of one. Raises CtobserveError where the recording ended before it had any."""
        fact = self._last("expected")
        if fact is None:
            self._lacks("expectations")
        found: ExpectedRead = fact.found
        rows = self._reader.rows("expectation", fact.number, found.rows)
        return Expected(rows if only is None else pick(rows, rows["netns"] == only), found.via, found.helpers)

    def listing(self, inum: int, via: ReadVia) -> Iterator[Listed]:
        """Raises CtobserveError: nobody asked the kernel to list its entries."""
        self._lacks("listings of the kernel's; give --source walk")

    def _lacks(self, what: str) -> NoReturn:
        raise CtobserveError(f"{shown(self._reader.path)} has no {what}")

    def _last(self, kind: str) -> Fact | None:
        return self._reader.last(kind, self._known_ns())

    def _known_ns(self) -> int:
        """What was said until then is known."""
        return MOST_NS

    def _is_now(self, _fact: Fact) -> bool:
        """Whether it holds at this very instant, so that it can be held against the table."""
        return True


class RecordedCapture(RecordedView):
    """A stretch of a recording: a Capture whose time passes as it is waited for, and costs nothing.

    Of a recording that was ended in order the stretch ends with its last reading of the table: `follow` and `snapshot` give that.
    """

    def __init__(
        self,
        reader: Recording,
        sees: Purpose,
        since_ns: int | None = None,
        until_ns: int | None = None,
        tell: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Of events it tells what a capture for `sees` would. Both times lie within the recording; None: all of it.

        `tell` is called with the share that is done of what it takes to have the table at the begin.
        """
        super().__init__(reader)
        self._told_of = sees
        self._now_ns: int = self.begin_ns if since_ns is None else since_ns
        self._began_ns = self._now_ns
        self._end_ns: int = self.end_ns if until_ns is None else until_ns
        self._to_the_end = self._end_ns >= self.end_ns
        self._replay = Replay(reader, self.keyframes, since_ns, tell)
        last = self.keyframes[-1]
        self._final = last if self.finished and self._to_the_end and last.number > self._replay.base.number else None
        self._over_ns: int = self._end_ns if self._final is None else max(self._final.found.began_ns, self._now_ns)
        self._pace_ns = (self._over_ns - self._now_ns) // STEPS
        self._ceased = self._merged = False
        self.started = moved(self._first, self._now_ns)

    @property
    def passed(self) -> float:
        """Which part of the stretch lies behind, 0 to 1."""
        left_ns = self._over_ns - self._now_ns
        return 1 - left_ns / (self._over_ns - self._began_ns) if left_ns > 0 else 1.0

    @property
    def table(self) -> Table:
        """As events have made it so far."""
        return self._replay.table

    @property
    def buckets(self) -> int:
        """Size of the hash when it was read last."""
        return self._replay.buckets

    @property
    def uncertain_ns(self) -> int:
        """How long in all the recorder's table was wrong."""
        return self.fidelity().uncertain_ns

    @property
    def repairs(self) -> int:
        """None here: what the recorder read again is in the recording."""
        return 0

    @property
    def over(self) -> bool:
        """Whether the stretch has passed: `step` then has the rest of it, and `drain` what came while the table was read."""
        return self._now_ns >= self._over_ns and not self._due()

    def _due(self) -> bool:
        """Whether more of what came until now is left than is taken at once: then time stands still."""
        if self._now_ns >= self._over_ns and self._final is not None:
            return self._replay.due(MOST_NS, self._final.number)
        return self._now_ns > self._began_ns and self._replay.due(self._now_ns)

    def now_ns(self) -> int:
        """Now, CLOCK_MONOTONIC of the recorded host."""
        return self._now_ns

    def wait(self, seconds: float) -> None:
        """Let that much time pass, at least; of a long stretch more, so that nobody waits for it."""
        if self._due():
            return
        self._now_ns = min(self._now_ns + max(round(seconds * NS_PER_S), self._pace_ns), self._over_ns)

    def follow(self) -> None:
        """At the end the table as it was read then; else it is as true as it can be."""
        if self.over and self._final is not None and not self._merged:
            self._merged = True
            self._replay.merge(self._final)

    def step(self) -> Events:
        """What came until now."""
        if self._now_ns >= self._over_ns and self._final is not None:
            return self._told(self._replay.take(MOST_NS, self._final.number))
        # What was told at the begin, before any time passed, was in the table then.
        return self._told(self._replay.take(self._now_ns)) if self.over or self._now_ns > self._began_ns else NO_EVENTS

    def drain(self) -> Events:
        """The same; at the end also what came while the table was read for the last time."""
        if not self.over:
            return self.step()
        self._now_ns = self._over_ns = self._end_ns
        until_ns = MOST_NS if self._to_the_end else self._end_ns
        parts = [self._replay.take(until_ns)]
        while self._replay.due(until_ns):
            parts.append(self._replay.take(until_ns))
            if len(parts) > MOST_DRAINED:
                raise Unreadable(f"{shown(self._reader.path)}: more events after its last reading of the table than one takes")
        return self._told(join(parts))

    def settle(self) -> None:
        """There is nothing to repair."""

    def cease(self) -> None:
        """From now on `step` tells no events any more."""
        self._ceased = True

    def snapshot(self, extensions: bool = False) -> Snapshot:
        """The kernel's table as it was read about now. Raises CtobserveError where that was not done, or not with extensions."""
        keyframe = self._replay.base if self._final is None else self._final
        near = self._final is not None or abs(self.now_ns() - keyframe.at_ns) <= NEAR_NS
        if not near or (extensions and not keyframe.found.extensions and keyframe.found.entries):
            times = [self.iso(fact.at_ns) for fact in self.keyframes if fact.found.extensions or not extensions]
            more = f"; give --at {times[-1]}" if times else ""
            self._lacks(f"reading of the table by the kernel of that instant{' with all that its lines say' * extensions}{more}")
        found = self._replay.read(keyframe, extensions)
        if extensions and len(found.extensions) != len(found.entries):
            self._lacks("whole reading of the table: it is damaged there")
        return found

    def lengths(self) -> Lengths:
        """Of all chains now."""
        return lengths_of(self.table.entries(), self.buckets)

    def chain(self, bucket: int) -> Entries:
        """The entries with a node in this bucket now."""
        return in_bucket(self.table.entries(), bucket)

    def aside(self, function: Callable[[], T]) -> T:
        """Its result: time stands still."""
        return function()

    def packets(self) -> list[PacketCount]:
        """Packets by state, as far as the recorder counted them."""
        found = self._last("packets")
        begun: tuple[PacketCount, ...] = self._before("packets", ())
        before = Counter({one[:-1]: one.packets for one in begun})
        return [] if found is None else [one._replace(packets=one.packets - before[one[:-1]]) for one in found.found]

    def fidelity(self) -> Fidelity:
        """How true the recorder's view was, and which part of the file cannot be read."""
        found = self._last("fidelity")
        told: Fidelity = Fidelity("unknown") if found is None else found.found
        before: Fidelity = self._before("fidelity", Fidelity("unknown"))
        lost = concerning(self.records_lost(), self._told_of)
        if self._reader.damaged:
            lost[DAMAGED] = self._reader.damaged
        return told._replace(
            seen=told.seen - before.seen,
            lost=lost,
            unpaired=told.unpaired - before.unpaired,
            uncertain_ns=told.uncertain_ns - before.uncertain_ns,
            recorded_in=shown(self._reader.path),
        )

    def _told(self, events: Events) -> Events:
        if self._ceased:
            return NO_EVENTS
        unseen = np.zeros(len(events), np.bool_)
        kinds, reasons, sees = events["kind"], events["reason"], self._told_of
        if Purpose.INVALID not in sees:
            unseen |= (kinds == Kind.DROP) & np.isin(reasons, FOUND_BAD)
        if Purpose.UPDATES not in sees:
            unseen |= kinds == Kind.UPDATE
        if not sees & (Purpose.UNCONFIRMED | Purpose.REASONS):
            unseen |= (kinds == Kind.DESTROY) & (reasons == DestroyReason.UNCONFIRMED)
        if Purpose.CONFIRMS not in sees:
            unseen |= kinds == Kind.CONFIRM
        return pick(events, ~unseen) if unseen.any() else events

    def _counted(self, inum: int) -> int | None:
        return int(np.count_nonzero(self.table.entries()["netns"] == inum))

    def _known_ns(self) -> int:
        return MOST_NS if self.over and self._to_the_end else self.now_ns()

    def _is_now(self, fact: Fact) -> bool:
        return fact.at_ns == self.now_ns() or (self.finished and self.over and self._to_the_end)


def concerning(lost: Mapping[str, int], sees: Purpose) -> dict[str, int]:
    """Of records that were lost, by kind, those that a capture for `sees` would have looked for."""
    return {kind: count for kind, count in lost.items() if kind not in ASKED_FOR or ASKED_FOR[kind] & sees}


@contextmanager
def viewing(path: Path) -> Iterator[RecordedView]:
    """What a host said of itself when this recording ended; raises Unreadable."""
    with closing(opened(path)) as reader:
        yield RecordedView(reader)


def moved(clock: Clock, at_ns: int) -> Clock:
    """The same clocks at another instant (CLOCK_MONOTONIC)."""
    later_ns = at_ns - clock.monotonic_ns
    jiffies = (clock.jiffies + later_ns * clock.hz // NS_PER_S) % (1 << 32)
    return Clock(at_ns, clock.wall_ns + later_ns, jiffies, clock.hz)
