"""One source holds most of the table."""

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import load


def play(stage: Stage) -> Play:
    """421 entries of one source, in a table with room for 1009."""
    space = stage.space("greedy")
    yield space
    load(space, 421, sources=1)
    stage.sysctl("nf_conntrack_max", 1009)
    stage.say("nobody notices anything yet; two sources more like this one fill the table")
    yield space
    load(space, 53, target="10.61.0.1")
    stage.say("53 connections of others, and room for many")


SCENARIO = Scenario(
    title="a greedy source",
    symptom="the table grows, and nobody knows whose entries these are",
    does="One address holds 421 entries of a table with room for 1009.",
    expect="No loss yet; who fills the table is a question that conntrack -L answers only line by line.",
    play=play,
    expected=frozenset({"source_share"}),
    look=("ip netns exec greedy conntrack -L --src 10.50.0.1 | wc -l",),
    fix=("ip netns exec greedy conntrack -D --src 10.50.0.1 | wc -l",),
)
