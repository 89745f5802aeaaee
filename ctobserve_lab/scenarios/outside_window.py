"""Packets outside the TCP window: INVALID, and dropped by every ruleset that drops what is invalid."""

import socket

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import ACK, next_sequence, open_tcp, send_segments


def play(stage: Stage) -> Play:
    """11 segments of a living connection with a sequence number half a gigabyte ahead."""
    client, server = stage.space("client"), stage.space("server")
    source, target = stage.net.link(client, server)
    first: socket.socket = open_tcp(server, client, target, 4040)[0]
    yield server
    sequence = (next_sequence(first) + (1 << 29)) & 0xFFFFFFFF
    for again in (False, True):
        before = server.counters()["invalid"]
        send_segments(client, 11, (source, first.getsockname()[1]), (target, 4040), ACK, sequence)
        stage.say(f"{server.counters()['invalid'] - before} of 11 packets were INVALID on the server")
        if not again:
            yield server


SCENARIO = Scenario(
    title="out of window",
    symptom="a connection hangs, or is reset, in the middle of a transfer",
    does="A client sends 11 segments of a living connection with a sequence number far ahead, as a broken middlebox does.",
    expect="All are INVALID in both namespaces; a ruleset that drops invalid packets makes the connection hang.",
    play=play,
    expected=frozenset({"invalid_window"}),
    look=("ip netns exec server conntrack -S | grep -o ' invalid=[1-9][0-9]*'",),
    fix=(
        "ip netns exec client sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1",
        "ip netns exec server sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1",
    ),
)
