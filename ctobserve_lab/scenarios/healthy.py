"""Nothing is wrong: connections that are answered, in a table with room."""

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import bound, open_tcp


def play(stage: Stage) -> Play:
    """7 TCP connections and one DNS question."""
    client, server = stage.space("client"), stage.space("server")
    source, target = stage.net.link(client, server)
    server.sysctl("nf_conntrack_acct", 1)
    yield server
    open_tcp(server, client, target, 443, 7)
    with server.inside(lambda: bound(target, 53)) as service, client.inside(lambda: bound(source, 5353)) as resolver:
        for at in ("first", "second"):
            resolver.sendto(b"?", (target, 53))
            service.sendto(b"!", service.recvfrom(9)[1])
            resolver.recv(9)
            stage.say(f"7 connections stand, the {at} question got its answer")
            if at == "first":
                yield server


SCENARIO = Scenario(
    title="nothing is wrong",
    symptom="nothing: connections come about, questions get answers",
    does="A client opens 7 TCP connections to a server and asks it one question over UDP.",
    expect="ctobserve report has one verdict: healthy. Only after this does its silence elsewhere mean anything.",
    play=play,
    look=("ip netns exec server conntrack -C", "ip netns exec server conntrack -L -p udp"),
)
