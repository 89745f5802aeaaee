"""A state fills the table: somebody set its timeout far above the kernel's default, and half-closed connections stay."""

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import load

TIMEOUT = "nf_conntrack_tcp_timeout_close_wait"
TIMEOUT_S, LEFT_S = 3600, 1800


def play(stage: Stage) -> Play:
    """307 entries in CLOSE_WAIT, idle for half an hour of the hour that they have."""
    space = stage.space("halfway")
    space.sysctl(TIMEOUT, TIMEOUT_S)
    load(space, 307, proto="tcp", tcp_state="CLOSE_WAIT", left_s=LEFT_S, sources=7)
    load(space, 53, proto="tcp", left_s=432_000, target="10.61.0.1")
    yield space
    stage.sysctl("nf_conntrack_max", 1009)
    stage.say("nobody notices anything yet; a third of the table is connections that one end has closed")
    yield space
    load(space, 53, proto="tcp", tcp_state="CLOSE_WAIT", left_s=60, target="10.62.0.1")
    stage.say("53 new ones in CLOSE_WAIT, and room for many")


SCENARIO = Scenario(
    title="a state that piles up",
    symptom="the table fills with CLOSE_WAIT, or another state of what has ended",
    does="307 entries wait in CLOSE_WAIT, whose timeout is an hour instead of a minute, in a table with room for 1009.",
    expect="No application is to blame: with the kernel's default all of them would have been gone half an hour ago.",
    play=play,
    expected=frozenset({"state_piles_up"}),
    look=(
        "ip netns exec halfway conntrack -L -p tcp --state CLOSE_WAIT | wc -l",
        f"ip netns exec halfway sysctl net.netfilter.{TIMEOUT}",
    ),
    fix=(
        f"ip netns exec halfway sysctl -w net.netfilter.{TIMEOUT}=60",
        "ip netns exec halfway conntrack -D -p tcp --state CLOSE_WAIT | wc -l",
    ),
    lines_mend=True,
)
