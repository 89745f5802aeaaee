"""Too few buckets: nothing is lost, but every lookup walks."""

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import load


def play(stage: Stage) -> Play:
    """1201 entries, two nodes each, in 512 buckets."""
    space = stage.space("crowded")
    stage.sysctl("nf_conntrack_buckets", 512)
    yield space
    load(space, 1201)
    stage.say("everything works, but each packet costs more than it should")
    yield space
    load(space, 211, target="10.61.0.1")
    stage.say("211 connections more, and lookups are short")


SCENARIO = Scenario(
    title="too few buckets",
    symptom="the CPU is busy in ksoftirqd, and nothing says why",
    does="1201 entries in a hash of 512 buckets: nearly five nodes in each.",
    expect="No counter, no log, no loss: time in ksoftirqd, and nothing says why. ctobserve buckets draws it.",
    play=play,
    expected=frozenset({"few_buckets"}),
    look=("sysctl net.netfilter.nf_conntrack_buckets", "ip netns exec crowded conntrack -C"),
    fix=("sysctl -w net.netfilter.nf_conntrack_buckets=65536",),
    lines_mend=True,
)
