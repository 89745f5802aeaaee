"""Port exhaustion behind SNAT: more connections to one service than ports to tell them apart."""

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import send_udp


def play(stage: Stage) -> Play:
    """6 flows to one service, and one port to map them to."""
    client, server = stage.space("client"), stage.space("server")
    source, target = stage.net.link(client, server)
    nat = f"type nat hook postrouting priority srcnat; ip daddr {target} udp dport 9 snat to {source}:7777;"
    client.nft(f"table ip nat {{ chain post {{ {nat} }}; }}")
    yield client
    for first in (3001, 4001):
        refused = sum(send_udp(client, 1, 9, target, port) for port in range(first, first + 6))
        stage.say(f"{refused} of 6 flows to {target}:9 were refused")
        if first == 3001:
            yield client


SCENARIO = Scenario(
    title="SNAT ports exhausted",
    symptom="some connections to one busy service fail, all others work",
    does="A client maps its flows to one service to a single source port, and starts 6 of them.",
    expect="One is mapped, 5 are lost as clash: drop and insert_failed move by 5, and no log says why.",
    play=play,
    expected=frozenset({"snat_ports"}),
    look=(
        "ip netns exec client conntrack -L -p udp",
        "ip netns exec client conntrack -S | grep -o ' insert_failed=[1-9][0-9]* drop=[1-9][0-9]*'",
    ),
    fix=(
        "ip netns exec client nft flush chain ip nat post",
        "ip netns exec client nft add rule ip nat post ip daddr 10.1.0.2 udp dport 9 snat to 10.1.0.1:7000-7999",
    ),
)
