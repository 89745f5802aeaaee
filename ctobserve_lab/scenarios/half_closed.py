"""Half-closed connections whose entries time out: what the server still has to say is of no known connection."""

import socket
import time

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import ends_of
from ctobserve_lab.world import Space

COUNT = 7
HALF_CLOSED_S = 1
HEAR_S = 5.0


def play(stage: Stage) -> Play:
    """Clients behind masquerade that send their request and close their half; the server answers later than the timeout."""
    client, router, server = (stage.space(role) for role in ("client", "router", "server"))
    _, gateway = stage.net.link(client, router)
    _, target = stage.net.link(router, server)
    client.run("ip", "route", "add", "default", "via", gateway)
    router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    router.nft("table ip nat { chain post { type nat hook postrouting priority srcnat; oifname v2a masquerade; }; }")
    router.sysctl("nf_conntrack_tcp_timeout_close_wait", HALF_CLOSED_S)
    listener = server.inside(lambda: socket.create_server((target, 80), backlog=COUNT))
    server.sockets.append(listener)
    yield router
    stage.say(f"{heard(client, listener)} of {COUNT} half-closed connections heard the end")
    yield router
    stage.say(f"{heard(client, listener)} of {COUNT} half-closed connections heard the end")


def heard(client: Space, listener: socket.socket) -> int:
    """How many clients see the server close, too, after it has thought for longer than the timeout."""
    asking, answering = ends_of(client, listener, COUNT)
    for one in asking:
        one.shutdown(socket.SHUT_WR)
    for one in answering:
        # The client's FIN is here, so the router has seen it.
        one.settimeout(30)
        assert one.recv(9) == b""
    # The timeout is counted in jiffies, and a second more than one of it.
    time.sleep(HALF_CLOSED_S + 1)
    for one in answering:
        one.shutdown(socket.SHUT_WR)
    end = time.monotonic() + HEAR_S
    return sum(ended(one, max(end - time.monotonic(), 0.01)) for one in asking)


def ended(one: socket.socket, patience_s: float) -> bool:
    """Whether the end of the other side's half comes."""
    one.settimeout(patience_s)
    try:
        return one.recv(9) == b""
    except (TimeoutError, ConnectionResetError):
        return False


SCENARIO = Scenario(
    title="half-closed connections forgotten",
    symptom="half-closed connections hang for ever, and the server sees them reset",
    does="7 clients behind masquerade close their half, and the server its own after nf_conntrack_tcp_timeout_close_wait.",
    expect="Their entries are gone by then: each FIN is INVALID, meets no NAT, and the router itself answers with a RST.",
    play=play,
    expected=frozenset({"late_packets"}),
    look=("ip netns exec router sysctl net.netfilter.nf_conntrack_tcp_timeout_close_wait",),
    fix=("ip netns exec router sysctl -w net.netfilter.nf_conntrack_tcp_timeout_close_wait=3600",),
    lines_mend=True,
)
