"""A scan: one source, many ports, no answers."""

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import send_udp


def play(stage: Stage) -> Play:
    """113 datagrams to as many closed ports."""
    client, server = stage.space("client"), stage.space("server")
    _, target = stage.net.link(client, server)
    yield client
    send_udp(client, 113, 7000, target)
    stage.say(f"113 ports were tried; the table has {client.count()} entries")
    yield client
    refused = send_udp(client, 113, 7200, target)
    stage.say(f"113 ports more were tried, {refused} of them in vain; the table has {client.count()} entries")


SCENARIO = Scenario(
    title="a scan",
    symptom="many unanswered entries from one address, to ports that nobody uses",
    does="One client sends a datagram to each of 113 closed ports of a server.",
    expect="113 entries that nobody answers, from one source; each stays until its timeout.",
    play=play,
    expected=frozenset({"scan"}),
    notices=frozenset({"acct_off"}),
    look=("ip netns exec client conntrack -L -p udp --dport 7003",),
    fix=(
        "ip netns exec client nft add table ip raw",
        "ip netns exec client nft 'add chain ip raw out { type filter hook output priority raw; }'",
        "ip netns exec client nft add rule ip raw out udp dport 7000-7999 drop",
        "ip netns exec client conntrack -D -p udp --src 10.1.0.1 | wc -l",
    ),
)
