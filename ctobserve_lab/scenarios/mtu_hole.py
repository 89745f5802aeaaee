"""A path MTU black hole: who is told that its packets are too big does not hear it, as a rule drops what is INVALID."""

import errno
import socket

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import bound
from ctobserve_lab.world import Space

COUNT = 11
MTU, LARGE = 1300, 1400  # bytes: of the narrow link, and of a datagram that is not to be fragmented
MTU_DISCOVER, DO = 10, 2  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
RULES = """
table ip raw { chain out { type filter hook output priority raw; udp dport 8080 notrack; }; }
table inet filter { chain input { type filter hook input priority filter; ct state invalid drop; ct state established accept; }; }
"""


def play(stage: Stage) -> Play:
    """The client's datagrams are not tracked, so the router's errors about them are of no known connection."""
    client, router, server = (stage.space(role) for role in ("client", "router", "server"))
    _, gateway = stage.net.link(client, router)
    _, target = stage.net.link(router, server)
    client.run("ip", "route", "add", "default", "via", gateway)
    server.run("ip", "route", "add", "default", "via", "10.2.0.1")
    router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    router.run("ip", "link", "set", "v2a", "mtu", str(MTU))
    client.nft(RULES)
    # Its ICMP error would be one more that is refused: somebody has to be there.
    server.sockets.append(server.inside(lambda: bound(target, 8080)))
    yield client
    for again in (False, True):
        stage.say(f"{client.inside(lambda: refused(client, target))} of {COUNT} large datagrams were known to be too large")
        if not again:
            yield client


def refused(client: Space, target: str) -> int:
    """How many datagrams the sender's own kernel refuses, as it was told the MTU of the path."""
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.sockets.append(one)
    one.setsockopt(socket.IPPROTO_IP, MTU_DISCOVER, DO)
    one.connect((target, 8080))
    known = 0
    for _ in range(COUNT):
        try:
            one.send(bytes(LARGE))
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            known += 1
    return known


SCENARIO = Scenario(
    title="path MTU black hole",
    symptom="small packets get through, large ones vanish: connections hang with data",
    does="A client sends 11 datagrams that a link on their way is too narrow for; they are not tracked, by a notrack rule.",
    expect="The router's 'fragmentation needed' matches no entry, is INVALID and dropped: the client never learns the MTU.",
    play=play,
    expected=frozenset({"icmp_refused"}),
    look=("ip netns exec client conntrack -S | grep -o ' error=[1-9][0-9]*'",),
    fix=("ip netns exec client nft 'insert rule inet filter input icmp type destination-unreachable accept'",),
    lines_mend=True,
)
