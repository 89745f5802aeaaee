"""Which entries pass a filter: what is known of them decides, never the zero that stands for the unknown."""

from __future__ import annotations

import numpy as np
import pytest

from ctobserve.capture.filters import Filter
from ctobserve.capture.records import RecordKind, entries_of
from ctobserve.event import DropReason
from ctobserve.model import GRE, ICMP, IPS_ASSURED, IPS_SEEN_REPLY, TCP, TCP_STATES, UDP
from tests.unit.samples import record, records
from tests.unit.tables import entries

WHOLE, TUPLE_AND_ZONE, TUPLE = 1, 2, 0


def passing(only: Filter, **fields: object) -> list[int]:
    """The has_ct of those records that pass, of three equal ones of which ever less is known."""
    made = [
        record(RecordKind.DROP, 0, reason=DropReason.INVALID, has_ct=known, **fields) for known in (WHOLE, TUPLE_AND_ZONE, TUPLE)
    ]
    rows = entries_of(records(*made))
    return rows["has_ct"][only.mask(rows)].tolist()


@pytest.mark.parametrize("mark", [0, 5])
def test_an_unknown_mark_is_none(mark):
    assert passing(Filter(mark=mark), mark=mark) == [WHOLE]


@pytest.mark.parametrize("zone", [0, 5])
def test_an_unknown_zone_is_none(zone):
    assert passing(Filter(zone=zone), zone=zone) == [WHOLE, TUPLE_AND_ZONE]


@pytest.mark.parametrize(
    ("state", "status"), [("UNREPLIED", 0), ("REPLIED", IPS_SEEN_REPLY), ("ASSURED", IPS_SEEN_REPLY | IPS_ASSURED)]
)
def test_an_unknown_status_is_none(state, status):
    assert passing(Filter(state=state), status=status) == [WHOLE]


@pytest.mark.parametrize("state", TCP_STATES)
def test_an_unknown_tcp_state_is_none(state):
    assert passing(Filter(state=state), proto=TCP, tcp_state=TCP_STATES.index(state)) == [WHOLE]
    assert passing(Filter(state=state), proto=UDP, tcp_state=TCP_STATES.index(state)) == []


def test_an_unknown_namespace_is_none():
    assert passing(Filter(netns=7), netns=7) == [WHOLE, TUPLE_AND_ZONE, TUPLE]
    assert passing(Filter(netns=7), netns=0) == []


def test_the_tuple_is_always_known():
    assert passing(Filter(proto=UDP, dport=(53, 53), sport=(1000, 1000))) == [WHOLE, TUPLE_AND_ZONE, TUPLE]


def test_only_protocols_with_ports_have_ports():
    """An echo request's type 8 is no port 2048, nor a GRE key one, nor is nothing port 0."""
    rows = entries(5, proto=[UDP, TCP, ICMP, GRE, 50], dport=[2048, 2048, 2048, 2048, 0], sport=[0] * 5)
    assert rows["protonum"][Filter(dport=(2048, 2048)).mask(rows)].tolist() == [UDP, TCP]
    assert rows["protonum"][Filter(sport=(0, 65535), dport=(0, 65535)).mask(rows)].tolist() == [UDP, TCP]


def test_without_conditions_all_pass_uncopied():
    rows = entries(3)
    assert np.shares_memory(Filter().passing(rows), rows)
