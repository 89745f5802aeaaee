"""A table full of entries that nobody can list: packets that wait for a verdict hold them, and their reader hangs."""

import sys
from pathlib import Path

from ctobserve_lab import hold_queue
from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import send_udp

QUEUED = "table inet ids { chain out { type filter hook output priority filter; udp dport < 20000 ct state new queue num 0; }; }"


def play(stage: Stage) -> Play:
    """97 datagrams wait in a queue, under a limit of as much; 23 more are refused."""
    space = stage.space("held")
    space.nft(QUEUED)
    space.keep(sys.executable, str(Path(hold_queue.__file__)), "0")
    yield space
    send_udp(space, 97)
    stage.sysctl("nf_conntrack_max", space.count())
    refused = send_udp(space, 23, first_port=20000)
    stage.say(f"{refused} of 23 datagrams were refused: {space.count()} entries are counted, {len(space.listed())} are listed")
    yield space
    stage.say(f"{send_udp(space, 23, first_port=20000)} of 23 datagrams were refused, with {space.count()} entries")


SCENARIO = Scenario(
    title="entries that nobody can list",
    symptom="the log says that the table is full, conntrack -L shows next to nothing",
    does="A rule gives new datagrams to a program's queue, as an IDS has it; the program hangs, and 97 wait in a table for 97.",
    expect="Their entries are counted, though in no chain: nothing lists, times out or evicts them. A larger table fills, too.",
    play=play,
    expected=frozenset({"entries_unlisted", "table_full"}),
    look=(
        "ip netns exec held conntrack -C",
        "ip netns exec held conntrack -L",
        'ip netns exec held cat /proc/net/netfilter/nfnetlink_queue | awk \'{ print "queue " $1 ": " $3 " packets wait" }\'',
    ),
    fix=(
        "kill $(ip netns exec held awk '{ print $2 }' /proc/net/netfilter/nfnetlink_queue)",
        "ip netns exec held nft delete table inet ids",
    ),
    lines_mend=True,
)
