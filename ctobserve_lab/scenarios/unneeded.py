"""Tracking that nobody needs: no rule asks for a connection's state, but an empty NAT chain keeps tracking on."""

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import load


def play(stage: Stage) -> Play:
    """A NAT chain without a rule, and 127 entries."""
    space = stage.space("needless")
    space.run("nft", "flush", "ruleset")
    space.nft("table ip nat { chain post { type nat hook postrouting priority srcnat; }; }")
    space.sysctl("nf_conntrack_events", 0)
    yield space
    load(space, 127)
    stage.say("every packet is tracked, and no rule asks for it")
    yield space
    stage.say("the namespace has no hooks of conntrack any more")


SCENARIO = Scenario(
    title="tracking that nobody needs",
    symptom="tracking costs time that no rule needs; conntrack -E stays silent",
    does="A ruleset without a rule about connections, but with an empty NAT chain, and events switched off.",
    expect="Tracking costs its share of every packet; conntrack -E is silent although entries come and go.",
    play=play,
    notices=frozenset({"tracking_unneeded", "events_off"}),
    look=("ip netns exec needless nft list ruleset", "ip netns exec needless conntrack -C"),
    fix=(
        "ip netns exec needless nft delete table ip nat",
        "ip netns exec needless sysctl -w net.netfilter.nf_conntrack_events=1",
        "ip netns exec needless conntrack -F",
    ),
)
