"""A backend moved: who always uses one source port is still sent to the old one, for its SYNs keep the old entry."""

import socket

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import after_a_jiffy
from ctobserve_lab.world import Space

OLD, NEW = "10.2.0.3", "10.2.0.2"
SERVICE_PORT = 2049
FIXED, OTHERS = 797, (40_009, 40_013, 40_031)
TRIES, WAIT_S = 3, 2.0
DNAT = (
    "table ip nat {{ chain pre {{ type nat hook prerouting priority dstnat; ip daddr 10.1.0.2 tcp dport 2049 dnat to {}; }}; }}"
)


def play(stage: Stage) -> Play:
    """A client that began with the old backend and always uses one port, and three ports that begin with the new one."""
    client, router, server = (stage.space(role) for role in ("client", "router", "server"))
    source, target = stage.net.link(client, router)
    gateway, _ = stage.net.link(router, server)
    router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    # Below nf_conntrack_tcp_timeout_max_retrans, which would shorten it after a few SYNs.
    router.sysctl("nf_conntrack_tcp_timeout_syn_sent", 251)
    server.run("ip", "route", "add", "default", "via", gateway)
    server.run("ip", "addr", "add", f"{OLD}/24", "dev", "v2b")
    server.nft(f"insert rule inet track input ip daddr {OLD} drop")
    server.sockets.append(server.inside(lambda: socket.create_server((NEW, SERVICE_PORT), backlog=9)))
    router.nft(DNAT.format(OLD))
    connected(client, source, target, FIXED, 1)
    router.nft("delete table ip nat")
    router.nft(DNAT.format(NEW))
    yield router
    after_a_jiffy()
    others = sum(connected(client, source, target, port, 1) for port in OTHERS)
    stage.say(f"{others} of 3 connected from other ports; from port {FIXED} {tried(client, source, target)}")
    yield router
    stage.say(f"from port {FIXED} {tried(client, source, target)}")


def tried(client: Space, source: str, target: str) -> str:
    """How the client that always uses one port fares."""
    if connected(client, source, target, FIXED, TRIES):
        return "it connected"
    return f"{TRIES} attempts timed out"


def connected(client: Space, source: str, target: str, port: int, tries: int) -> bool:
    """Whether a connection from this port comes about; it is open as long as the world."""

    def connect() -> socket.socket | None:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.settimeout(WAIT_S)
        one.bind((source, port))
        try:
            one.connect((target, SERVICE_PORT))
        except TimeoutError:
            one.close()
            return None
        return one

    for _ in range(tries):
        if opened := client.inside(connect):
            client.sockets.append(opened)
            return True
    return False


SCENARIO = Scenario(
    title="a TCP entry older than its rule",
    symptom="a backend moved: the client that always uses one port cannot connect",
    does="A service's DNAT rule changes to a new backend; one client (as NFS does) tries again and again from the same port.",
    expect="Its SYNs keep the entry with the old target, which nobody answers; every other port connects at once.",
    play=play,
    expected=frozenset({"entry_older_than_rule"}),
    look=("ip netns exec router nft list chain ip nat pre | grep dnat", "ip netns exec router conntrack -L -p tcp --sport 797"),
    fix=("ip netns exec router conntrack -D -p tcp --orig-dst 10.1.0.2 --dport 2049 --reply-src 10.2.0.3",),
    lines_mend=True,
)
