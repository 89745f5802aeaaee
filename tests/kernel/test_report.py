"""Incidents on a real kernel, and the verdicts on each: the expected ones, and no other."""

from __future__ import annotations

import json

import pytest

from tests.kernel.scenarios import SCENARIOS

GRAVE = ("critical", "warning")


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_incident_has_its_verdicts(name, net, sysctl, start):
    scenario = SCENARIOS[name]
    play = scenario.play(net, sysctl)
    watched = next(play)
    only = ("--netns", watched.name) if watched else ()
    running = start("report", "--json", "--duration", "600", *only, *scenario.options)
    with pytest.raises(StopIteration):
        play.send(running)
    body = json.loads(running.end())
    found = {verdict["id"]: verdict for verdict in body["verdicts"]}
    words = "\n".join(verdict["sentence"] for verdict in body["verdicts"])
    assert {name for name, verdict in found.items() if verdict["severity"] in GRAVE} == scenario.expected, words
    assert scenario.notices <= found.keys(), words
    assert ("healthy" in found) == (not scenario.expected)
    assert set(body) == {"meta", "verdicts", "not_judged"}
    print(name, words, sep="\n")


def test_healthy_is_the_only_verdict_where_nothing_is_wrong(net, sysctl, start):
    play = SCENARIOS["healthy"].play(net, sysctl)
    running = start("report", "--json", "--duration", "600", "--netns", next(play).name)
    with pytest.raises(StopIteration):
        play.send(running)
    (verdict,) = json.loads(running.end())["verdicts"]
    assert (verdict["id"], verdict["severity"], verdict["evidence"]["entries"]) == ("healthy", "healthy", 8)
