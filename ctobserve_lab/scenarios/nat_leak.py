"""INVALID packets pass NAT untranslated: the reset of a connection whose entry timed out leaves with its private source."""

import socket
import struct
import time

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import ends_of

COUNT = 13
IDLE_S = 1


def play(stage: Stage) -> Play:
    """Clients behind masquerade idle for longer than their entries live, then reset their connections."""
    client, router, server = (stage.space(role) for role in ("client", "router", "server"))
    _, gateway = stage.net.link(client, router)
    _, target = stage.net.link(router, server)
    client.run("ip", "route", "add", "default", "via", gateway)
    server.run("ip", "route", "add", "default", "via", "10.2.0.1")
    router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    router.nft("table ip nat { chain post { type nat hook postrouting priority srcnat; oifname v2a masquerade; }; }")
    router.sysctl("nf_conntrack_tcp_timeout_established", IDLE_S)
    # Who counts sees what nobody should: private sources.
    server.nft("table ip seen { chain in { type filter hook prerouting priority raw; ip saddr 10.1.0.0/24 counter drop; }; }")
    listener = server.inside(lambda: socket.create_server((target, 80), backlog=COUNT))
    server.sockets.append(listener)
    yield router
    for again in (False, True):
        before = leaked(server.run("nft", "list", "table", "ip", "seen"))
        asking, _ = ends_of(client, listener, COUNT)
        # The timeout is counted in jiffies, and a second more than one of it.
        time.sleep(IDLE_S + 1)
        for one in asking:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
        came = leaked(server.run("nft", "list", "table", "ip", "seen")) - before
        stage.say(f"{came} packets came to the server from private addresses")
        if not again:
            yield router


def leaked(listed: str) -> int:
    """What the counter says."""
    return int(listed.partition("counter packets ")[2].split()[0])


SCENARIO = Scenario(
    title="private addresses leak",
    symptom="private addresses are seen outside, behind a device that masquerades",
    does="13 clients behind masquerade idle for longer than nf_conntrack_tcp_timeout_established, then reset their connections.",
    expect="Each RST is INVALID, and NAT leaves it as it is: it leaves with the client's own address, and resets nothing.",
    play=play,
    expected=frozenset({"untranslated"}),
    look=("ip netns exec server nft list table ip seen | grep counter",),
    fix=(
        "ip netns exec router nft add table inet invalid_out",
        "ip netns exec router nft 'add chain inet invalid_out forwarded { type filter hook forward priority filter; }'",
        "ip netns exec router nft add rule inet invalid_out forwarded ct state invalid drop",
    ),
    lines_mend=True,
)
