"""A syslog container starts: who sent before its DNAT rule came is still sent to the host, and only new senders reach it."""

import socket

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.scenarios.stale_udp import held
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import after_a_jiffy, count_datagrams
from ctobserve_lab.world import Space

PORT = 514
OLD, NEW = (5003, 5011), 5017
EACH = 7
RULE = "add rule ip nat pre iifname v1b udp dport 514 dnat to 10.2.0.2:514"


def play(stage: Stage) -> Play:
    """Two senders that began with the host itself, which reads nothing, and one that begins with the container."""
    sender, host, container = (stage.space(role) for role in ("sender", "host", "container"))
    source, at_host = stage.net.link(sender, host)
    stage.net.link(host, container)
    host.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    host.nft("table ip nat { chain pre { type nat hook prerouting priority dstnat; }; }")
    held(host, at_host, PORT)
    sink = held(container, "10.2.0.2", PORT)
    old = [held(sender, source, port) for port in OLD]
    send(old, at_host, 1)
    host.nft(RULE)
    yield host
    after_a_jiffy()
    senders = [*old, held(sender, source, NEW)]
    stage.say(arrived(senders, at_host, sink, host))
    yield host
    stage.say(arrived(senders, at_host, sink, host))


def arrived(senders: list[socket.socket], target: str, sink: socket.socket, host: Space) -> str:
    """How many datagrams of each sender reach the container."""
    send(senders, target, EACH)
    got = count_datagrams(sink, EACH * len(senders))
    listed = ", ".join(f"{got.get(port, 0)} of {EACH} from port {port}" for port in (*OLD, NEW))
    return f"the container got {listed}; the host has {len(host.listed('-p', 'udp'))} entries"


def send(senders: list[socket.socket], target: str, count: int) -> None:
    """So many datagrams from each."""
    for one in senders:
        for _ in range(count):
            one.sendto(b"<13>x", (target, PORT))


SCENARIO = Scenario(
    title="UDP entries older than their rule",
    symptom="a container restarted: syslog of old senders is lost, of new ones not",
    does="Two senders of syslog go on while the DNAT rule of a container comes; a third begins after it. Nobody ever answers.",
    expect="The first two have entries without NAT that their packets keep alive; only the third one's datagrams arrive.",
    play=play,
    expected=frozenset({"entry_older_than_rule"}),
    look=("ip netns exec host nft list chain ip nat pre | grep dnat", "ip netns exec host conntrack -L -p udp --dport 514"),
    fix=("ip netns exec host conntrack -D -p udp --orig-dst 10.1.0.2 --dport 514 --reply-src 10.1.0.2",),
    lines_mend=True,
)
