"""Half of each connection: packets of one side only come by here, and make entries that never see an answer."""

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import ACK, send_segments


def play(stage: Stage) -> Play:
    """13 connections of which only the client's packets are seen; nf_conntrack_tcp_loose takes them for established."""
    client, server = stage.space("client"), stage.space("server")
    source, target = stage.net.link(client, server)
    server.nft("table ip raw { chain out { type filter hook output priority raw; tcp flags rst drop; }; }")
    yield server
    for first in (50_000, 60_000):
        for port in range(first, first + 13):
            send_segments(client, 1, (source, port), (target, 443), ACK, 1)
        unanswered = [line for line in server.listed("-p", "tcp") if "UNREPLIED" in line and f"sport={first // 10000}" in line]
        stage.say(f"13 connections went by, of {len(unanswered)} only one side was seen")
        if first == 50_000:
            yield server


SCENARIO = Scenario(
    title="one side speaks",
    symptom="a router shows connections with packets in one direction only",
    does="Of 13 old connections only one side's packets pass here; the answers go another way (in small: are dropped).",
    expect="13 entries in ESTABLISHED that are UNREPLIED: picked up in the middle, and never answered.",
    play=play,
    expected=frozenset({"asymmetric_routing"}),
    look=("ip netns exec server conntrack -L -p tcp --sport 50003",),
    fix=(
        "ip netns exec server nft delete table ip raw",
        "ip netns exec server conntrack -D -p tcp | wc -l",
    ),
)
