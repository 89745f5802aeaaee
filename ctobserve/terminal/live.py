"""The full screen's engine on a capture that goes on: this host now."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from ctobserve.analysis.connections import Connections
from ctobserve.analysis.groups import Key
from ctobserve.analysis.sought import Sought
from ctobserve.capture.capture import Capture
from ctobserve.capture.filters import Filter
from ctobserve.capture.watch import Stretch
from ctobserve.clock import NS_PER_S
from ctobserve.documents.request import Request
from ctobserve.documents.top import Moments, View
from ctobserve.documents.why import told
from ctobserve.event import Events
from ctobserve.model import Entries, join
from ctobserve.render.why import why_lines
from ctobserve.terminal.doubt import still
from ctobserve.terminal.entries import listed, of_group, sought_of
from ctobserve.terminal.judging import Judging
from ctobserve.terminal.proving import Proving
from ctobserve.terminal.seen import Listed, Seen, Told, Wish

TURN_S = 0.1  # the ring holds the events of a second and more: a batch of many costs little more than one of few
GROUPS = 100  # of which as many are shown as there is room for
HELD = 20_000  # events that are looked at together
RECENT = 20_000  # events that a life begins with, of some 600 bytes


class Live:
    """An Engine. Made when the table is followed."""

    def __init__(self, capture: Capture, stretch: Stretch, wish: Wish, interval_s: float, invalid: bool) -> None:
        """`invalid`: the capture sees INVALID packets."""
        self._capture, self._stretch, self._wish = capture, stretch, wish
        self._interval_s, self._invalid = interval_s, invalid
        self._held: list[Events] = []
        self._recent: deque[Events] = deque()
        self._kept = 0
        self._watched: tuple[Sought, Filter, Connections] | None = None
        self._moments = Moments(capture, wish.only, self._view(), GROUPS)
        self._judging = Judging(capture, wish.only, invalid, self._note)
        self._proving = Proving(capture, self._take)
        self._began_ns: int | None = None
        self._moment, self._anew = self._moments.next(), True

    def _view(self) -> View:
        return View(self._wish.by, self._wish.order, self._interval_s)

    @property
    def over(self) -> bool:
        """The stretch has passed, or nothing more comes."""
        if self._stretch.stopped() or self._capture.over:
            return True
        seconds, began_ns = self._stretch.seconds, self._began_ns
        return seconds is not None and began_ns is not None and self._capture.now_ns() - began_ns >= seconds * NS_PER_S

    def turn(self) -> Seen | None:
        """Take what came; a frame, a judgement or a proof, whatever is due, one at a time."""
        if self._began_ns is None:
            self._stretch.begin()
            self._began_ns = self._capture.now_ns()
        if self._anew:
            self._anew = False
            return self._seen()
        self._take(self._capture.step())
        if not (self._moments.due() or self._judging.due() or self._proving.due()):
            self._capture.wait(TURN_S)
            return None
        self._look_at_held()
        if self._moments.due():
            self._moment = self._moments.next()
        elif self._judging.due():
            self._judging.judge()
        else:
            self._proving.prove()
        return self._seen()

    def _seen(self) -> Seen:
        capture = self._capture
        lost = {kind: count for kind, count in capture.fidelity().lost.items() if count}
        found = self._judging.found and still(self._judging.found, self._moment)
        if found and found.doubt:
            self._judging.hurry()
        return Seen(
            source="this host",
            wish=self._wish,
            moment=self._moment,
            at_ns=capture.now_ns(),
            lost=lost,
            invalid=self._invalid,
            verdicts=found,
            proved=self._proving.last,
            place=None,
            busy="",
        )

    def _take(self, events: Events) -> None:
        """What came; it is looked at when something is due, or when it is much: a little at a time costs more."""
        if len(events):
            self._held.append(events)
            if sum(map(len, self._held)) >= HELD:
                self._look_at_held()

    def _look_at_held(self) -> None:
        if self._held:
            events, self._held = join(self._held), []
            self._note(events)
            self._judging.add(events)

    def _note(self, events: Events) -> None:
        """What came, but for who judges."""
        if not len(events):
            return
        self._moments.add(events)
        if self._watched:
            self._watched[2].add(events)
        self._recent.append(events)
        self._kept += len(events)
        while self._kept > RECENT and len(self._recent) > 1:
            self._kept -= len(self._recent.popleft())

    def wish(self, wish: Wish) -> None:
        """Look at that from now on."""
        self._look_at_held()
        self._wish = wish
        self._moments.look_at(wish.only, self._view())
        self._moment, self._anew = self._moments.next(), True
        self._judging.look_at(wish.only)

    def group(self, by: tuple[str, ...], values: tuple[Key, ...]) -> Listed:
        """The entries that have these values in these columns."""
        return of_group(self._wish.only.passing(self._capture.table.entries()), by, values, self._capture.whose())

    def bucket(self, number: int) -> Listed:
        """The entries with a node in this bucket."""
        return listed(f"bucket {number}", self._capture.chain(number), self.namespaces())

    def life(self, entry: Entries) -> Told:
        """From what came lately, and from now on."""
        self._look_at_held()
        sought, only = sought_of(entry), Filter(netns=int(entry["netns"][0]) or None)
        if self._watched is None or self._watched[:2] != (sought, only):
            found = Connections(sought, only, entry, int(self._recent[0]["entry"]["seen_ns"].min()) if self._recent else 0)
            for events in self._recent:
                found.add(events)
            self._watched = (sought, only, found)
        document = told(self._capture, Request(filter=only), self._watched[2], sought, self._invalid, self._beside)
        return Told(sought.typed, tuple("\n".join(why_lines(document, None)).split("\n")))

    def _beside(self, events: Events) -> None:
        """Who looks at a life has taken these."""
        watched, self._watched = self._watched, None
        self._note(events)
        self._judging.add(events)
        self._watched = watched

    def leave(self) -> None:
        """Nobody looks at a life any more."""
        self._watched = None

    def namespaces(self) -> Mapping[int, str]:
        """What each is called, by inode number."""
        return self._capture.names()

    def prove(self) -> None:
        """Prove the table in the next turn."""
        self._proving.soon()

    def seek(self, at_ns: int) -> None:
        """What happens now has one place."""

    def play(self, speed: int) -> None:
        """It goes on as fast as it does."""

    def find(self, what: str, forward: bool) -> None:
        """Nobody knows what comes."""
