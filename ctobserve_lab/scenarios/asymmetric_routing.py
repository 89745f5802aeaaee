"""Asymmetric routing: the answer comes by another router, whose conntrack never saw the question."""

import errno
import socket
import time

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.world import Space

COUNT = 11
WAIT_S = 5.0


def play(stage: Stage) -> Play:
    """The client asks by way of `there`, the server answers by way of `back`, which drops what is INVALID."""
    client, there, back, server = (stage.space(role) for role in ("client", "there", "back", "server"))
    _, at_there = stage.net.link(client, there)
    _, target = stage.net.link(there, server)
    to_client, _ = stage.net.link(client, back)
    from_back, _ = stage.net.link(back, server)
    for space in (client, there, back, server):
        space.run("sh", "-c", "for one in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $one; done")
        space.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    client.run("ip", "route", "add", "10.2.0.0/24", "via", at_there)
    server.run("ip", "route", "add", "10.1.0.0/24", "via", from_back)
    back.run("ip", "route", "add", "10.1.0.0/24", "via", to_client)
    back.nft("insert rule inet track forward ct state invalid drop")
    server.sockets.append(server.inside(lambda: socket.create_server((target, 443), backlog=2 * COUNT)))
    yield back
    stage.say(f"{client.inside(lambda: connected(client, (target, 443)))} of {COUNT} connections came about in {WAIT_S:.0f} s")
    yield back
    stage.say(f"{client.inside(lambda: connected(client, (target, 443)))} of {COUNT} connections came about")


def connected(client: Space, target: tuple[str, int]) -> int:
    """How many of the connections are established before the time is up."""
    opening = [socket.socket() for _ in range(COUNT)]
    client.sockets += opening
    for one in opening:
        one.setblocking(False)
        one.connect_ex(target)
    end = time.monotonic() + WAIT_S
    done = 0
    while done < COUNT and time.monotonic() < end:
        done = sum(one.connect_ex(target) == errno.EISCONN for one in opening)
    return done


SCENARIO = Scenario(
    title="asymmetric routing",
    symptom="no connection comes about, and each end sees a silent peer",
    does="A client reaches a server by one router; the answers take another, which drops what is INVALID.",
    expect="Every SYN+ACK is INVALID there, for it never saw the SYN; no connection comes about, each end sees a silent peer.",
    play=play,
    expected=frozenset({"asymmetric_routing"}),
    look=(
        "ip netns exec client ip route get 10.2.0.2 | head -1",
        "ip netns exec server ip route get 10.1.0.1 | head -1",
        "ip netns exec back conntrack -C",
    ),
    fix=("ip netns exec server ip route replace 10.1.0.0/24 via 10.2.0.1",),
)
