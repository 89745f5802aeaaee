"""A hoard of dead connections: their peers are gone without a word, and the entries stay for five days."""

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import load

DAYS_LEFT_S = 172_800


def play(stage: Stage) -> Play:
    """307 ESTABLISHED entries that saw no packet for three of their five days."""
    space = stage.space("idle")
    load(space, 307, proto="tcp", left_s=DAYS_LEFT_S)
    yield space
    stage.sysctl("nf_conntrack_max", 1009)
    stage.say("nobody notices anything yet; a third of the table is dead")
    yield space
    load(space, 53, proto="tcp", left_s=3600, target="10.61.0.1")
    stage.say("53 new connections, and no dead ones")


SCENARIO = Scenario(
    title="a hoard of idle connections",
    symptom="the table grows for days, though traffic does not",
    does="307 ESTABLISHED entries saw no packet for three days, in a table with room for 1009.",
    expect="They have two more days to live, are assured, and so are never evicted: a full table in the making.",
    play=play,
    expected=frozenset({"idle_established"}),
    look=(
        "ip netns exec idle conntrack -L -p tcp --sport 1024",
        "ip netns exec idle sysctl net.netfilter.nf_conntrack_tcp_timeout_established",
    ),
    fix=(
        "ip netns exec idle sysctl -w net.netfilter.nf_conntrack_tcp_timeout_established=7200",
        "ip netns exec idle conntrack -D -p tcp --state ESTABLISHED | wc -l",
    ),
)
