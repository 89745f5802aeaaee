"""A recording whose end is missing, as of a copy that broke off: what is there is read, and nothing is made of what is not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from ctobserve.capture.capture import DAMAGED, NamespaceState
from ctobserve.capture.recorded import RecordedCapture
from ctobserve.capture.store.container import Unreadable
from ctobserve.capture.store.reader import Chunk, Reader
from ctobserve.capture.watch import Stretch
from ctobserve.documents import report
from ctobserve.documents.request import Request
from ctobserve.event import Kind
from ctobserve.host.account import Account
from tests import scripted
from tests.scripted import NETNS, ScriptedCapture
from tests.unit.recordings import EVERYTHING, in_time, record
from tests.unit.tables import entries

COUNT = 30_000
TENTHS = range(2, 10)  # before, not even one reading is whole


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    """A recording in which many come, all in one namespace, which has as many settings as one of a kernel."""
    some = np.random.default_rng(5)
    born = entries(COUNT, ct=np.arange(1, COUNT + 1) * 256, sport=some.integers(1, 65536, COUNT))
    born["addr"][:, 0, :4] = some.integers(0, 256, (COUNT, 4))
    born["bucket"] = some.integers(0, 1024, (COUNT, 2))
    happened = in_time(scripted.events(Kind.INSERT, born, at_s=np.sort(some.uniform(0, 4, COUNT))))
    path = tmp_path_factory.mktemp("cut") / "one"
    settings = {f"nf_conntrack_of_{number}_timeouts": number for number in range(120)}
    states = {NETNS: NamespaceState(NETNS, "blue", init=True, sysctls=settings)}
    accounted = [{NETNS: Account(0)}, {NETNS: Account(COUNT)}]
    record(ScriptedCapture(batches=happened, states=states, accounted=accounted), path, keyframe_s=1)
    return path.read_bytes()


def events_of(path: Path) -> list[bytes]:
    with closing(Reader(path)) as reader:
        chunks = [one for one in reader.told() if isinstance(one, Chunk) and one.kind == "event"]
        return [found for found in (reader.chunk("event", one).tobytes() for one in chunks) if found]


@pytest.mark.parametrize("tenths", TENTHS)
def test_its_begin_is_read(content, tmp_path, tenths):
    (tmp_path / "whole").write_bytes(content)
    (tmp_path / "cut").write_bytes(content[: len(content) * tenths // 10])
    found, whole = events_of(tmp_path / "cut"), events_of(tmp_path / "whole")
    assert found == whole[: len(found)]
    assert len(found) >= len(whole) * tenths // 20


@pytest.mark.parametrize("tenths", TENTHS)
def test_a_report_of_it_blames_nothing_for_what_is_missing(content, tmp_path, tenths):
    (tmp_path / "cut").write_bytes(content[: len(content) * tenths // 10])
    with closing(Reader(tmp_path / "cut")) as reader:
        found = report.collect(RecordedCapture(reader, EVERYTHING), Request(), Stretch(), invalid=True)
    assert found.meta.lost_by_kind.get(DAMAGED, 0) > 0
    said = {verdict.id: verdict.sentence for verdict in found.verdicts}
    assert "row" in said["records_lost"] and "entries_unlisted" not in said and "healthy" not in said
    assert "entries_unlisted" in {left.id for left in found.not_judged}


@pytest.mark.parametrize("ends", [1, 99, 100, 2048])
def test_of_one_that_hardly_begins_a_line_says_so(content, tmp_path, ends):
    (tmp_path / "cut").write_bytes(content[:ends])
    with pytest.raises(Unreadable, match=r"is no recording|damaged at its begin|cannot be read"):
        Reader(tmp_path / "cut")


def test_one_that_ended_before_its_expectations_were_read_is_judged_without_them(tmp_path):
    record(ScriptedCapture(), tmp_path / "one")
    with closing(Reader(tmp_path / "one")) as reader:
        whole = report.collect(RecordedCapture(reader, EVERYTHING), Request(), Stretch(), invalid=True)
    with closing(sqlite3.connect(tmp_path / "one", isolation_level=None)) as made:
        made.execute("DELETE FROM facts WHERE kind = 'expected'")
    with closing(Reader(tmp_path / "one")) as reader:
        found = report.collect(RecordedCapture(reader, EVERYTHING), Request(), Stretch(), invalid=True)
    assert [one.id for one in found.verdicts] == [one.id for one in whole.verdicts]
    assert {one.id for one in found.not_judged} - {one.id for one in whole.not_judged} == {"expect_full", "helper_missing"}
