"""A host on which entries come and go for ever, in floods now and then, and a flight recorder on it; time passes as it likes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ctobserve.capture.flight import Flight
from ctobserve.capture.watch import STEP_S, Stretch
from ctobserve.clock import NS_PER_S
from ctobserve.documents.flight import collect
from ctobserve.documents.record import Keeping, RecordDocument
from ctobserve.documents.request import Request
from ctobserve.documents.triggers import Conditions
from ctobserve.event import DestroyReason, DropReason, Events, Kind
from ctobserve.host.threads import elsewhere
from ctobserve.model import join
from tests.scripted import CLOCK, ScriptedCapture, events
from tests.unit.recordings import EVERYTHING
from tests.unit.tables import entries

T = TypeVar("T")
MIB = 1 << 20
NONE = Conditions()


class Churning(ScriptedCapture):
    """At each step some entries come and those that came before leave; `happens` says what else comes when, by whole seconds.

    A step takes `pace_s`, at `floods` a hundred times as many come. Addresses are used again, as a slab does, out of `room`.
    `told_so_far` is what it told, where somebody asks for it. Something comes whenever it can.
    """

    def __init__(
        self, pace_s: float = STEP_S, each: int = 20, room: int = 5000, floods: Iterable[float] = (), **more: Any
    ) -> None:
        super().__init__(entries=entries(50, ct=np.arange(1, 51) * 320), **more)
        self._pace_s, self._each, self._room, self._floods = pace_s, each, room, sorted(floods)
        self._next = 100
        self._there = [self.entries[:0]]
        self._some = np.random.default_rng(7)
        self.happens: dict[float, Events] = {}
        self.each_step: Callable[[], object] = lambda: None
        self.told_so_far: list[Events] | None = None
        self._meanwhile: list[Events] = []

    def wait(self, seconds: float) -> None:
        super().wait(max(seconds, self._pace_s))
        self.each_step()

    def passed_s(self) -> float:
        return (self.now_ns() - CLOCK.monotonic_ns) / NS_PER_S

    def step(self) -> Events:
        at_s, count = self.passed_s(), self._each
        if self._floods and self._floods[0] <= at_s:
            self._floods.pop(0)
            count *= 100
        return self._tell(self._come(count))

    def drain(self) -> Events:
        return self._tell(self._come(1))

    def aside(self, function: Callable[[], T]) -> T:
        """In a thread of its own, as on a real host; what comes meanwhile is in the table, and told later."""
        made = elsewhere(function)
        self._meanwhile.append(self._come(2))
        return made

    def _tell(self, came: Events) -> Events:
        came, self._meanwhile = join([*self._meanwhile, came]), []
        if self.told_so_far is not None:
            self.told_so_far.append(came)
        return came

    def _come(self, count: int) -> Events:
        at_s = self.passed_s()
        numbers = (self._next + np.arange(count)) % self._room
        self._next += count
        born = entries(count, ct=(numbers + 100) * 320, sport=self._some.integers(1024, 65536, count))
        born["addr"][:, 0, :4] = self._some.integers(0, 256, (count, 4))
        happened = [events(Kind.INSERT, born, at_s=at_s)]
        if len(self._there) > 2:
            happened.append(events(Kind.DESTROY, self._there.pop(0), at_s=at_s, reason=DestroyReason.TIMEOUT))
        self._there.append(born)
        for when in [one for one in self.happens if one <= at_s]:
            more = self.happens.pop(when)
            more["entry"]["seen_ns"] = self.now_ns()
            happened.append(more)
        return self._told(join(happened))


def lost(count: int = 3) -> Events:
    """So many packets, refused as the table was full."""
    return events(
        Kind.DROP, entries(count, has_ct=0, sport=range(3000, 3000 + count)), reason=DropReason.TABLE_FULL, direction=255
    )


def fly(
    capture: ScriptedCapture,
    path: Path,
    seconds: float,
    conditions: Conditions = NONE,
    asked: Callable[[], bool] = lambda: False,
    say: Callable[[str], object] = lambda _: None,
    keyframe_s: float = 60,
    **flight: Any,
) -> RecordDocument:
    """What the command says of this flight."""
    given = {"keep_s": 60, "most_bytes": 32 * MIB, "most_incidents": 4, "after_s": 5}
    capture.follow()
    keeping = Keeping(path, keyframe_s=keyframe_s, sees=EVERYTHING)
    return collect(capture, Request(), Stretch(seconds), keeping, Flight(path, **(given | flight)), conditions, asked, say)


def disk_bytes(path: Path) -> int:
    """What a directory takes."""
    with os.scandir(path) as there:
        return sum(one.stat().st_blocks * 512 for one in there)
