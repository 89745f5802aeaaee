"""Incidents on a real kernel, and the verdicts on each: the expected ones, and no other."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ctobserve import rules
from ctobserve.collect import Collector, Scope
from ctobserve.filters import Filter
from ctobserve.hooks import Purpose
from ctobserve.observer import Observer, Options
from ctobserve.verdict import Severity
from tests.kernel import scenarios
from tests.kernel.scenarios import SCENARIOS

GRAVE = (Severity.CRITICAL, Severity.WARNING)


@pytest.fixture(scope="module")
def observer() -> Iterator[Observer]:
    """One observation for all incidents: attaching costs more than any of them."""
    with Observer(Options(Purpose.TABLE | Purpose.DROPS | Purpose.INVALID)) as made:
        made.seed()
        yield made


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_incident_has_its_verdicts(name, net, sysctl, observer):
    scenario = SCENARIOS[name]
    play = scenario.play(net, sysctl)
    watched = next(play)
    observer.seed()
    collector = Collector(observer, Scope(Filter(netns=watched and watched.inum), invalid=True))
    with pytest.raises(StopIteration):
        next(play)
    for records in observer.watch(lambda: True):
        collector.add(records)
    found = rules.judge(collector.finish()).verdicts
    words = "\n".join(verdict.sentence for verdict in found.values())
    print(name, words, sep="\n")
    assert {name for name, verdict in found.items() if verdict.severity in GRAVE} == scenario.expected, words
    assert scenario.notices <= found.keys(), words
    assert ("healthy" in found) == (not scenario.expected)
    where = {verdict.evidence["netns"] for verdict in found.values() if verdict.evidence.get("netns")}
    assert not watched or where <= {watched.inum}


def reported(play, running) -> dict:
    with pytest.raises(StopIteration):
        play.send(running)
    return json.loads(running.end())


def test_healthy_is_the_only_verdict_where_nothing_is_wrong(net, sysctl, start):
    play = scenarios.healthy(net, sysctl)
    body = reported(play, start("report", "--json", "--duration", "600", "--netns", next(play).name))
    (verdict,) = body["verdicts"]
    assert (verdict["id"], verdict["severity"], verdict["evidence"]["entries"]) == ("healthy", "healthy", 8)
    assert {row["id"] for row in body["not_judged"]} == {"netns_share", "tracking_unneeded"}


def test_a_full_table_as_the_operator_sees_it(net, sysctl, start):
    play = scenarios.full(net, sysctl)
    running = start("report", "--duration", "600", "--no-invalid", "--netns", next(play).name)
    with pytest.raises(StopIteration):
        play.send(running)
    text = running.end()
    assert text.startswith("CRITICAL  table_full: the table of full-")
    assert "23 packets of new connections" in text
    assert "$ sysctl -w net.netfilter.nf_conntrack_max=" in text
    assert "not judged: invalid_window: invalid packets were not looked for" in text


def test_lost_records_are_confessed(net, sysctl, start):
    play = scenarios.lost_records(net, sysctl)
    body = reported(play, start("report", "--json", "--duration", "600", "--ring-mib", "1", "--netns", next(play).name))
    worst, *others = body["verdicts"]
    assert worst["id"] == "records_lost" and {row["severity"] for row in others} == {"notice"}
    assert worst["evidence"]["events_lost"] == body["meta"]["events_lost"] > 0
