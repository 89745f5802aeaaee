"""Hash chains are so long that the kernel refuses new entries in them."""

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import load, send_udp
from ctobserve_lab.world import Space

EACH = 97
BURST = 53 * EACH


def play(stage: Stage) -> Play:
    """7001 entries, two nodes each, in 512 buckets: 27 in a chain, some chains have twice that."""
    space = stage.space("long")
    stage.sysctl("nf_conntrack_buckets", 512)
    yield space
    load(space, 7001)
    stage.say(f"{burst(space, 1)} of {BURST} datagrams were refused, though the table has room")
    yield space
    stage.say(f"{burst(space, 2)} of {BURST} datagrams were refused")


def burst(space: Space, net: int) -> int:
    """Datagrams of 53 clients of a network to 97 ports each; how many were refused."""
    return sum(send_udp(space, EACH, source=f"127.0.{net}.{at}") for at in range(1, BURST // EACH + 1))


SCENARIO = Scenario(
    title="chains too long",
    symptom="some new connections fail though the table is far from full",
    does="The hash is made as small as the kernel allows, 512 buckets, and gets 7001 entries; 5141 datagrams want new ones.",
    expect="Many are lost with reason chaintoolong, which the kernel counts but never logs; every lookup is slow.",
    play=play,
    expected=frozenset({"chain_too_long", "few_buckets"}),
    look=(
        "sysctl net.netfilter.nf_conntrack_buckets",
        "ip netns exec long conntrack -C",
        "ip netns exec long conntrack -S | grep -o ' chaintoolong=[1-9][0-9]*'",
    ),
    fix=("sysctl -w net.netfilter.nf_conntrack_buckets=65536",),
)
