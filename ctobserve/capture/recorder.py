"""Takes down all that a report can rest on: what a host says at begin and end, readings of the table, and every event between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from ctobserve.capture.capture import Capture, Fidelity, NamespaceState, Snapshot
from ctobserve.capture.event_filter import ended
from ctobserve.capture.extensions import EXTENSION
from ctobserve.capture.quiet import quiet_reading
from ctobserve.capture.store.container import shown
from ctobserve.capture.store.facts import End
from ctobserve.capture.store.writer import NotWritten, Writer
from ctobserve.clock import NS_PER_S
from ctobserve.errors import CtobserveError
from ctobserve.event import Events
from ctobserve.host.account import Account
from ctobserve.host.counters import Reading
from ctobserve.host.owner import Owner
from ctobserve.host.whose import Whose
from ctobserve.model import IPS_EXPECTED, IPS_HELPER, Entries

COMMIT_NS = NS_PER_S
RETRY_NS = 5 * NS_PER_S  # on a full disk: each try takes the table as it is
RULES_NS = 900 * NS_PER_S  # listing rules costs processes, and nobody may ever ask for them
MOST_EVENTS = 1 << 21  # between two readings of the table: so many are replayed in about a second
COUNT = "nf_conntrack_count"  # moves all the time: no change of a setting
UNWRITTEN = "unwritten"  # events that came while nothing could be written, beside the kinds of records that were lost
T = TypeVar("T")
States = Mapping[int, NamespaceState]


class Hooks(NamedTuple):
    """What a recorder tells others: `took` gets events that no `step` of theirs will have, `say` a line for the operator.

    `fresh` gives the Writer to go on with after the disk was full; it may raise CtobserveError. None: the same as before.
    """

    took: Callable[[Events], object] = lambda _: None
    say: Callable[[str], object] = lambda _: None
    fresh: Callable[[], Writer] | None = None


ALONE = Hooks()


class _Instant(NamedTuple):
    """What is of one instant: all events until then are in the table."""

    at_ns: int
    counters: Reading
    accounts: Mapping[int, Account]
    whose: Mapping[int, Whose]
    entries: Entries


class Recorder:
    """Made when the table is followed; `add` every batch of events, empty ones too, then `end`.

    The counters are read, the table and the accounts of namespaces taken in the order in which a report does it, so that a report
    from the recording says what one of the same stretch would. When the disk takes no more, a line says so, and what comes is
    counted as `unwritten` until there is room again. At the begin and at the end that raises NotWritten.
    """

    def __init__(self, capture: Capture, writer: Writer, keyframe_s: float, hooks: Hooks = ALONE) -> None:
        """`keyframe_s`: how often the table is read, and with it what else a host says; in a flood it is more often."""
        self.writer = writer
        self.unwritten = 0
        self.failed = False
        self._capture = capture
        self._hooks = hooks
        self._keyframe_ns = round(keyframe_s * NS_PER_S)
        self._states: States = {}
        self._whose: Mapping[int, Whose] | None = None
        self._met = {0}
        self._ruled_ns = self._failed_ns = 0
        self._why = ""
        self._missing_since: int | None = None  # what was missing before that of which was said that it is
        # What happened until here is in the table.
        counters = quiet_reading(capture, None, hooks.took)
        whose, accounts, entries = capture.whose(), capture.accounts(), capture.table.entries()
        self._begin(_Instant(capture.now_ns(), counters, accounts, whose, entries))

    def _begin(self, at: _Instant, states: States | None = None, repairs: bool = False) -> None:
        """`states`: of the namespaces, where they were asked already."""
        writer, capture, now_ns = self.writer, self._capture, at.at_ns
        self._told, self._repairs = capture.fidelity(), capture.repairs
        writer.fact("host", capture.host, now_ns)
        if self._hooks.fresh is None:
            writer.fact("clock", capture.started, capture.started.monotonic_ns)
        # Of a recorder that runs for months it is not told: the wall clock may have been set since, or the host have slept.
        self._write_clock()
        self._whose, self._met = None, {0, *at.whose}
        self._note_whose(at.whose, now_ns)
        writer.counters(at.counters, now_ns)
        writer.fact("accounts", dict(at.accounts), now_ns)
        writer.fact("allocation", capture.allocation(), now_ns)
        begun = _begun(capture, at.entries, now_ns)
        # Of a large table it takes seconds, in which events come.
        capture.aside(lambda: writer.keyframe(begun, now_ns, repairs or writer.part.anew))
        writer.fact("fidelity", self._with_unwritten(self._told), now_ns)
        writer.fact("packets", tuple(capture.packets()), now_ns)
        writer.commit()
        self._write_namespaces(self._namespaces(at.entries) if states is None else states, now_ns, anew=True)
        self._write_expected(at.entries, now_ns)
        capture.aside(lambda: writer.commit(settle=True))
        self._committed_ns = self._read_ns = now_ns
        self._read_events = writer.events

    def take(self, events: Events) -> None:
        """Events, in order."""
        if self.failed:
            self.unwritten += len(events)
        else:
            self._write(lambda: self.writer.add(events))

    def add(self, events: Events) -> None:
        """Events, in order; now and then a reading of the table comes between."""
        self.take(events)
        if not self.failed:
            self._write(lambda: self._go_on(events))
        elif self._capture.now_ns() - self._failed_ns >= RETRY_NS:
            self._resume()

    def note(self, kind: str, value: object) -> None:
        """A fact of now."""
        self._write(lambda: self.writer.fact(kind, value, self._capture.now_ns()))

    def turn(self, fresh: Callable[[], Writer], whole: bool = False) -> None:
        """Go on in another recording, which begins at the instant at which the one before ends.

        `whole`: that one ends as if the recorder did. Where `fresh` raises CtobserveError it is as on a full disk.
        """
        rules = whole or self._capture.now_ns() - self._ruled_ns >= RULES_NS
        at, states = self._close(whole, rules, lambda: None)
        failed = self.failed
        try:
            self.writer = fresh()
            self._begin(at, states, repairs=failed)
            self.failed = False
        except CtobserveError as why:
            self._fail(why)

    def end(self) -> None:
        """Read the table for the last time, then the counters, when no loss is under way, then ask the namespaces."""
        if self.failed:
            self._resume()
        # What comes behind these is no part of this, and nobody need keep it.
        self._close(whole=True, rules=True, then=self._capture.cease)
        if self.failed:
            raise NotWritten(f"{self._why}; the end is missing, and {self.unwritten} events")

    def _close(self, whole: bool, rules: bool, then: Callable[[], None]) -> tuple[_Instant, States]:
        """End here, with a reading of the table if `whole`; what that was, and of the namespaces what they say of themselves."""
        read = whole and self._write(lambda: self._read_table(extensions=True))
        at = self._instant()
        self._write(lambda: self._write_counted(at))
        then()
        states = self._namespaces(at.entries if rules else None)
        self._write(lambda: self._write_asked(at, states, bool(read)))
        return at, states

    def _instant(self) -> _Instant:
        capture = self._capture
        accounts = capture.accounts()
        counters = quiet_reading(capture, None, self._drained)
        now_ns = capture.now_ns()
        return _Instant(now_ns, counters, accounts, capture.whose(), capture.table.entries())

    def _drained(self, events: Events) -> None:
        if len(events):
            self.take(events)
            self._hooks.took(events)

    def _write_counted(self, at: _Instant) -> None:
        capture, writer, now_ns = self._capture, self.writer, at.at_ns
        writer.fact("accounts", dict(at.accounts), now_ns)
        writer.counters(at.counters, now_ns)
        self._write_clock()
        self._note_whose(at.whose, now_ns)
        writer.fact("fidelity", self._with_unwritten(capture.fidelity()), now_ns)
        writer.fact("packets", tuple(capture.packets()), now_ns)
        writer.fact("allocation", capture.allocation(), now_ns)
        writer.commit()

    def _write_asked(self, at: _Instant, states: States, whole: bool) -> None:
        self._write_namespaces(states, at.at_ns, anew=True)
        self._write_expected(at.entries, at.at_ns)
        if whole:
            self.writer.fact("end", End(self._capture.over), at.at_ns)
        self._commit()

    def _write(self, write: Callable[[], T]) -> T | None:
        """What `write` says, if it can be written."""
        if self.failed:
            return None
        try:
            return write()
        except NotWritten as why:
            self._fail(why)
            return None

    def _fail(self, why: CtobserveError) -> None:
        if self._missing_since is None:
            self._missing_since = self.unwritten
            self._hooks.say(f"{why}; what comes now is not in it until there is room again")
        self._why = str(why)
        self.failed, self._failed_ns = True, self._capture.now_ns()
        self.unwritten += self.writer.recover()

    def _resume(self) -> None:
        """Go on with the table as it is now, if there is room."""
        at = self._instant()
        try:
            if self._hooks.fresh:
                self.writer = self._hooks.fresh()
            self._begin(at, self._namespaces(None), repairs=True)
        except CtobserveError as why:
            self._fail(why)
            return
        self.failed = False

    def _commit(self) -> None:
        self.writer.commit()
        if self._missing_since is not None:
            missing, self._missing_since = self.unwritten - self._missing_since, None
            self._hooks.say(f"{shown(self.writer.path)}: there is room again; {missing} events are missing before")

    def _go_on(self, events: Events) -> None:
        now_ns = self._capture.now_ns()
        if len(events) and self._concern_others(events):
            # They were called so before the first of these events, which is to be told with the name.
            self._note_whose(self._capture.whose(), int(events["entry"]["seen_ns"].min()))
        if self._repaired() or now_ns - self._committed_ns >= COMMIT_NS:
            self._look_around(now_ns)
            self._committed_ns = now_ns
            self._commit()

    def _repaired(self) -> bool:
        """Whether the table was read again, as records were lost or the hash has another size."""
        return self._capture.repairs != self._repairs

    def _look_around(self, now_ns: int) -> None:
        """Once a second."""
        told = self._capture.fidelity()
        again = self._repaired()
        many = self.writer.events - self._read_events >= MOST_EVENTS
        if again or many or now_ns - self._read_ns >= self._keyframe_ns:
            if not self._read_table(repairs=again):
                return
            at_ns = self._capture.now_ns()
            self._write_clock()
            self.writer.counters(self._capture.counters(), at_ns)
            self.writer.fact("accounts", dict(self._capture.accounts()), at_ns)
            self._note_whose(self._capture.whose(), at_ns)
            self._write_namespaces(self._namespaces(None), at_ns)
            self._write_expected(self._capture.table.entries(), at_ns)
            self.writer.fact("fidelity", self._with_unwritten(told), at_ns)
        elif _doubtful(told) != _doubtful(self._told):
            self.writer.fact("fidelity", self._with_unwritten(told), now_ns)
        self._told = told

    def _read_table(self, extensions: bool = False, repairs: bool = False) -> bool:
        """What is held back comes before it: the table has it already. False where the hash was resized again and again."""
        self._drained(self._capture.drain())
        began_ns, known = self._capture.now_ns(), self._capture.repairs
        try:
            read = self._capture.snapshot(extensions)
        except CtobserveError:
            return False
        if self._hooks.fresh is not None:
            # Packets move timeouts, and no event tells it: the next part is to begin with those that were read last.
            self._capture.table.merge(read.entries, read.touched)
        self._capture.aside(lambda: self.writer.keyframe(read, began_ns, repairs))
        self._read_ns, self._read_events = self._capture.now_ns(), self.writer.events
        self._repairs = known
        return True

    def _with_unwritten(self, told: Fidelity) -> Fidelity:
        return told._replace(lost={**told.lost, UNWRITTEN: self.unwritten}) if self.unwritten else told

    def _write_clock(self) -> None:
        now = self._capture.clock()
        self.writer.fact("clock", now, now.monotonic_ns)

    def _concern_others(self, events: Events) -> bool:
        """Whether a namespace is among them that was not met so far; one that ends may be followed by another of its number."""
        netns = events["entry"]["netns"]
        met = {int(netns[0])} if (netns == netns[0]).all() else set(np.unique(netns).tolist())
        others = not met <= self._met
        self._met = (self._met | met) - ended(events)
        return others

    def _note_whose(self, whose: Mapping[int, Whose], now_ns: int) -> None:
        """What they are called, and who owns them: each of both where it changed."""
        before, self._whose = self._whose, dict(whose)
        if before is None or _labels(whose) != _labels(before):
            self.writer.fact("names", _labels(whose), now_ns)
        if before is None or _owners(whose) != _owners(before):
            self.writer.fact("owners", _owners(whose), now_ns)

    def _namespaces(self, busy_in: Entries | None) -> States:
        """What they say of themselves: all of it, rule sets of those with such entries first, which take their time; or, with
        None, but for rules and addresses, which are as they were."""
        capture = self._capture
        found = dict(capture.namespaces(sysctls=None))
        if busy_in is None:
            known = self._states
            return {
                inum: state._replace(ruleset=known[inum].ruleset, addresses=known[inum].addresses) if inum in known else state
                for inum, state in found.items()
            }
        self._ruled_ns = capture.now_ns()
        first = {*np.unique(busy_in["netns"]).tolist(), capture.host.here} & found.keys()
        for some in (first, found.keys() - first):
            if some:
                # The first namespace comes with all others, and then without its rules.
                told = capture.namespaces(sysctls=None, among=some, rules_of=some)
                found |= {inum: state for inum, state in told.items() if inum in some}
        return found

    def _write_namespaces(self, found: States, now_ns: int, anew: bool = False) -> None:
        """Those whose settings changed, or `anew` all."""
        for inum, state in found.items():
            before = self._states.get(inum)
            if anew or before is None or _settings(state) != _settings(before):
                self.writer.fact("namespace", state, now_ns, inum)
        if anew or found.keys() != self._states.keys():
            self.writer.fact("present", tuple(found), now_ns)
        self._states = found

    def _write_expected(self, entries: Entries, now_ns: int) -> None:
        self.writer.expected(self._capture.expectations(), now_ns)
        having = entries["netns"][(entries["status"] & (IPS_HELPER | IPS_EXPECTED)) != 0]
        if len(having):
            self.writer.helped(self._capture.helped(np.unique(having).tolist()), now_ns)


def _begun(capture: Capture, entries: Entries, now_ns: int) -> Snapshot:
    return Snapshot(entries, np.empty(0, EXTENSION), capture.buckets, now_ns, capture.fidelity().unread, np.empty(0, np.uint64))


def _labels(whose: Mapping[int, Whose]) -> Mapping[int, str]:
    return {inum: one.label for inum, one in whose.items()}


def _owners(whose: Mapping[int, Whose]) -> Mapping[int, Owner]:
    return {inum: one.owner for inum, one in whose.items() if one.owner}


def _settings(state: NamespaceState) -> NamespaceState:
    return state._replace(sysctls={name: value for name, value in state.sysctls.items() if name != COUNT})


def _doubtful(told: Fidelity) -> Fidelity:
    return told._replace(seen=0, seen_of=None, read_ns=0)
