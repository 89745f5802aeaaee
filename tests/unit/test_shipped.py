"""The recordings that ship: each scenario's verdicts from its recording, and what every command says of five of them."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ctobserve.capture.recorded import RecordedCapture, RecordedView
from ctobserve.capture.store import packed
from ctobserve.capture.store.reader import Reader
from ctobserve.capture.watch import Stretch
from ctobserve.diagnosis.verdict import Severity
from ctobserve.documents import report, verify
from ctobserve.documents.request import Request
from ctobserve.documents.verdicts import JUDGED
from ctobserve.errors import CtobserveError
from ctobserve.programs.hooks import Purpose
from ctobserve_lab.recordings import recording
from ctobserve_lab.scenarios import SCENARIOS
from tests import told
from tests.kernel.incidents import by_id, recorded

MOST_BYTES = 100_000
GRAVE = (Severity.CRITICAL, Severity.WARNING)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_has_its_verdicts_and_no_other_from_its_recording(name):
    scenario, found = SCENARIOS[name], by_id(recorded(recording(name)))
    assert {one for one, verdict in found.items() if verdict.severity in GRAVE} == scenario.expected
    assert scenario.notices <= found.keys()
    assert ("healthy" in found) == (not scenario.expected)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_table_that_events_made_is_the_one_that_was_read_last(name):
    with closing(Reader(recording(name))) as reader:
        found = verify.collect(RecordedCapture(reader, Purpose.TABLE), Request(), Stretch())
    assert found.equal is True


@pytest.mark.parametrize("name", ["flush", "udp_race"])
def test_a_reading_is_no_proof_of_the_table_that_was_made_of_it(name, tmp_path):
    with closing(Reader(unfinished(name, tmp_path))) as reader:
        capture = RecordedCapture(reader, Purpose.TABLE)
        with pytest.raises(CtobserveError, match="no reading of the kernel's table but the one that this stretch begins with"):
            verify.collect(capture, Request(), Stretch())


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_recording_is_small_and_says_where_and_when_it_was_made(name):
    path = recording(name)
    assert path.stat().st_size < MOST_BYTES
    with closing(Reader(path)) as reader:
        view = RecordedView(reader)
        assert reader.meta["scenario"] == name and view.finished and not reader.damaged
        assert view.host.release.startswith("6.1.") and view.iso(view.end_ns) > "2026-11-26"


def unfinished(name: str, path: Path) -> Path:
    """The same as its recorder would have left it, killed before its last reading of the table."""
    made = path / "unfinished"
    made.write_bytes(packed.unpacked(recording(name)))
    with closing(sqlite3.connect(made)) as found:
        (last,) = found.execute("SELECT max(id) FROM facts WHERE kind = 'keyframe'").fetchone()
        found.execute("DELETE FROM facts WHERE id >= ?", (last,))
        found.execute("DELETE FROM chunks WHERE fact >= ?", (last,))
        found.commit()
    return made


@pytest.mark.parametrize("name", ["healthy", "flush", "udp_race", "held_entries"])
def test_what_nobody_counted_at_the_end_is_no_health(name, tmp_path):
    """Of a recorder that runs, or was killed, and of a stretch that ends between two readings."""
    with closing(Reader(unfinished(name, tmp_path))) as reader:
        found = RecordedCapture(reader, JUDGED | Purpose.INVALID)
        assert not found.finished
        began, ended = found.started, found.iso(found.end_ns)
        judged = report.collect(found, Request(), Stretch(), invalid=True)
    unjudged = {one.id: one.why for one in judged.not_judged}
    assert "healthy" not in [row.id for row in judged.verdicts]
    assert unjudged["unseen"].startswith("at the end of this stretch nobody read the kernel's counters; they were read at ")
    assert re.search(r"\(--until 20[0-9T:.-]+Z\)$", unjudged["unseen"]) and ended not in unjudged["unseen"]
    assert not [row for row in judged.verdicts if "it holds 0 of" in row.sentence]
    with closing(Reader(recording(name))) as reader:
        end_ns = RecordedView(reader).end_ns
        cut = RecordedCapture(reader, JUDGED | Purpose.INVALID, None, end_ns - 1_000_000)
        judged = report.collect(cut, Request(), Stretch(), invalid=True)
    assert began.monotonic_ns < end_ns and "healthy" not in [row.id for row in judged.verdicts]


def test_there_is_none_of_a_scenario_that_is_no_more():
    assert {path.stem for path in recording("any").parent.glob("*.ctobserve")} == set(SCENARIOS)


@pytest.mark.parametrize("name", told.INCIDENTS)
def test_every_command_says_of_an_incident_what_it_said(name):
    assert told.session(name) == told.SESSIONS.joinpath(f"{name}.txt").read_text()
