"""A tunnel fills the table: each flow inside has a source port of its own outside, and no packet ever answers another."""

from functools import partial

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import bound

PEERS = ("10.1.0.1", "10.1.0.3", "10.1.0.4")
FLOWS = 127  # of each peer
LIMIT = 1009


def play(stage: Stage) -> Play:
    """Packets of VXLAN from three peers, in a table with room for 1009."""
    peers, node = stage.space("peers"), stage.space("node")
    _, target = stage.net.link(peers, node)
    for address in PEERS[1:]:
        peers.run("ip", "addr", "add", f"{address}/24", "dev", "v1a")
    # What nobody receives is answered with an ICMP error.
    peers.sockets.append(node.inside(lambda: bound(target, 4789)))
    yield node
    for first in (20_000, 30_000):
        # Others are tracked, whatever becomes of the tunnel.
        peers.run("ping", "-c1", target)
        peers.inside(partial(send, target, range(first, first + FLOWS)))
        if first == 20_000:
            stage.sysctl("nf_conntrack_max", LIMIT)
        stage.say(f"{3 * FLOWS} flows went through the tunnel, and a ping; {node.count()} entries")
        if first == 20_000:
            yield node


def send(target: str, ports: range) -> None:
    """A packet of each peer from each of these ports, as one of each flow inside."""
    for address in PEERS:
        for port in ports:
            with bound(address, port) as one:
                one.sendto(b"x", (target, 4789))


SCENARIO = Scenario(
    title="a tunnel fills the table",
    symptom="a table fills with UNREPLIED entries to one UDP port, between few hosts",
    does="Three peers send 381 flows through a VXLAN tunnel, each from a source port of its own, as VXLAN does.",
    expect="Each makes an entry that no packet ever answers: the other direction goes to the same port, from other ones.",
    play=play,
    expected=frozenset({"tunnel_oneway"}),
    look=("ip netns exec node conntrack -L -p udp --dport 4789 | grep -c UNREPLIED",),
    fix=(
        "ip netns exec node nft add table inet tunnels",
        "ip netns exec node nft 'add chain inet tunnels coming { type filter hook prerouting priority raw; }'",
        "ip netns exec node nft add rule inet tunnels coming udp dport 4789 notrack",
        "ip netns exec node conntrack -D -p udp --dport 4789 | wc -l",
    ),
    lines_mend=True,
)
