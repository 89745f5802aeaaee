"""A stale UDP entry: the service's backend changed, and whoever goes on sending is still sent to the old one."""

import socket

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import after_a_jiffy, bound
from ctobserve_lab.world import Space

SERVICE = ("10.96.0.1", 53)
OLD = "10.1.0.3"
DNAT = "table ip nat {{ chain out {{ type nat hook output priority -100; ip daddr 10.96.0.1 udp dport 53 dnat to {}; }}; }}"


def play(stage: Stage) -> Play:
    """A client that began with the old backend, and one that begins with the new."""
    client, server = stage.space("client"), stage.space("server")
    source, target = stage.net.link(client, server)
    server.run("ip", "addr", "add", f"{OLD}/24", "dev", "v1b")
    client.run("ip", "route", "add", "10.96.0.0/16", "via", target)
    client.nft(DNAT.format(OLD))
    old = held(client, source, 5353)
    service = held(server, target, 53)
    old.connect(SERVICE)
    old.send(b"?")
    client.nft("delete table ip nat")
    client.nft(DNAT.format(target))
    yield client
    after_a_jiffy()
    send_past_errors(old)
    fresh = held(client, source, 5354)
    fresh.sendto(b"?", SERVICE)
    service.sendto(b"!", service.recvfrom(9)[1])
    stage.say(f"the new client got {answer(fresh)}; the old one got {answer(old)}")
    yield client
    send_past_errors(old)
    service.settimeout(2)
    try:
        while True:
            service.sendto(b"!", service.recvfrom(9)[1])
    except TimeoutError:
        stage.say(f"the old client asked again and got {answer(old)}")


def held(space: Space, address: str, port: int) -> socket.socket:
    """A UDP socket that stays open as long as the world."""
    space.sockets.append(space.inside(lambda: bound(address, port)))
    return space.sockets[-1]


def send_past_errors(one: socket.socket) -> None:
    """An ICMP error that came for the last datagram is told at the next."""
    for _ in range(2):
        try:
            one.send(b"?")
        except ConnectionRefusedError:
            continue


def answer(one: socket.socket) -> str:
    """What comes to this socket."""
    try:
        one.recv(9)
        return "its answer"
    except ConnectionRefusedError:
        return "connection refused"
    except TimeoutError:
        return "no answer"


SCENARIO = Scenario(
    title="stale UDP after a backend change",
    symptom="after a rollout one resolver times out until it is restarted, others are fine",
    does="A service's DNAT rule changes to a new backend while one client goes on sending from the same port, as resolvers do.",
    expect="New clients get answers; the old one's entry still points to the old backend, and each packet keeps it alive.",
    play=play,
    expected=frozenset({"stale_udp"}),
    look=("ip netns exec client nft list chain ip nat out | grep dnat", "ip netns exec client conntrack -L -p udp --sport 5353"),
    fix=("ip netns exec client conntrack -D -p udp --orig-dst 10.96.0.1 --reply-src 10.1.0.3",),
    lines_mend=True,
)
