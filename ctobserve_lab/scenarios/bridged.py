"""Bridged packets are tracked and changed by NAT: br_netfilter passes them through IP hooks."""

from pathlib import Path

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import bound
from ctobserve_lab.world import Space

NAT = "table ip nat { chain post { type nat hook postrouting priority srcnat; ip saddr 10.77.0.0/24 masquerade; }; }"
ASKED = 7


def play(stage: Stage) -> Play:
    """Two containers on one bridge, on a host whose masquerade rule does not ask by which device a packet leaves."""
    stage.module("br_netfilter", Path("/proc/sys/net/bridge"))
    host, one, two = (stage.space(role) for role in ("host", "one", "two"))
    host.run("ip", "link", "add", "br0", "type", "bridge")
    host.run("ip", "addr", "add", "10.77.0.1/24", "dev", "br0")
    host.run("ip", "link", "set", "br0", "up")
    for number, space in ((2, one), (3, two)):
        plug(host, space, number)
    host.nft(NAT)
    host.run("sysctl", "-w", "net.bridge.bridge-nf-call-iptables=1")
    asking = [one.inside(lambda: bound("10.77.0.2", 0)) for _ in range(ASKED)]
    service = two.inside(lambda: bound("10.77.0.3", 53))
    one.sockets += asking
    two.sockets.append(service)
    for act in range(2):
        if not act:
            yield host
        sources = set()
        for socket in asking:
            socket.sendto(b"?", ("10.77.0.3", 53))
            sources.add(service.recvfrom(9)[1][0])
        stage.say(f"{ASKED} questions of 10.77.0.2 to its neighbour 10.77.0.3 came from {', '.join(sources)}")
        if not act:
            yield host


def plug(host: Space, space: Space, number: int) -> None:
    """Another namespace becomes a port of the bridge."""
    host.run("ip", "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", space.name)
    host.run("ip", "link", "set", f"port{number}", "master", "br0", "up")
    space.run("ip", "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
    space.run("ip", "link", "set", "eth0", "up")


SCENARIO = Scenario(
    title="bridged packets are tracked",
    symptom="containers on one bridge see each other with the host's address",
    does="A host's bridge passes packets through IP hooks, and a masquerade rule does not ask by which device they leave.",
    expect="Packets that never leave the bridge have entries on the host, and NAT changes them; without br_netfilter neither.",
    play=play,
    expected=frozenset({"tracked_twice"}),
    look=(
        "ip netns exec host sysctl net.bridge.bridge-nf-call-iptables",
        "ip netns exec host conntrack -L -p udp --dport 53 | head -1",
    ),
    fix=("ip netns exec host sysctl -w net.bridge.bridge-nf-call-iptables=0",),
    lines_mend=True,
)
