"""Offloaded entries: a flow table passes the packets on, and conntrack sees none of them."""

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import open_tcp, paired

COUNT = 3
FAST = """table inet fast {
  flowtable f { hook ingress priority 0; devices = { v1b, v2a }; }
  chain go { type filter hook forward priority 0; tcp dport 4040 flow add @f; }
}"""


def play(stage: Stage) -> Play:
    """3 connections by way of a router with a flow table, and one that it does not take."""
    client, router, server = (stage.space(role) for role in ("client", "router", "server"))
    _, gate = stage.net.link(client, router)
    back, target = stage.net.link(router, server)
    router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    client.run("ip", "route", "add", "default", "via", gate)
    server.run("ip", "route", "add", "default", "via", back)
    router.nft(FAST)
    open_tcp(server, client, target, 443)
    yield router
    for one, other in paired(open_tcp(server, client, target, 4040, COUNT)[:-1]):
        for _ in range(3):
            one.sendall(b"?")
            other.recv(1)
            other.sendall(b"!")
            one.recv(1)
    stage.say(f"{COUNT + 1} connections work; conntrack -L shows {COUNT} of them without a state or a timeout")
    yield router


SCENARIO = Scenario(
    title="offloaded entries",
    symptom="conntrack -L prints [OFFLOAD], and neither state nor timeout",
    does="A router has a flow table; 3 connections of 4 that go through it are taken into that.",
    expect="They are listed as offloaded, with neither state nor timeout, and called neither idle nor stale.",
    play=play,
    notices=frozenset({"offloaded"}),
    look=(
        "ip netns exec router conntrack -L -p tcp | grep -c OFFLOAD",
        "ip netns exec router nft list flowtables",
    ),
)
