"""The table is full: a new connection finds no room, and nothing in the table may be evicted for it."""

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import open_tcp, send_udp


def play(stage: Stage) -> Play:
    """7 connections, a limit of as much, and 23 datagrams for which there is no room."""
    space = stage.space("full")
    open_tcp(space, space, "127.0.0.1", 4040, 7)
    yield space
    stage.sysctl("nf_conntrack_max", space.count())
    stage.say(f"{send_udp(space, 23)} of 23 datagrams were refused: Operation not permitted")
    yield space
    stage.say(f"{send_udp(space, 23)} of 23 datagrams were refused")


SCENARIO = Scenario(
    title="table full",
    symptom="new connections fail at once (Operation not permitted), old ones go on",
    does="7 established connections fill a table whose limit is then set to what it holds; 23 datagrams want new entries.",
    expect="All 23 are lost with reason table_full; the counter drop says 23, and the kernel's log says it a few times.",
    play=play,
    expected=frozenset({"table_full"}),
    look=(
        "ip netns exec full conntrack -C",
        "sysctl net.netfilter.nf_conntrack_max",
        "ip netns exec full conntrack -S | grep -o ' drop=[1-9][0-9]*'",
        "dmesg | grep -o 'nf_conntrack: .*table full.*' | tail -1",
    ),
    fix=("sysctl -w net.netfilter.nf_conntrack_max=65536",),
)
