"""An incident watched once, judged and recorded: what is said of it live, and the file that must say the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from ctobserve.capture.capture import Fidelity, Snapshot
from ctobserve.capture.filters import Filter
from ctobserve.capture.live import LiveCapture
from ctobserve.capture.quiet import quiet_reading
from ctobserve.capture.recorded import RecordedCapture, concerning
from ctobserve.capture.recorder import Recorder
from ctobserve.capture.store.reader import Reader
from ctobserve.capture.store.writer import Writer
from ctobserve.capture.watch import Stretch, watch
from ctobserve.clock import Clock
from ctobserve.diagnosis.collect import Collector
from ctobserve.diagnosis.rules import judge
from ctobserve.diagnosis.verdict import Severity
from ctobserve.documents import report
from ctobserve.documents.figures import Watched
from ctobserve.documents.meta import meta_of
from ctobserve.documents.report import ReportDocument, with_figures
from ctobserve.documents.request import Request
from ctobserve.documents.verdicts import VerdictRow, judged_of
from ctobserve.event import NO_EVENTS, Events
from ctobserve.host.account import Account
from ctobserve.host.counters import Reading
from ctobserve.programs.hooks import Purpose
from ctobserve_lab.world import Space

# What a recorder looks for, and the part of it that a report asks for.
SEES = Purpose.TABLE | Purpose.REASONS | Purpose.DROPS | Purpose.UPDATES | Purpose.INVALID
REPORT = Purpose.TABLE | Purpose.DROPS | Purpose.UNCONFIRMED | Purpose.INVALID
ONCE_S = 3600.0  # the table is read at begin and end alone
LEVEL = 1


class Standing(LiveCapture):
    """Its clock stands still where it is told to, so that whoever asks meanwhile is answered of one instant."""

    _stands: Clock | None = None
    _before: Fidelity | None = None
    _reading: Reading | None = None
    _accounts: dict[int, Account] | None = None

    def begin(self) -> None:
        """Another incident: what was seen, lost and doubtful before is none of it."""
        self.follow()
        self.settle()
        self._before = None
        self._before = self.fidelity()

    def stand(self, told: Callable[[Events], object]) -> None:
        """From now on; every event until then is told, and the counters are those of the same packets."""
        self._reading = quiet_reading(self, None, told)
        self._accounts = super().accounts()
        self._stands = super().clock()

    def go_on(self) -> None:
        """No longer."""
        self._stands = self._reading = self._accounts = None

    def clock(self) -> Clock:
        """Now, or when it stopped."""
        return self._stands or super().clock()

    def now_ns(self) -> int:
        """Now, or when it stopped."""
        return self._stands.monotonic_ns if self._stands else super().now_ns()

    def snapshot(self, extensions: bool = False) -> Snapshot:
        """As it is now."""
        return super().snapshot(extensions)._replace(at_ns=self.now_ns())

    @property
    def uncertain_ns(self) -> int:
        """Of this incident."""
        return super().uncertain_ns - (self._before.uncertain_ns if self._before else 0)

    def fidelity(self) -> Fidelity:
        """Of this incident."""
        told, before = super().fidelity(), self._before or Fidelity("")
        return told._replace(
            read_ns=min(told.read_ns, self.now_ns()),
            seen=told.seen - before.seen,
            lost={kind: more for kind, count in told.lost.items() if (more := count - before.lost.get(kind, 0))},
            unpaired=told.unpaired - before.unpaired,
        )

    def counters(self, only: int | None = None) -> Reading:
        """Now, or when the clock stopped."""
        if self._reading is None:
            return super().counters(only)
        return self._reading._replace(counts={at: one for at, one in self._reading.counts.items() if only in (None, at[0])})

    def accounts(self, only: int | None = None) -> dict[int, Account]:
        """Likewise."""
        if self._accounts is None:
            return super().accounts(only)
        return {inum: one for inum, one in self._accounts.items() if only in (None, inum)}

    def step(self) -> Events:
        """Nothing while the clock stands: whoever asks then has had everything."""
        return NO_EVENTS if self._stands else super().step()

    def drain(self) -> Events:
        """Nothing while the clock stands."""
        return NO_EVENTS if self._stands else super().drain()

    def cease(self) -> None:
        """There will be another incident."""


def watched(
    capture: Standing, space: Space | None, act: Callable[[], object], path: Path, more: Mapping[str, str] | None = None
) -> ReportDocument:
    """What a report says of what happens during the act, of which a recording is made beside it; `more` it says of itself."""
    only = Filter(netns=space.inum if space else None)
    sees = ",".join((one.name or "").lower() for one in Purpose if one in SEES)
    capture.begin()
    with closing(Writer(path, LEVEL, {"sees": sees, "watched": str(only.netns or "all"), **(more or {})})) as writer:
        capture.stand(lambda _: None)
        recorder, collector = Recorder(capture, writer, ONCE_S), Collector(capture, only, invalid=True)
        seen = Watched(only, collector.began)
        capture.go_on()
        act()

        def told(events: Events) -> None:
            recorder.add(events)
            collector.add(events)
            seen.add(events)

        for events in watch(capture, Stretch(stopped=lambda: True)):
            told(events)
        capture.stand(told)
        collector.end()
        recorder.end()
        evidence = collector.evidence()
        lost = concerning(capture.fidelity().lost, REPORT)
        figures = seen.figures(evidence, collector.ended, capture.started, capture.host.limits_chains)
        meta = meta_of("report", capture, Request(filter=only))
        capture.go_on()
    return with_figures(judged_of(meta, judge(replace(evidence, events_lost=sum(lost.values())))), figures)


def recorded(path: Path) -> ReportDocument:
    """What a report says of the recording of what was watched."""
    with closing(Reader(path)) as reader:
        only = Filter(netns=None if reader.meta["watched"] == "all" else int(reader.meta["watched"]))
        return report.collect(RecordedCapture(reader, REPORT), Request(filter=only), Stretch(), invalid=True)


def by_id(found: ReportDocument) -> dict[str, VerdictRow]:
    """Its verdicts."""
    return {row.id: row for row in found.verdicts}


def severities(found: ReportDocument) -> dict[str, Severity]:
    """What was found, and how bad it is."""
    return {row.id: row.severity for row in found.verdicts}
