"""Wrong checksums: INVALID, and dropped by every ruleset that drops what is invalid."""

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import SYN, send_segments

COUNT = 29


def play(stage: Stage) -> Play:
    """SYNs as a tunnel sends them whose device was to make the checksum, and does not."""
    client, server = stage.space("client"), stage.space("server")
    source, target = stage.net.link(client, server)
    server.nft("insert rule inet track input ct state invalid drop")
    yield server
    for first in (40_000, 50_000):
        before = server.counters()["invalid"]
        for port in range(first, first + COUNT):
            send_segments(client, 1, (source, port), (target, 443), SYN, 1, spoil=1)
        stage.say(f"{server.counters()['invalid'] - before} of {COUNT} SYNs were INVALID on the server")
        if first == 40_000:
            yield server


SCENARIO = Scenario(
    title="wrong checksums",
    symptom="connections through a tunnel time out, though tcpdump sees each SYN come",
    does="29 SYNs come with a wrong checksum, and a rule drops what is INVALID.",
    expect="tcpdump says 'incorrect' and takes it for offloading; conntrack does not, and no counter but `invalid` moves.",
    play=play,
    expected=frozenset({"bad_checksum"}),
    look=("ip netns exec server conntrack -S | grep -o ' invalid=[1-9][0-9]*'",),
    fix=("ip netns exec server sysctl -w net.netfilter.nf_conntrack_checksum=0",),
    lines_mend=True,
)
