"""Takes down all that a report can rest on: what a host says at begin and end, readings of the table, and every event between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ctobserve.capture.capture import Capture, Fidelity, NamespaceState, Snapshot
from ctobserve.capture.event_filter import ended
from ctobserve.capture.extensions import EXTENSION
from ctobserve.capture.quiet import quiet_reading
from ctobserve.capture.store.facts import End
from ctobserve.capture.store.writer import Writer
from ctobserve.clock import NS_PER_S
from ctobserve.errors import CtobserveError
from ctobserve.event import Events
from ctobserve.model import IPS_EXPECTED, IPS_HELPER, Entries

COMMIT_NS = NS_PER_S
MOST_EVENTS = 1 << 21  # between two readings of the table: so many are replayed in about a second
COUNT = "nf_conntrack_count"  # moves all the time: no change of a setting


class Recorder:
    """Made when the table is followed; `add` every batch of events, empty ones too, then `end`.

    The counters are read, the table and the accounts of namespaces taken in the order in which a report does it, so that a report
    from the recording says what one of the same stretch would. Raises NotWritten when the disk takes no more.
    """

    def __init__(self, capture: Capture, writer: Writer, keyframe_s: float) -> None:
        """`keyframe_s`: how often the table is read, and with it what else a host says; in a flood it is more often."""
        self._capture = capture
        self._writer = writer
        self._keyframe_ns = round(keyframe_s * NS_PER_S)
        self._states: dict[int, NamespaceState] = {}
        self._present: tuple[int, ...] | None = None
        self._names: dict[int, str] = {}
        self._met = {0}
        # What happened until here is in the table.
        counters = quiet_reading(capture, None, lambda _: None)
        names, accounts, entries = capture.names(), capture.accounts(), capture.table.entries()
        now_ns = capture.now_ns()
        self._told = capture.fidelity()
        writer.fact("host", capture.host, now_ns)
        writer.fact("clock", capture.started, capture.started.monotonic_ns)
        self._write_clock()
        self._note_names(names, now_ns)
        self._met |= names.keys()
        writer.counters(counters, now_ns)
        writer.fact("accounts", dict(accounts), now_ns)
        writer.fact("allocation", capture.allocation(), now_ns)
        self._buckets = capture.buckets
        writer.keyframe(_begun(capture, entries, now_ns), now_ns)
        writer.fact("fidelity", self._told, now_ns)
        self._write_namespaces(now_ns, busy=np.unique(entries["netns"]).tolist(), rules=True)
        self._write_expected(entries, now_ns)
        writer.commit(settle=True)
        self._committed_ns = self._read_ns = now_ns
        self._read_events = 0

    def add(self, events: Events) -> None:
        """Events, in order; now and then a reading of the table comes between."""
        if len(events):
            self._writer.add(events)
            if self._concern_others(events):
                # They were called so before the first of these events, which is to be told with the name.
                self._note_names(self._capture.names(), int(events["entry"]["seen_ns"].min()))
        now_ns = self._capture.now_ns()
        resized = self._capture.buckets != self._buckets
        if resized or now_ns - self._committed_ns >= COMMIT_NS:
            self._look_around(now_ns)
            self._committed_ns = now_ns
            self._writer.commit()

    def end(self) -> None:
        """Read the table for the last time, then the counters, when no loss is under way, then ask the namespaces."""
        capture, writer = self._capture, self._writer
        whole = self._read_table(extensions=True)
        accounts = capture.accounts()
        counters = quiet_reading(capture, None, writer.add)
        now_ns = capture.now_ns()
        writer.fact("accounts", dict(accounts), now_ns)
        writer.counters(counters, now_ns)
        self._write_clock()
        self._note_names(capture.names(), now_ns)
        writer.fact("fidelity", capture.fidelity(), now_ns)
        writer.fact("packets", tuple(capture.packets()), now_ns)
        writer.fact("allocation", capture.allocation(), now_ns)
        writer.commit()
        # What comes meanwhile is no part of this, and nobody need keep it.
        capture.cease()
        entries = capture.table.entries()
        self._write_namespaces(now_ns, busy=np.unique(entries["netns"]).tolist(), rules=True)
        self._write_expected(entries, now_ns)
        if whole:
            writer.fact("end", End(capture.over), now_ns)
        writer.commit()

    def _look_around(self, now_ns: int) -> None:
        """Once a second."""
        told = self._capture.fidelity()
        # The table was read again: records were lost, or the hash has another size.
        again = told.read_ns != self._told.read_ns
        many = self._writer.events - self._read_events >= MOST_EVENTS
        if again or many or now_ns - self._read_ns >= self._keyframe_ns:
            if not self._read_table(repairs=again):
                return
            at_ns = self._capture.now_ns()
            self._write_clock()
            self._writer.counters(self._capture.counters(), at_ns)
            self._writer.fact("accounts", dict(self._capture.accounts()), at_ns)
            self._note_names(self._capture.names(), at_ns)
            self._write_namespaces(at_ns)
            self._write_expected(self._capture.table.entries(), at_ns)
            self._writer.fact("fidelity", told, at_ns)
        elif _doubtful(told) != _doubtful(self._told):
            self._writer.fact("fidelity", told, now_ns)
        self._told = told

    def _read_table(self, extensions: bool = False, repairs: bool = False) -> bool:
        """What is held back comes before it: the table has it already. False where the hash was resized again and again."""
        self._writer.add(self._capture.drain())
        began_ns = self._capture.now_ns()
        try:
            read = self._capture.snapshot(extensions)
        except CtobserveError:
            return False
        self._writer.keyframe(read, began_ns, repairs)
        self._read_ns, self._read_events = self._capture.now_ns(), self._writer.events
        self._buckets = read.buckets
        return True

    def _write_clock(self) -> None:
        now = self._capture.clock()
        self._writer.fact("clock", now, now.monotonic_ns)

    def _concern_others(self, events: Events) -> bool:
        """Whether a namespace is among them that was not met so far; one that ends may be followed by another of its number."""
        met = set(np.unique(events["entry"]["netns"]).tolist())
        others = not met <= self._met
        self._met = (self._met | met) - ended(events)
        return others

    def _note_names(self, names: Mapping[int, str], now_ns: int) -> None:
        if names != self._names:
            self._names = dict(names)
            self._writer.fact("names", self._names, now_ns)

    def _write_namespaces(self, now_ns: int, busy: Iterable[int] = (), rules: bool = False) -> None:
        """Those whose settings changed; with `rules` also their rule sets, of `busy` ones first: they take their time."""
        capture = self._capture
        found = dict(capture.namespaces(sysctls=None))
        if rules:
            first = {*busy, capture.host.here} & found.keys()
            for some in (first, found.keys() - first):
                if some:
                    # The first namespace comes with all others, and then without its rules.
                    told = capture.namespaces(sysctls=None, among=some, rules_of=some)
                    found |= {inum: state for inum, state in told.items() if inum in some}
        for inum, asked in found.items():
            before = self._states.get(inum)
            state = asked
            if before and not rules:
                state = asked._replace(ruleset=before.ruleset, addresses=before.addresses)
            if rules or before is None or _settings(state) != _settings(before):
                self._states[inum] = state
                self._writer.fact("namespace", state, now_ns, inum)
        if tuple(found) != self._present:
            self._present = tuple(found)
            self._writer.fact("present", self._present, now_ns)

    def _write_expected(self, entries: Entries, now_ns: int) -> None:
        self._writer.expected(self._capture.expectations(), now_ns)
        if (entries["status"] & (IPS_HELPER | IPS_EXPECTED)).any():
            self._writer.helped(self._capture.helped(), now_ns)


def _begun(capture: Capture, entries: Entries, now_ns: int) -> Snapshot:
    return Snapshot(entries, np.empty(0, EXTENSION), capture.buckets, now_ns, capture.fidelity().unread, np.empty(0, np.uint64))


def _settings(state: NamespaceState) -> NamespaceState:
    return state._replace(sysctls={name: value for name, value in state.sysctls.items() if name != COUNT})


def _doubtful(told: Fidelity) -> Fidelity:
    return told._replace(seen=0, seen_of=None, read_ns=0)
