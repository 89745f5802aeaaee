"""Nothing is tracked: a notrack rule takes every packet out before NAT, and private addresses leave."""

import socket

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import bound

NAT = "table ip nat { chain post { type nat hook postrouting priority srcnat; oifname v2a masquerade; }; }"
NOTRACK = "table inet untracked { chain pre { type filter hook prerouting priority raw; notrack; }; }"
COUNT = 11


def play(stage: Stage) -> Play:
    """A client sends by way of a router that is to hide its address."""
    client, router, server = (stage.space(role) for role in ("client", "router", "server"))
    _, gateway = stage.net.link(client, router)
    outside, target = stage.net.link(router, server)
    client.run("ip", "route", "add", "10.2.0.0/24", "via", gateway)
    router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    server.run("ip", "route", "add", "10.1.0.0/24", "via", outside)
    router.nft("flush ruleset")
    router.nft(NAT)
    router.nft(NOTRACK)
    sender, service = client.inside(lambda: bound("10.1.0.1", 5353)), server.inside(lambda: bound(target, 514))
    client.sockets.append(sender)
    server.sockets.append(service)
    yield router
    stage.say(seen(sender, service, target))
    yield router
    stage.say(seen(sender, service, target))


def seen(sender: socket.socket, service: socket.socket, target: str) -> str:
    """From which address datagrams arrive."""
    for _ in range(COUNT):
        sender.sendto(b"x", (target, 514))
    addresses = [service.recvfrom(9)[1][0] for _ in range(COUNT)]
    return ", ".join(f"{addresses.count(one)} of {COUNT} datagrams came from {one}" for one in sorted(set(addresses)))


SCENARIO = Scenario(
    title="nothing is tracked",
    symptom="conntrack -L is empty though packets pass, and NAT does nothing",
    does="A router masquerades, and a notrack rule without a condition takes every packet out of conntrack's sight before.",
    expect="No entry, no loss, no counter moves; the client's own address leaves. An empty table is no sign of health.",
    play=play,
    expected=frozenset({"nothing_tracked"}),
    look=("ip netns exec router conntrack -C", "ip netns exec router nft list ruleset"),
    fix=("ip netns exec router nft delete table inet untracked",),
    lines_mend=True,
)
