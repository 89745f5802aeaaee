from __future__ import annotations

import numpy as np

from ctobserve.analysis.groups import divide, group
from ctobserve.model import UDP
from tests.unit.tables import REPLIED, UNREPLIED, entries, many, tcp


def test_every_column():
    rows = np.concatenate([entries(3), tcp(2, src="10.0.1.9", netns=8, dport=443), entries(1, src="10.0.0.7", status=UNREPLIED)])
    assert group(rows, "src") == [("10.0.0.1", 3), ("10.0.1.9", 2), ("10.0.0.7", 1)]
    assert group(rows, "subnet") == [("10.0.0.0/24", 4), ("10.0.1.0/24", 2)]
    assert group(rows, "dst") == [("10.0.0.2", 6)]
    assert group(rows, "dport") == [(53, 4), (443, 2)]
    assert group(rows, "netns") == [(7, 4), (8, 2)]
    assert group(rows, "state") == [(None, 4), ("ESTABLISHED", 2)]
    assert group(rows, "proto") == [("udp", 4), ("tcp", 2)]
    assert group(rows, "replied") == [(True, 5), (False, 1)]
    assert group(rows, "src", limit=1) == [("10.0.0.1", 3)]
    assert group(entries(0), "src") == []


def test_an_ipv6_address_is_no_ipv4_address_with_the_same_bytes():
    four, six = entries(2, src="32.1.13.184"), entries(1, src="2001:db8::", l3num=10)
    assert group(np.concatenate([four, six]), "src") == [("32.1.13.184", 2), ("2001:db8::", 1)]
    assert group(entries(2, src=["fd00::1", "fd00:0:0:1::1"], l3num=10), "subnet") == [("fd00::/64", 1), ("fd00:0:0:1::/64", 1)]


def test_a_family_that_nobody_knows_has_subnets_too():
    """A recording may hold any."""
    assert group(entries(2, src=["fd00::1", "fd00::2"], l3num=77), "subnet") == [("fd00::/64", 2)]


def test_distinct_and_sums():
    rows = entries(6, src=["10.0.0.1"] * 4 + ["10.0.0.2"] * 2, dport=[1, 1, 2, 3, 9, 9], status=[REPLIED] * 3 + [UNREPLIED] * 3)
    groups = divide(rows, ("src",))
    assert groups.distinct(divide(rows, ("src", "dport")))[groups.labels].tolist() == [3, 3, 3, 3, 1, 1]
    assert groups.sums(rows["status"] == REPLIED)[groups.labels].tolist() == [3, 3, 3, 3, 0, 0]


def test_a_million_entries():
    rows = np.tile(entries(1000, src=many(1000)), 1000)
    rows["port"][:, 0] = np.arange(len(rows)) % 60_000
    found = divide(rows, ("netns", "src", "proto", "dst", "sport"))
    assert len(found.counts) == 60_000 and (rows["protonum"] == UDP).all()
