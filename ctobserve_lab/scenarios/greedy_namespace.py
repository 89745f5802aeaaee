"""One namespace makes the lookups of all others slow: they share one hash."""

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import load


def play(stage: Stage) -> Play:
    """601 entries of one namespace and 53 of another in 512 buckets."""
    big, small = stage.space("big"), stage.space("small")
    stage.sysctl("nf_conntrack_buckets", 512)
    yield None
    load(big, 601)
    load(small, 53)
    stage.say("the small namespace has 53 entries, but its packets walk over the big one's 601")
    yield None
    load(small, 47, target="10.61.0.1")
    stage.say("47 connections more in the small one, in short chains")


SCENARIO = Scenario(
    title="one namespace starves others",
    symptom="a small container's network is slow, though its own table is nearly empty",
    does="Two namespaces share the hash, as all do: a big one with 601 entries, a small one with 53, in 512 buckets.",
    expect="Each has its own count and limit, yet the small one's lookups are slow: seen from inside, nothing is wrong.",
    play=play,
    expected=frozenset({"netns_share"}),
    look=("ip netns exec small conntrack -C", "ip netns exec big conntrack -C"),
    fix=("sysctl -w net.netfilter.nf_conntrack_buckets=65536",),
)
