"""The table is nearly full: no packet is lost yet."""

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import open_tcp


def play(stage: Stage) -> Play:
    """41 connections under a limit of 48; above 95 % of the limit the gc worker would evict."""
    space = stage.space("filling")
    open_tcp(space, space, "127.0.0.1", 4040, 41)
    yield space
    stage.sysctl("nf_conntrack_max", space.count() + 7)
    stage.say("nobody notices anything yet")
    yield space
    open_tcp(space, space, "127.0.0.1", 4041, 11)
    stage.say("11 connections more, and nobody notices anything")


SCENARIO = Scenario(
    title="table filling",
    symptom="nothing yet; the count of entries nears the limit",
    does="41 established connections in a table with room for 48.",
    expect="No packet is lost and no counter moves; only the fill level tells.",
    play=play,
    expected=frozenset({"table_filling"}),
    look=("ip netns exec filling conntrack -C", "sysctl net.netfilter.nf_conntrack_max"),
    fix=("sysctl -w net.netfilter.nf_conntrack_max=65536",),
)
