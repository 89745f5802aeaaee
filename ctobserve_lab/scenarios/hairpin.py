"""Hairpin: a port forward used from the server's own network, where the server answers the client past the router."""

import socket

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.scenarios.asymmetric_routing import connected
from ctobserve_lab.stage import Stage
from ctobserve_lab.world import Space

ROUTER, CLIENT, SERVER = "10.9.0.1", "10.9.0.100", "10.9.0.200"
OUTSIDE = "198.51.100.7"
DNAT = f"type nat hook prerouting priority dstnat; ip daddr {OUTSIDE} tcp dport 443 dnat to {SERVER}:443;"
QUIET = "for one in /proc/sys/net/ipv4/conf/*/send_redirects /proc/sys/net/bridge/bridge-nf-call-ip*; do echo 0 > $one; done"


def play(stage: Stage) -> Play:
    """A client and a server on one bridge of the router, whose outside address is forwarded to the server."""
    router, client, server = (stage.space(role) for role in ("router", "client", "server"))
    router.run("ip", "link", "add", "br0", "type", "bridge")
    router.run("ip", "link", "set", "br0", "up")
    router.run("ip", "addr", "add", f"{ROUTER}/24", "dev", "br0")
    router.run("ip", "addr", "add", f"{OUTSIDE}/32", "dev", "lo")
    for space, address in ((client, CLIENT), (server, SERVER)):
        plugged(router, space, address)
    router.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv4/ip_forward; {QUIET} 2> /dev/null; true")
    router.sysctl("nf_conntrack_tcp_timeout_syn_sent", 251)
    router.nft(f"table ip nat {{ chain pre {{ {DNAT} }}; }}")
    server.sockets.append(server.inside(lambda: socket.create_server((SERVER, 443), backlog=31)))
    yield router
    stage.say(f"{client.inside(lambda: connected(client, (OUTSIDE, 443)))} of 11 connections to {OUTSIDE}:443 came about")
    yield router
    stage.say(f"{client.inside(lambda: connected(client, (OUTSIDE, 443)))} of 11 connections to {OUTSIDE}:443 came about")


def plugged(router: Space, space: Space, address: str) -> None:
    """Into the bridge, with the router as its way out."""
    port = f"to-{space.name}"
    router.run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space.name)
    router.run("ip", "link", "set", port, "master", "br0", "up")
    space.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
    space.run("ip", "link", "set", "eth0", "up")
    space.run("ip", "route", "add", "default", "via", ROUTER)


SCENARIO = Scenario(
    title="hairpin without SNAT",
    symptom="a port forward works from outside, and times out from inside",
    does="A client connects 11 times to the router's outside address, which DNAT forwards to a server in the client's network.",
    expect="The server answers the client directly, which knows no such connection; the router's entries stay in SYN_SENT.",
    play=play,
    expected=frozenset({"hairpin"}),
    look=(
        "ip netns exec router conntrack -L -p tcp --state SYN_SENT | head -2",
        "ip netns exec server ip route get 10.9.0.100 | head -1",
    ),
    fix=(
        "ip netns exec router nft add table inet hairpin",
        "ip netns exec router nft 'add chain inet hairpin post { type nat hook postrouting priority srcnat; }'",
        "ip netns exec router nft add rule inet hairpin post ip saddr 10.9.0.0/24 ip daddr 10.9.0.200 tcp dport 443 "
        "ct status dnat masquerade",
        "ip netns exec router conntrack -D -p tcp --orig-src 10.9.0.100 --orig-dst 198.51.100.7 --dport 443 "
        "--reply-src 10.9.0.200 --reply-dst 10.9.0.100 | wc -l",
    ),
    lines_mend=True,
)
