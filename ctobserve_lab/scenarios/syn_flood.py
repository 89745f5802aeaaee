"""A SYN flood: half-open connections from many sources that never end their handshake."""

import socket
import time

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import SYN, send_segments
from ctobserve_lab.world import Space

COUNT = 61
LATE = 11


def play(stage: Stage) -> Play:
    """One SYN from each of 61 forged sources, whose answers go nowhere."""
    client, server = stage.space("client"), stage.space("server")
    source, target = stage.net.link(client, server)
    server.run("ip", "route", "add", "default", "via", source)
    server.sockets.append(server.inside(lambda: socket.create_server((target, 443))))
    yield server
    flood(client, target, 77)
    stage.say(f"{COUNT} SYNs made {arrived(server)} entries")
    yield server
    late_answers(server)
    flood(client, target, 78)
    stage.say(f"{COUNT} SYNs more; the table has {server.count()} entries")


def flood(client: Space, target: str, net: int) -> None:
    """One SYN from each of the sources."""
    for at in range(COUNT):
        send_segments(client, 1, (f"10.{net}.0.{at + 1}", 40_000), (target, 443), SYN, 1)


def arrived(server: Space) -> int:
    """How many entries there are when all have come."""
    end = time.monotonic() + 30
    while (found := server.count()) < COUNT and time.monotonic() < end:
        time.sleep(0.1)
    return found


def late_answers(server: Space) -> None:
    """Wait for the server's further answers to the first SYNs: without their entries, which the fix deletes, they are INVALID.

    For as many as a report would speak of, were they a router's and not the server's own.
    """
    end = time.monotonic() + 10
    while server.counters()["invalid"] < LATE and time.monotonic() < end:
        time.sleep(0.1)


SCENARIO = Scenario(
    title="SYN flood",
    symptom="a service hardly answers, and has many half-open connections",
    does="A server gets one SYN from each of 61 forged sources; its answers go nowhere.",
    expect="61 half-open entries in SYN_RECV to one service; with enough of them the table is full.",
    play=play,
    expected=frozenset({"syn_flood"}),
    look=("ip netns exec server conntrack -L -p tcp --src 10.77.0.3",),
    fix=(
        "ip netns exec server nft add table ip raw",
        "ip netns exec server nft 'add chain ip raw pre { type filter hook prerouting priority raw; }'",
        "ip netns exec server nft 'add rule ip raw pre tcp dport 443 tcp flags syn limit rate over 10/second drop'",
        "ip netns exec server conntrack -D -p tcp --state SYN_RECV | wc -l",
    ),
)
