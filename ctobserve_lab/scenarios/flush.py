"""The table is flushed under load: living connections lose their entries, and so their NAT."""

import socket

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import bound, open_tcp


def play(stage: Stage) -> Play:
    """7 TCP connections and a UDP flow, by way of a DNAT rule that is gone; then `conntrack -F`."""
    client, server = stage.space("client"), stage.space("server")
    source, target = stage.net.link(client, server)
    client.run("ip", "route", "add", "10.96.0.0/16", "via", target)
    client.nft(f"table ip nat {{ chain out {{ type nat hook output priority -100; ip daddr 10.96.0.1 dnat to {target}; }}; }}")
    opened = open_tcp(server, client, target, 443, 7)
    service, one = server.inside(lambda: bound(target, 53)), client.inside(lambda: bound(source, 5353))
    client.sockets += [service, one]
    one.connect(("10.96.0.1", 53))
    stage_of: list[socket.socket] = [*opened[:7]]
    yield client
    for order in ("first", "second"):
        one.send(b"?")
        service.sendto(b"!", service.recvfrom(9)[1])
        one.recv(9)
        if order == "first":
            client.run("conntrack", "-F")
        for connection in stage_of:
            connection.sendall(b"after")
        stage.say(f"the {order} question got its answer; {client.count()} entries afterwards")
        if order == "first":
            yield client


SCENARIO = Scenario(
    title="flush under load",
    symptom="connections were reset, or changed their backend, at one moment",
    does="7 TCP connections and a UDP flow through DNAT live, someone runs conntrack -F, and the TCP connections go on.",
    expect="8 entries leave with reason flushed, by a process that ctobserve names; TCP is picked up again in the middle.",
    play=play,
    look=("ip netns exec client conntrack -L -p tcp | head -1",),
    observe="events --events destroy",
    expected=frozenset({"entries_deleted"}),
)
