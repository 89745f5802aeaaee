"""The recordings that ship: each scenario's verdicts from its recording, and what every command says of five of them."""

from __future__ import annotations

from contextlib import closing

import pytest

from ctobserve.capture.recorded import RecordedCapture, RecordedView
from ctobserve.capture.store.reader import Reader
from ctobserve.capture.watch import Stretch
from ctobserve.diagnosis.verdict import Severity
from ctobserve.documents import verify
from ctobserve.documents.request import Request
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


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_recording_is_small_and_says_where_and_when_it_was_made(name):
    path = recording(name)
    assert path.stat().st_size < MOST_BYTES
    with closing(Reader(path)) as reader:
        view = RecordedView(reader)
        assert reader.meta["scenario"] == name and view.finished and not reader.damaged
        assert view.host.release.startswith("6.1.") and view.iso(view.end_ns) > "2026-11-26"


def test_there_is_none_of_a_scenario_that_is_no_more():
    assert {path.stem for path in recording("any").parent.glob("*.ctobserve")} == set(SCENARIOS)


@pytest.mark.parametrize("name", told.INCIDENTS)
def test_every_command_says_of_an_incident_what_it_said(name):
    assert told.session(name) == told.SESSIONS.joinpath(f"{name}.txt").read_text()
