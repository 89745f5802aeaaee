"""One-way UDP through DNAT that arrives in full: unanswered, kept alive by its packets, and nothing is wrong with it."""

from ctobserve_lab.scenario import Play, Scenario
from ctobserve_lab.scenarios import old_udp_mapping
from ctobserve_lab.scenarios.stale_udp import held
from ctobserve_lab.stage import Stage
from ctobserve_lab.traffic import after_a_jiffy, count_datagrams

PORTS = (5003, 5011, 5017)
EACH = 7


def play(stage: Stage) -> Play:
    """Three senders of syslog, each of which began after the rule came."""
    sender, host, container = (stage.space(role) for role in ("sender", "host", "container"))
    source, at_host = stage.net.link(sender, host)
    stage.net.link(host, container)
    host.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    host.nft("table ip nat { chain pre { type nat hook prerouting priority dstnat; }; }")
    host.nft(old_udp_mapping.RULE)
    sink = held(container, "10.2.0.2", old_udp_mapping.PORT)
    senders = [held(sender, source, port) for port in PORTS]
    old_udp_mapping.send(senders, at_host, 1)
    count_datagrams(sink, len(senders))
    yield host
    after_a_jiffy()
    old_udp_mapping.send(senders, at_host, EACH)
    got = count_datagrams(sink, EACH * len(senders))
    stage.say(f"the container got {sum(got.values())} of {EACH * len(senders)} datagrams, and answers none")
    yield host


SCENARIO = Scenario(
    title="one-way UDP",
    symptom="UDP entries stay UNREPLIED for ever, though every datagram arrives",
    does="Three senders of syslog send 7 datagrams each through DNAT to a container, which reads them and never answers.",
    expect="All arrive. Unanswered is normal for such traffic: the report has nothing to say but that all is well.",
    play=play,
    look=("ip netns exec host conntrack -L -p udp --dport 514",),
)
