"""Scans and floods, and busy hosts that only look like one."""

from __future__ import annotations

import numpy as np
import pytest

from ctobserve.model import GRE, Entries
from tests.unit.cases import RULES
from tests.unit.tables import UNREPLIED, entries, evidence, many, tcp

SCAN, FLOOD = RULES["scan"], RULES["syn_flood"]


def unanswered(count: int = 120, **given) -> Entries:
    """Queries of one resolver to as many servers."""
    return entries(count, dst=many(count), status=UNREPLIED, ct=np.arange(count) + 90_000, **given)


@pytest.mark.parametrize(("answered", "fires"), [(0, True), (120, True), (121, False), (5000, False)])
def test_a_resolver_that_most_servers_answer_scans_nobody(answered, fires):
    rows = np.concatenate([unanswered(), entries(answered)])
    assert bool(SCAN(evidence(rows))) is fires


@pytest.mark.parametrize(("answered", "lines"), [(13, 4), (14, 2)])
def test_who_gets_answers_too_is_not_to_be_cut_off(answered, lines):
    found = SCAN(evidence(np.concatenate([unanswered(), entries(answered)])))
    assert len(found.do) == lines
    assert lines == 4 or found.do[1].startswith("# 14 entries of 10.0.0.1 got answers: to drop its packets would end these, too")


def test_answers_to_others_excuse_no_scan():
    assert SCAN(evidence(np.concatenate([unanswered(), entries(5000, src="10.0.0.9")]))) is not None
    assert SCAN(evidence(np.concatenate([unanswered(), entries(5000, netns=8)]))) is not None


@pytest.mark.parametrize("of_tunnel", [{"dport": 4789}, {"dport": 6081}, {"proto": GRE, "sport": 0, "dport": 0}])
def test_a_tunnel_to_many_peers_is_no_scan(of_tunnel):
    assert SCAN(evidence(unanswered(**of_tunnel))) is None


@pytest.mark.parametrize(("count", "fires"), [(999, False), (1000, True)])
def test_one_source_can_flood_as_well(count, fires):
    found = FLOOD(evidence(tcp(count, "SYN_RECV", dport=443, status=UNREPLIED | 2)))
    assert bool(found) is fires
    assert not fires or "1000 half-open entries from 1 source in blue" in found.sentence
    assert FLOOD(evidence(tcp(count, "SYN_SENT", dport=443, status=UNREPLIED))) is None, "the server is dead"


@pytest.mark.parametrize(("others", "fires"), [(0, True), (540, True), (541, False)])
def test_a_busy_service_has_some_half_open_at_any_time(others, fires):
    opening = tcp(60, "SYN_RECV", src=many(60), dport=443, status=UNREPLIED | 2, ct=np.arange(60) + 90_000)
    assert bool(FLOOD(evidence(np.concatenate([opening, tcp(others, dport=443)])))) is fires
    elsewhere = np.concatenate([tcp(others, dport=80), tcp(others, dst="10.0.0.9", dport=443)])
    assert FLOOD(evidence(np.concatenate([opening, elsewhere]))) is not None
