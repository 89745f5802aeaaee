"""Entries in flow tables: told for what they are, and called neither idle nor stale nor a pile."""

from __future__ import annotations

import numpy as np
import pytest

from ctobserve.analysis.groups import group
from ctobserve.diagnosis import rules
from ctobserve.diagnosis.verdict import Severity
from ctobserve.model import IPS_DST_NAT, IPS_HW_OFFLOAD, IPS_OFFLOAD
from tests.unit.cases import RULES
from tests.unit.tables import NETNS, REPLIED, UNREPLIED, entries, evidence, namespace, tcp

OFFLOADED = REPLIED | IPS_OFFLOAD


@pytest.mark.parametrize("rows", [entries(0), entries(3), tcp(3)])
def test_without_any_there_is_nothing_to_say(rows):
    assert RULES["offloaded"](evidence(rows)) is None


@pytest.mark.parametrize("rows", [entries(3, status=OFFLOADED), tcp(3, status=OFFLOADED, l3num=10, src="fd00::1", dst="fd00::2")])
def test_it_is_worth_knowing_and_no_illness(rows):
    found = rules.judge(evidence(rows))
    assert found.verdicts["offloaded"].severity is Severity.NOTICE and "healthy" in found.verdicts


def test_the_namespace_with_most_of_them_is_named():
    rows = np.concatenate([tcp(9), tcp(2, status=OFFLOADED), tcp(3, status=OFFLOADED | IPS_HW_OFFLOAD, netns=8)])
    found = RULES["offloaded"](evidence(rows, namespaces={NETNS: namespace(), 8: namespace(8, "green")}))
    told = {"netns": 8, "entries": 3, "entries_in_hardware": 3, "entries_elsewhere": 2, "share_of_entries": 1.0, "namespaces": 2}
    assert found is not None and found.evidence == told


def test_a_day_without_a_packet_that_conntrack_saw_is_not_idle():
    for status, fires in ((REPLIED, True), (OFFLOADED, False)):
        assert bool(RULES["idle_established"](evidence(tcp(200, left_s=200_000, status=status)))) is fires


def test_what_the_gc_worker_puts_off_is_not_kept_alive_by_packets():
    for offload, fires in ((0, True), (IPS_OFFLOAD, False)):
        old = entries(3, backend="10.9.0.1", dst="10.96.0.1", status=UNREPLIED | IPS_DST_NAT | offload)
        before = old.copy()
        before["timeout"] -= 250
        assert bool(RULES["stale_udp"](evidence(old, before=before))) is fires


def test_nor_do_they_pile_up_in_a_state():
    around = {NETNS: namespace(nf_conntrack_count=200, nf_conntrack_max=400, nf_conntrack_tcp_timeout_close_wait=3600)}
    for status, fires in ((REPLIED, True), (OFFLOADED, False)):
        rows = tcp(200, "CLOSE_WAIT", left_s=1000, status=status)
        assert bool(RULES["state_piles_up"](evidence(rows, namespaces=around))) is fires


def test_top_counts_them_apart_from_states():
    rows = np.concatenate([tcp(3), tcp(2, status=OFFLOADED), entries(4, status=OFFLOADED), entries(1)])
    assert group(rows, "state") == [("OFFLOAD", 6), ("ESTABLISHED", 3), (None, 1)]
