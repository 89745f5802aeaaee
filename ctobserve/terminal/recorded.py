"""The full screen's engine on a recording: any instant of it, and from there on as fast as somebody likes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.connections import Connections
from ctobserve.analysis.groups import Key
from ctobserve.analysis.timeline import Timeline
from ctobserve.capture.filters import Filter
from ctobserve.capture.recorded import RecordedCapture, RecordedView
from ctobserve.capture.store.container import shown
from ctobserve.capture.store.joined import Recording
from ctobserve.capture.watch import STEP_S
from ctobserve.clock import NS_PER_S
from ctobserve.diagnosis.collect import Collector
from ctobserve.documents.request import Request
from ctobserve.documents.top import HISTORY_NS, Moments, View
from ctobserve.documents.why import told
from ctobserve.event import Events
from ctobserve.model import Entries, pick
from ctobserve.programs.hooks import Purpose
from ctobserve.render.why import why_lines
from ctobserve.terminal.doubt import still
from ctobserve.terminal.entries import listed, of_group, sought_of
from ctobserve.terminal.judging import judged, said
from ctobserve.terminal.live import GROUPS
from ctobserve.terminal.proving import proved
from ctobserve.terminal.rates import losses
from ctobserve.terminal.seen import Listed, Place, Proved, Seen, Told, Verdicts, Wish

STEPS = 400  # in which a stretch is gone through
MOST_EVENTS = 300_000  # of a stretch that is judged: a second or less of work
SHORTEST_NS = 10 * NS_PER_S  # of such a stretch, however much happened in it
LIFE_EVENTS = 3_000_000  # that are looked through for the life of one entry
SEEING = Purpose.TABLE | Purpose.DROPS | Purpose.UNCONFIRMED | Purpose.INVALID
TURN_S = 0.05
COSTS = 20  # while it plays nobody judges for so many times as long as a judgement takes


class Stretch(NamedTuple):
    """Of the recording that is looked at (CLOCK_MONOTONIC), and where in it the screen begins."""

    begin_ns: int
    end_ns: int
    at_ns: int


class Search(NamedTuple):
    """For the next loss or verdict; `grave` are those that stand where it began, `at_ns` is where it is."""

    what: str
    forward: bool
    grave: frozenset[str]
    at_ns: int


class Recorded:
    """An Engine. All that takes its time is done in turns: what is seen of an instant comes before what is judged of it."""

    def __init__(
        self,
        reader: Recording,
        stretch: Stretch,
        wish: Wish,
        interval_s: float,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """At first at the instant that `stretch` says. `stopped` says that somebody wants the end."""
        self._reader, self._stretch, self._wish, self._interval_s = reader, stretch, wish, interval_s
        self._view = RecordedView(reader)
        self._sees = SEEING & (self._view.sees | ~Purpose.INVALID)
        self._stopped = stopped
        chunks = list(reader.events(self._view.keyframes[0].number))
        self._ends_ns = np.maximum.accumulate(np.array([chunk.last_ns for chunk in chunks], np.int64))
        self._counts = np.cumsum(np.array([chunk.length for chunk in chunks], np.int64))
        self._line = Timeline(stretch.begin_ns)
        self._parts = self._look_through()
        self._looked = 0.0
        self._wanted: int | None = None
        self._speed, self._anew = 0, True
        self._clock_s = self._shown_s = self._judged_s = 0.0
        self._judge = True
        self._verdicts: Verdicts | None = None
        self._proved: Proved | None = None
        self._search: Search | None = None
        self._capture, self._moments = self._begin(stretch.at_ns)
        self._moment = self._moments.next()

    @property
    def over(self) -> bool:
        """Somebody wants the end: a recording has none that ends anything."""
        return self._stopped()

    @property
    def _invalid(self) -> bool:
        return Purpose.INVALID in self._sees

    @property
    def _here_ns(self) -> int:
        """The instant that is looked at; a stretch is over a little before its end, when the table is read for the last time."""
        return self._stretch.end_ns if self._capture.over else self._capture.now_ns()

    def _since(self, at_ns: int, most: int, back_ns: int) -> int:
        """Where the stretch begins that is looked at for an instant: so long before, or later where more events happened."""
        begin_ns = self._stretch.begin_ns
        since_ns, latest = max(at_ns - back_ns, begin_ns), max(at_ns - SHORTEST_NS, begin_ns)
        here = int(np.searchsorted(self._ends_ns, at_ns, "right"))
        if not here:
            return since_ns
        first = int(np.searchsorted(self._counts[:here], self._counts[here - 1] - most, "left"))
        fits_ns = int(self._ends_ns[first]) if self._counts[here - 1] > most else since_ns
        return min(max(fits_ns, since_ns), latest)

    def _opened(self, since_ns: int, until_ns: int, sees: Purpose | None = None) -> RecordedCapture:
        """A stretch of it, as a command would have it: whole where it is all of the recording."""
        return RecordedCapture(
            self._reader,
            self._sees if sees is None else sees,
            None if since_ns <= self._view.begin_ns else since_ns,
            None if until_ns >= self._view.end_ns else until_ns,
        )

    def _begin(self, at_ns: int) -> tuple[RecordedCapture, Moments]:
        """The table of that instant, and what happened in the minutes before."""
        since_ns = self._since(at_ns, MOST_EVENTS, HISTORY_NS)
        capture = self._opened(since_ns, self._stretch.end_ns)
        moments = Moments(capture, self._wish.only, View(self._wish.by, self._wish.order, self._interval_s), GROUPS)
        last_ns = max(at_ns - round(self._interval_s * NS_PER_S), since_ns)
        for events in _until(capture, last_ns):
            moments.add(events)
        if last_ns > since_ns:
            moments.begin()
        for events in _until(capture, at_ns):
            moments.add(events)
        return capture, moments

    def turn(self) -> Seen | None:
        """One of: go where somebody wants to be, judge what is there, go on with a search, with playing, with the time line."""
        if self._anew:
            self._anew = False
            return self._seen()
        if self._wanted is not None:
            return self._go()
        return self._go_on()

    def _go_on(self) -> Seen | None:
        if self._search is not None:
            return self._search_on(self._search)
        if self._judge and not self._speed:
            return self._judge_here()
        if self._speed:
            return self._play_on()
        if self._looked < 1:
            for _ in range(8):
                if self._looked < 1:
                    self._looked = next(self._parts)
            return self._seen()
        time.sleep(TURN_S)
        return None

    def _go(self) -> Seen:
        at_ns, self._wanted = self._wanted, None
        assert at_ns is not None
        self._capture, self._moments = self._begin(at_ns)
        self._moment = self._moments.next()
        self._judge = True
        self._verdicts = self._proved = None
        self._clock_s = self._shown_s = time.monotonic()
        return self._seen()

    def _judge_here(self) -> Seen:
        self._judge = False
        self._verdicts, self._proved = self._judged(self._here_ns)
        return self._seen()

    def _judged(self, at_ns: int) -> tuple[Verdicts, Proved]:
        """Of the minutes before an instant; at the end of a recording as `report` and `verify` do."""
        since_ns = self._since(at_ns, MOST_EVENTS, HISTORY_NS)
        capture = self._opened(since_ns, at_ns)
        collector = Collector(capture, self._wish.only, self._invalid)
        for events in _until(capture, at_ns):
            collector.add(events)
        proof = proved(capture)
        if proof.equal is None:
            proof = proof._replace(says="the kernel's table was not read about then")
        found = said(judged(capture, collector, self._wish.only), at_ns)
        return found._replace(of_s=(at_ns - since_ns) / NS_PER_S), proof

    def _play_on(self) -> Seen | None:
        now_s = time.monotonic()
        passed_s, self._clock_s = now_s - self._clock_s, now_s
        self._capture.wait(passed_s * self._speed)
        self._moments.add(self._capture.step())
        at_end = self._capture.over
        if at_end:
            self._speed, self._judge = 0, True
        elif now_s - self._shown_s < self._interval_s:
            time.sleep(TURN_S)
            return None
        self._shown_s = now_s
        self._moment = self._moments.next()
        if not at_end and now_s >= self._judged_s:
            self._verdicts, self._proved = self._judged(self._here_ns)
            done_s = time.monotonic()
            self._judged_s = done_s + max(COSTS * (done_s - now_s), self._interval_s)
        return self._seen()

    def _look_through(self) -> Iterator[float]:
        """All events once, for the time line: the share of it that lies behind, after each part."""
        begin_ns, end_ns = self._stretch.begin_ns, self._stretch.end_ns
        for chunk in self._reader.events(self._view.keyframes[0].number):
            if chunk.first_ns > end_ns:
                break
            if chunk.last_ns >= begin_ns:
                rows = self._reader.chunk("event", chunk)
                seen_ns = rows["entry"]["seen_ns"]
                inside = (seen_ns >= begin_ns) & (seen_ns <= end_ns)
                self._line.add(rows if inside.all() else pick(rows, inside))
                yield min((chunk.last_ns - begin_ns) / max(end_ns - begin_ns, 1), 0.999)
        while True:
            yield 1.0

    def _seen(self) -> Seen:
        at_ns = self._here_ns
        looking = "" if self._looked == 1 else f"reading the recording: {100 * self._looked:.0f} %"
        if self._search is not None:
            looking = f"looking for the {'next' if self._search.forward else 'last'} {self._search.what}; esc ends that"
        elif self._judge:
            looking = "judging"
        return Seen(
            source=shown(Path(self._reader.path.name)),
            wish=self._wish,
            moment=self._moment,
            at_ns=at_ns,
            lost={kind: count for kind, count in self._capture.fidelity().lost.items() if count},
            invalid=self._invalid,
            verdicts=self._verdicts and still(self._verdicts, self._moment),
            proved=self._proved,
            place=Place(
                self._stretch.begin_ns,
                self._stretch.end_ns,
                at_ns,
                self._speed,
                self._line.bins(self._stretch.end_ns),
                self._looked,
                self._capture.over,
            ),
            busy=looking,
        )

    def wish(self, wish: Wish) -> None:
        """Look at that, here."""
        self._wish = wish
        self.seek(self._here_ns)

    def group(self, by: tuple[str, ...], values: tuple[Key, ...]) -> Listed:
        """The entries that have these values in these columns."""
        return of_group(self._wish.only.passing(self._capture.table.entries()), by, values, self._capture.whose())

    def bucket(self, number: int) -> Listed:
        """The entries with a node in this bucket."""
        return listed(f"bucket {number}", self._capture.chain(number), self.namespaces())

    def life(self, entry: Entries) -> Told:
        """From the begin of the recording to this instant, or from later where very much happened, which is said."""
        at_ns = self._here_ns
        since_ns = self._since(at_ns, LIFE_EVENTS, at_ns)
        capture = self._opened(since_ns, at_ns, self._sees | Purpose.REASONS | Purpose.UPDATES)
        sought, only = sought_of(entry), Filter(netns=int(entry["netns"][0]) or None)
        found = Connections(sought, only, capture.table.entries(), capture.now_ns())
        for events in _until(capture, at_ns):
            found.add(events)
        document = told(capture, Request(filter=only), found, sought, self._invalid)
        return Told(sought.typed, tuple("\n".join(why_lines(document, None)).split("\n")))

    def leave(self) -> None:
        """A life is told once."""

    def namespaces(self) -> Mapping[int, str]:
        """What each is called, by inode number."""
        return self._capture.names()

    def prove(self) -> None:
        """Once more; where it is proved, verdicts are too."""
        self._judge = True

    def seek(self, at_ns: int) -> None:
        """Go there, and stand."""
        self._wanted = min(max(at_ns, self._stretch.begin_ns), self._stretch.end_ns)
        self._speed, self._search = 0, None

    def play(self, speed: int) -> None:
        """Go on from here; at the end from the begin."""
        if speed and self._capture.over:
            self.seek(self._stretch.begin_ns)
        self._speed, self._search = speed, None
        self._judge = self._judge or not speed
        self._clock_s, self._shown_s = time.monotonic(), 0.0

    def find(self, what: str, forward: bool) -> None:
        """A search goes on turn by turn, until somebody wants to be somewhere."""
        at_ns = self._here_ns
        grave = frozenset(one.row.id for one in self._verdicts.standing if one.grave) if self._verdicts else frozenset()
        self._speed, self._search = 0, Search(what, forward, grave, at_ns)

    def _search_on(self, search: Search) -> Seen:
        if search.what == "loss":
            if self._looked < 1:
                self._looked = next(self._parts)
                return self._seen()
            self.seek(self._loss(search))
            return self._go()
        step_ns = max((self._stretch.end_ns - self._stretch.begin_ns) // 60, NS_PER_S // 10)
        at_ns = search.at_ns + (step_ns if search.forward else -step_ns)
        if not self._stretch.begin_ns <= at_ns <= self._stretch.end_ns:
            self.seek(self._stretch.end_ns if search.forward else self._stretch.begin_ns)
            return self._go()
        found, _ = self._judged(at_ns)
        grave = frozenset(one.row.id for one in found.standing if one.grave)
        # Going back, what matters is where something new began.
        if (grave - search.grave) if search.forward else (search.grave - grave):
            self.seek(at_ns)
            return self._go()
        self._search = search._replace(at_ns=at_ns, grave=grave)
        return self._seen()

    def _loss(self, search: Search) -> int:
        """The end of the next bin in which packets were lost, or of the one before; the end or begin where there is none."""
        bins = self._line.bins(self._stretch.end_ns)
        lost = losses(bins.everywhere)
        ends = bins.began_ns + (np.flatnonzero(lost) + 1) * bins.width_ns
        ends = np.minimum(ends, self._stretch.end_ns)
        found = ends[ends > search.at_ns][:1] if search.forward else ends[ends < search.at_ns][-1:]
        if len(found):
            return int(found[0])
        return self._stretch.end_ns if search.forward else self._stretch.begin_ns


def _until(capture: RecordedCapture, at_ns: int) -> Iterator[Events]:
    """What happens until that instant, in parts."""
    step_s = max(STEP_S, (at_ns - capture.now_ns()) / NS_PER_S / STEPS)
    while capture.now_ns() < at_ns and not capture.over:
        capture.wait(min(step_s, (at_ns - capture.now_ns()) / NS_PER_S))
        yield capture.step()
    if capture.over:
        yield capture.step()
