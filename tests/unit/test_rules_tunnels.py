"""Checksums and tunnels: of every protocol, and what looks like one and is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ctobserve.diagnosis import rules
from ctobserve.diagnosis.rules.tunnels import PORTS
from ctobserve.diagnosis.verdict import Severity
from ctobserve.event import DropReason
from ctobserve.model import GRE, ICMPV6, IPS_DST_NAT, IPS_HELPER, IPS_SRC_NAT, SCTP, TCP, UDP
from tests.unit.cases import RULES, bad, tunnelled
from tests.unit.tables import NETNS, REPLIED, UNREPLIED, entries, evidence, losses, many, namespace

CHECKSUM, TUNNEL = RULES["bad_checksum"], RULES["tunnel_oneway"]
SERVICE, LOOPBACK = RULES["notrack_service"], RULES["notrack_loopback"]


def spoilt(count: int, proto: int = TCP, text: bytes = b"bad checksum", **columns):
    lost = losses(entries(count, proto=proto), DropReason.INVALID, text=text, **columns)
    return evidence(losses=lost, drops={"invalid": count})


@pytest.mark.parametrize(
    ("proto", "text", "name"),
    [
        (TCP, b"bad checksum", "tcp"),
        (UDP, b"bad checksum", "udp"),
        (ICMPV6, b"ICMPv6 checksum failed", "icmpv6"),
        (SCTP, b"nf_ct_sctp: bad CRC ", "sctp"),
    ],
)
def test_a_bad_checksum_of_any_protocol(proto, text, name):
    made = spoilt(7, proto, text)
    found = CHECKSUM(made)
    assert found.severity is Severity.WARNING and f"7 {name}, the first" in found.sentence
    assert found.evidence["proto"] == name and found.evidence["kernel_says"] == [text.decode().strip()]
    assert rules.judge(made).verdicts.keys() == {"bad_checksum"}


def test_devices_are_counted_and_may_be_unknown():
    devices = [b"vx0"] * 4 + [b"eth0"] * 2 + [b""]
    found = CHECKSUM(spoilt(7, device=devices))
    assert "4 on vx0, 2 on eth0" in found.sentence
    assert (found.evidence["device"], found.evidence["devices"]) == ("vx0", 2)
    unknown = CHECKSUM(spoilt(7))
    assert ", at prerouting: " in unknown.sentence and unknown.evidence["device"] is None


def test_one_spoilt_packet_now_and_then_is_no_alarm():
    assert CHECKSUM(spoilt(4)).severity is Severity.NOTICE and CHECKSUM(spoilt(5)).severity is Severity.WARNING
    assert CHECKSUM(bad(30)) is None


@pytest.mark.parametrize("port", PORTS)
def test_a_tunnel_is_known_by_its_port(port):
    found = TUNNEL(tunnelled(dport=port))
    assert found.evidence["tunnel"] == PORTS[port] and found.evidence["dport"] == port
    assert f"udp dport {port} notrack" in found.do[3] and found.do[-1].endswith(f"conntrack -D -p udp --dport {port}")


def test_numbers_of_a_tunnel():
    numbers = TUNNEL(tunnelled()).evidence
    assert (numbers["sources"], numbers["ports"], numbers["entries"], numbers["limit"]) == (3, 3000, 3000, 10_000)
    assert (numbers["share_of_entries"], numbers["share_of_limit"]) == (1.0, 0.3)


@pytest.mark.parametrize(
    ("made", "severity"),
    [
        (tunnelled(2500), Severity.WARNING),
        (tunnelled(2499), Severity.NOTICE),
        (tunnelled(100), Severity.NOTICE),
        (replace(tunnelled(), namespaces={}), Severity.NOTICE),
    ],
)
def test_a_quarter_of_the_limit_is_a_warning(made, severity):
    assert TUNNEL(made).severity is severity


@pytest.mark.parametrize(
    "made",
    [
        tunnelled(99),
        tunnelled(100, others=301),
        tunnelled(status=REPLIED),
        tunnelled(status=UNREPLIED | IPS_DST_NAT),
        tunnelled(dport=514),
        tunnelled(proto=TCP),
        evidence(),
    ],
    ids=["few", "a small share", "answered", "with NAT", "another port", "TCP", "nothing"],
)
def test_what_is_no_tunnel_or_fills_nothing_is_silent(made):
    assert TUNNEL(made) is None


@pytest.mark.parametrize(("proto", "name"), [(GRE, "GRE"), (4, "IPIP"), (41, "IPv6 in IPv4")])
def test_tunnels_without_ports_fill_it_by_many_peers(proto, name):
    rows = entries(3000, proto=proto, src=many(3000), sport=0, dport=0, status=UNREPLIED)
    found = TUNNEL(evidence(rows))
    assert found.evidence["tunnel"] == name and found.evidence["dport"] is None
    assert f"meta l4proto {proto} notrack" in found.do[3] and "conntrack -D" not in " ".join(found.do)


def test_the_fullest_namespace_is_told_and_a_tunnel_is_no_service_that_needs_no_tracking():
    one, other = tunnelled(300), tunnelled(200, netns=8)
    made = evidence(
        np.concatenate([one.entries, other.entries]), namespaces={NETNS: namespace(), 8: namespace(8, "green", False)}
    )
    assert TUNNEL(made).evidence["netns"] == NETNS
    assert SERVICE(tunnelled(300)) is None and SERVICE(tunnelled(300, dport=53)) is not None


@pytest.mark.parametrize("status", [REPLIED | IPS_SRC_NAT, REPLIED | IPS_DST_NAT, REPLIED | IPS_HELPER])
@pytest.mark.parametrize(("proto", "port"), [(UDP, 4789), (GRE, 0)])
def test_no_line_takes_out_others_that_need_their_entries(proto, port, status):
    tunnel = entries(3000, proto=proto, src=many(3000), dport=port, sport=0, status=UNREPLIED)
    other = entries(1, proto=proto, dport=port, status=status)
    look, remark = TUNNEL(evidence(np.concatenate([tunnel, other]))).do
    assert look.startswith("ctobserve list") and remark.startswith("# a notrack rule for the ends of this tunnel alone")
    elsewhere = entries(1, proto=proto, dport=port, status=status, netns=8)
    assert "notrack" in TUNNEL(evidence(np.concatenate([tunnel, elsewhere]))).do[3]


@pytest.mark.parametrize("status", [REPLIED | IPS_SRC_NAT, REPLIED | IPS_DST_NAT, REPLIED | IPS_HELPER])
def test_a_service_that_nat_needs_for_others_is_tracked_rightly(status):
    plain = entries(150)
    assert SERVICE(evidence(np.concatenate([plain, entries(1, src="10.0.0.9", status=status)]))) is None
    assert SERVICE(evidence(np.concatenate([plain, entries(1, sport=53, dport=9, status=status)]))) is None, "its answers"
    assert SERVICE(evidence(np.concatenate([plain, entries(1, dport=54, status=status)]))) is not None
    assert SERVICE(evidence(np.concatenate([plain, entries(1, netns=8, status=status)]))) is not None


@pytest.mark.parametrize("ends", [("127.0.0.1", "127.0.0.11"), ("10.0.0.1", "10.0.0.1"), ("127.0.0.1", "10.0.0.1")])
def test_loopback_that_nat_needs_is_tracked_rightly(ends):
    """As with a resolver of containers, which listens on another port than 53."""
    local, mapped = entries(150, src="127.0.0.1", dst="127.0.0.5"), entries(1, src=ends[0], dst=ends[1])
    assert LOOPBACK(evidence(np.concatenate([local, mapped]))) is not None
    mapped["status"] |= IPS_DST_NAT
    assert LOOPBACK(evidence(np.concatenate([local, mapped]))) is None
    six = entries(150, src="::1", dst="::1", l3num=10)
    assert LOOPBACK(evidence(six)) is not None
    six["status"][0] |= IPS_DST_NAT
    assert LOOPBACK(evidence(six)) is None
