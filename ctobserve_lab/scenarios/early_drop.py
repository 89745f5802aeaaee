"""Early drop: at its limit the kernel throws out a living entry for each new one."""

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import load, send_udp


def play(stage: Stage) -> Play:
    """499 entries that are not assured in 512 buckets, a limit of as much, and 11 new connections."""
    space = stage.space("evict")
    stage.sysctl("nf_conntrack_buckets", 512)
    load(space, 499, "SEEN_REPLY")
    yield space
    stage.sysctl("nf_conntrack_max", space.count())
    refused = send_udp(space, 11)
    stage.say(f"{refused} of 11 new datagrams were refused, but others lost their entries for them")
    yield space
    stage.say(f"{send_udp(space, 11, 20_000)} of 11 more were refused")


SCENARIO = Scenario(
    title="early drop",
    symptom="connections that were quiet for a while break, new ones are fine",
    does="499 entries that were answered but are not assured fill the table to its limit; 11 new connections come.",
    expect="No packet is lost; for each one or two entries of others are evicted, and the counter early_drop says how many.",
    play=play,
    expected=frozenset({"early_drop"}),
    look=(
        "sysctl net.netfilter.nf_conntrack_max",
        "ip netns exec evict conntrack -S | grep -o ' early_drop=[1-9][0-9]*'",
    ),
    fix=("sysctl -w net.netfilter.nf_conntrack_max=65536",),
    lines_mend=True,
)
