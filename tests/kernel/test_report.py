"""Incidents on a real kernel, and the verdicts on each: the expected ones, and no other; its recording says the same."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

import pytest

from ctobserve.capture.filters import Filter
from ctobserve.capture.live import LiveCapture, Options
from ctobserve.diagnosis.collect import Collector
from ctobserve.diagnosis.verdict import Severity
from ctobserve.host.ruleset import Ruleset
from ctobserve.programs.hooks import Purpose
from ctobserve_lab.recordings import recording
from ctobserve_lab.scenarios import SCENARIOS
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import load, send_udp
from tests.kernel.incidents import SEES, Standing, by_id, recorded, severities, watched
from tests.kernel.machine import machine
from tests.kernel.tool import LACKING
from tests.unit.typed import parse

# Which incidents: "2/3" is the second of every three; else all.
PART, PARTS = map(int, os.environ.get("CTOBSERVE_PART", "1/1").split("/"))
GRAVE = (Severity.CRITICAL, Severity.WARNING)
LOOK_S, TIMED_OUT = 60, 124


@pytest.fixture(scope="module")
def capture() -> Iterator[Standing]:
    """One observation for all incidents: attaching costs more than any of them."""
    with Standing(Options(SEES)) as made:
        made.follow()
        yield made


def grave(found: dict) -> set[str]:
    return {name for name, verdict in found.items() if verdict.severity in GRAVE}


def paste(line: str, only_looks: bool) -> None:
    """As somebody does who believes a verdict. What watches for ever is ended; our own commands are run by tests of their own."""
    words = shlex.split(line, comments=True)
    if words[:1] == ["ctobserve"]:
        assert parse(*words[1:])[0] == 0, line
        return
    assert "/etc/" not in line, "the lab does not put that back"
    said = run_for(LOOK_S, "sh", "-c", line)
    assert said.returncode == 0 or (only_looks and said.returncode == TIMED_OUT), (line, said.stdout, said.stderr)


def run_for(seconds: int, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["timeout", "--kill-after=9", str(seconds), *command], capture_output=True, text=True, errors="replace", check=False
    )


def beyond(capture: Standing, expected: frozenset[str], test: pytest.Item) -> set[str]:
    """Of these verdicts those that this kernel cannot earn: before 5.15 chains may grow, and no packet is refused for them."""
    cannot = set() if capture.host.limits_chains else expected & {"chain_too_long"}
    if cannot:
        test.user_properties.append((LACKING, "a limit of chains, and so the verdict chain_too_long"))
    return set(cannot)


def lines_of(found: dict, severe: bool) -> list[tuple[str, bool]]:
    """Of verdicts of this sort: each line, and whether it only looks."""
    verdicts = [verdict for verdict in found.values() if (verdict.severity in GRAVE) is severe]
    return [pair for one in verdicts for pair in zip(one.do, one.do_only_looks, strict=True)]


@pytest.mark.parametrize("name", list(SCENARIOS)[PART - 1 :: PARTS])
def test_each_incident_has_its_verdicts_and_none_after_the_fix_and_leaves_nothing(name, capture, tmp_path, request):
    """Every line to paste runs: those that look, then those that change something, which mend it where they can; those of
    notices, that nobody waits for, last. A report from the recording of it is the same in every number and line."""
    scenario = SCENARIOS[name]
    before = machine()
    with Stage() as stage:
        play = scenario.play(stage)
        space = next(play)
        said = watched(capture, space, lambda: next(play), tmp_path / "incident")
        found = by_id(said)
        offered = lines_of(found, True)
        for line, only_looks in sorted(offered, key=lambda pair: not pair[1]):
            paste(line, only_looks)
        for line in () if scenario.lines_mend else scenario.fix:
            stage.do(line)
        again = partial(next, play, None)
        afterwards = by_id(watched(capture, space, again, tmp_path / "after")) if scenario.fix else {}
        for line, only_looks in lines_of(found, False):
            paste(line, only_looks)
    words = "\n".join([*(verdict.sentence for verdict in (*found.values(), *afterwards.values())), *stage.said])
    print(name, words, sep="\n")
    cannot = beyond(capture, scenario.expected, request.node)
    expected = scenario.expected - cannot
    assert grave(found) == expected, words
    assert scenario.notices <= found.keys(), words
    assert ("healthy" in found) == (not expected)
    where = {verdict.evidence["netns"] for verdict in found.values() if verdict.evidence.get("netns")}
    assert not space or where <= {space.inum}
    assert not grave(afterwards), words
    live, kept = asdict(said), asdict(recorded(tmp_path / "incident"))
    assert {key: (live[key], kept[key]) for key in live if key != "meta" and live[key] != kept[key]} == {}
    shipped = severities(recorded(recording(name)))
    assert {verdict: how for verdict, how in shipped.items() if verdict not in cannot} == severities(said)
    assert machine() == before


def test_a_loss_is_told_with_its_ports(capture, tmp_path):
    with Stage() as stage:
        play = SCENARIOS["snat_ports"].play(stage)
        numbers = by_id(watched(capture, next(play), lambda: next(play), tmp_path / "one"))["snat_ports"].evidence
    assert (numbers["dst"], numbers["dport"], numbers["packets"], numbers["connections"]) == ("10.1.0.2", 9, 5, 1)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made


def test_healthy_is_the_only_verdict_where_nothing_is_wrong(stage, start):
    play = SCENARIOS["healthy"].play(stage)
    space = next(play)
    assert space
    running = start("report", "--json", "--duration", "600", "--netns", space.name)
    next(play)
    body = json.loads(running.end())
    (verdict,) = body["verdicts"]
    assert (verdict["id"], verdict["severity"], verdict["evidence"]["entries"]) == ("healthy", "healthy", 8)
    assert {row["id"] for row in body["not_judged"]} == {"netns_share", "tracking_unneeded"}


def test_a_full_table_as_the_operator_sees_it(stage, start):
    play = SCENARIOS["table_full"].play(stage)
    space = next(play)
    assert space
    running = start("report", "--duration", "600", "--no-invalid", "--netns", space.name)
    next(play)
    text = running.end()
    assert text.startswith("CRITICAL  table_full: the table of full is full")
    assert "23 packets of new connections" in text
    assert "$ sysctl -w net.netfilter.nf_conntrack_max=" in text
    assert "not judged: invalid_window: invalid packets were not looked for" in text


def test_asking_the_namespaces_takes_its_time_and_loses_nothing(net, monkeypatch):
    """A ring of 1 MiB has room for about 2,300 records: while rules are listed, more of them come than that."""
    space = net.space("asked")
    load(space, 211)

    def slowly(_until: float) -> Ruleset:
        send_udp(space, 5003)
        return Ruleset()

    monkeypatch.setattr("ctobserve.host.ruleset.read", slowly)
    with LiveCapture(Options(Purpose.TABLE | Purpose.DROPS, ring_mib=1)) as capture:
        capture.follow()
        collector = Collector(capture, Filter(netns=space.inum), invalid=False)
        collector.end()
        capture.cease()
        found = collector.evidence()
        assert space.count() >= 5003
        assert (found.events_lost, sum(capture.fidelity().lost.values())) == (0, 0)
        assert found.namespaces[space.inum].ruleset == Ruleset()


def test_lost_records_are_confessed(net, start):
    space = net.space("lost")
    running = start("report", "--json", "--duration", "600", "--ring-mib", "1", "--netns", space.name)
    running.pause()
    load(space, 4001)
    running.resume()
    body = json.loads(running.end())
    worst, *others = body["verdicts"]
    assert worst["id"] == "records_lost" and {row["severity"] for row in others} == {"notice"}
    assert worst["evidence"]["events_lost"] == body["meta"]["events_lost"] > 0
