"""Very many events of one instant: time stands still while they are told, some at a time, and none is missing."""

from __future__ import annotations

import numpy as np
import pytest

from ctobserve.capture import recorded, replay
from ctobserve.capture.capture import Snapshot
from ctobserve.capture.store.container import Unreadable
from ctobserve.capture.watch import Stretch, watch
from ctobserve.clock import NS_PER_S
from ctobserve.event import NO_EVENTS, Events, Kind
from ctobserve.model import join
from tests import scripted
from tests.scripted import CLOCK, ScriptedCapture
from tests.unit.recordings import in_time, record
from tests.unit.recordings import replay as opened
from tests.unit.tables import entries

MANY = 40_000
BORN = entries(MANY, ct=np.arange(1, MANY + 1) * 64, sport=np.arange(MANY) % 60_000, bucket=(3, 5))


def made(at_s: float) -> ScriptedCapture:
    return ScriptedCapture(batches=in_time(scripted.events(Kind.INSERT, BORN, at_s=at_s)))


@pytest.mark.parametrize("at_s", [0.5, 1.0, 2.0], ids=["within", "by itself", "at the end"])
def test_events_of_one_instant_are_told_some_at_a_time(tmp_path, monkeypatch, at_s):
    record(made(at_s), tmp_path / "one", seconds=2)
    whole = join(list(watch(opened(tmp_path / "one"), Stretch())))
    monkeypatch.setattr(replay, "AT_ONCE", 5000)
    capture = opened(tmp_path / "one")
    parts = [*watch(capture, Stretch()), capture.drain()]
    assert max(map(len, parts)) < 3 * 4096 + 5000
    assert len(whole) == MANY and join(parts).tobytes() == whole.tobytes()
    assert capture.over and len(capture.table) == MANY


class Reading(ScriptedCapture):
    """All of them come while the table is read for the last time."""

    came = NO_EVENTS

    def snapshot(self, extensions: bool = False) -> Snapshot:
        found = super().snapshot(extensions)
        self.came = scripted.events(Kind.INSERT, BORN, at_s=(self.now_ns() - CLOCK.monotonic_ns) / NS_PER_S)
        return found

    def drain(self) -> Events:
        came, self.came = self.came, NO_EVENTS
        return self._told(came)


def test_what_comes_while_the_table_is_read_for_the_last_time_is_whole_and_bounded(tmp_path, monkeypatch):
    record(Reading(), tmp_path / "one", seconds=2)
    monkeypatch.setattr(replay, "AT_ONCE", 4096)
    capture = opened(tmp_path / "one")
    assert not list(watch(capture, Stretch())) and len(capture.drain()) == MANY
    monkeypatch.setattr(recorded, "MOST_DRAINED", 3)
    capture = opened(tmp_path / "one")
    assert not list(watch(capture, Stretch()))
    with pytest.raises(Unreadable, match="more events after its last reading"):
        capture.drain()
