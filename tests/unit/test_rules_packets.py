"""INVALID packets and clashes: which sign means what."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ctobserve.clock import NS_PER_S
from ctobserve.diagnosis.evidence import RESOLVED, Evidence
from ctobserve.diagnosis.verdict import Severity
from ctobserve.event import DropReason
from ctobserve.model import IPS_SRC_NAT, join
from tests.unit.cases import RULES, bad, dns_race, many_mapped, nat_clash, opening_acks, outside, stray
from tests.unit.tables import CLOCK, NETNS, UNREPLIED, entries, evidence, losses, tcp


def test_a_broken_segment_is_no_sign_of_asymmetric_routing():
    assert RULES["asymmetric_routing"](bad(30)) is None
    assert RULES["asymmetric_routing"](bad(30, text=b"invalid new")).severity is Severity.WARNING


def test_other_signs_of_one_direction():
    assert RULES["asymmetric_routing"](stray(0x12, hook="output")) is None, "the SYN came here; its entry was deleted"
    assert RULES["asymmetric_routing"](stray(0x04)) is None, "stray RST come after the end of any connection"
    assert RULES["entry_gone"](stray(0x12)) is None and RULES["entry_gone"](stray(0x04, hook="output")) is None
    assert RULES["asymmetric_routing"](stray(0x10)).evidence["mid_stream_without_entry"] == 11
    assert RULES["asymmetric_routing"](opening_acks()).evidence["ack_after_unanswered_syn"] == 6
    assert RULES["asymmetric_routing"](evidence(tcp(10, status=UNREPLIED))).evidence["entries_one_way"] == 10


def within(made: Evidence, span_s: float, **more: object) -> Evidence:
    """The same, its losses spread over so many seconds."""
    lost = made.losses.copy()
    lost["entry"]["seen_ns"] = CLOCK.monotonic_ns + (np.linspace(0, span_s, len(lost)) * NS_PER_S).astype(np.uint64)
    return replace(made, losses=lost, **more)


@pytest.mark.parametrize(("span_s", "severity"), [(5, Severity.WARNING), (150, Severity.WARNING), (151, Severity.NOTICE)])
def test_what_comes_to_any_host_in_a_long_time_is_no_warning(span_s, severity):
    """Answers to a SYN that somebody sent with our address; late retransmissions. A burst in a long time is a burst."""
    asymmetric, window = RULES["asymmetric_routing"], RULES["invalid_window"]
    assert asymmetric(within(stray(0x12, 5), span_s, duration_s=100_000.0)).severity is severity
    assert window(within(evidence(losses=outside(10)), 2 * span_s)).severity is severity


def test_of_a_flood_the_few_that_were_kept_stand_for_all():
    made = within(evidence(losses=outside(100), drops={"invalid": 1_000_000}), 100_000)
    assert RULES["invalid_window"](made).severity is Severity.WARNING
    assert RULES["invalid_window"](replace(made, drops={NETNS: Counter(invalid=100)})).severity is Severity.NOTICE


def test_few_that_one_side_speaks_on_among_many_are_no_routing():
    few, many_ = tcp(10, status=UNREPLIED), tcp(9_991, sport=np.arange(9_991) + 2000, dport=443)
    assert RULES["asymmetric_routing"](evidence(join([few, many_[:9_990]]))).severity is Severity.WARNING
    assert RULES["asymmetric_routing"](evidence(join([few, many_]))) is None
    elsewhere = tcp(9_991, sport=np.arange(9_991) + 2000, dport=443, netns=8)
    assert RULES["asymmetric_routing"](evidence(join([few, elsewhere]))).severity is Severity.WARNING, "of one namespace"


def test_resolved_clashes_are_worth_a_notice():
    found = RULES["clash_race"](evidence(losses=losses(entries(2), RESOLVED), drops={"clash_resolved": 2}))
    assert found.severity is Severity.NOTICE and found.evidence["dport"] == 53


def test_a_nat_clash_is_no_race_and_a_race_no_port_shortage():
    assert RULES["clash_race"](nat_clash()) is None
    assert RULES["snat_ports"](dns_race()) is None


def test_a_race_of_masqueraded_packets_is_a_race():
    rows = entries(5, nat=("10.1.0.1", np.arange(5) + 7000), status=UNREPLIED | IPS_SRC_NAT)
    made = evidence(rows, losses=losses(rows[:3], DropReason.CLASH), drops={"clash": 3})
    assert RULES["snat_ports"](made) is None
    assert RULES["clash_race"](made).evidence["packets"] == 3


def test_a_race_whose_winner_ended_since_is_a_race():
    rows = entries(5, nat=("10.1.0.1", np.arange(5) + 7000), status=UNREPLIED | IPS_SRC_NAT)
    lost = losses(rows[:3], DropReason.CLASH)
    for made in (
        evidence(rows[3:], losses=lost, winners=rows[:3], drops={"clash": 3}),
        evidence(rows[3:], losses=lost, before=rows[:3], drops={"clash": 3}),
        # No connection of that address to that service is left: ports cannot be short.
        evidence(entries(9), losses=lost, drops={"clash": 3}),
    ):
        assert RULES["snat_ports"](made) is None
        assert RULES["clash_race"](made).evidence["packets"] == 3
    few = RULES["snat_ports"](evidence(rows[3:], losses=lost, drops={"clash": 3}))
    assert few.severity is Severity.WARNING and "gave a source port twice at once, or has no free one: 3 packets" in few.sentence
    assert RULES["snat_ports"](nat_clash()).severity is Severity.CRITICAL, "5 packets"


def test_ports_nearly_used_up():
    found = RULES["snat_ports"](many_mapped())
    assert found.severity is Severity.WARNING and found.evidence["connections"] == 60_000
    assert found.evidence["share_of_ports"] == round(60_000 / 64_512, 4)
