"""What is different: entries and groups between two tables, and whose namespaces are whose."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from ctobserve.analysis.change import IDENTITY, Change, GroupChange, change
from ctobserve.analysis.groups import COLUMNS, key
from ctobserve.analysis.namesakes import Namesake, namesakes
from ctobserve.model import IPS_ASSURED, TCP_STATES, Entries, join
from tests.unit.tables import entries, tcp

SRC = ("src",)


def group(value: str, *counts: int) -> GroupChange:
    return GroupChange((value,), *counts)


def between(first: Entries, second: Entries, by: tuple[str, ...], limit: int) -> Change:
    return change(join([first, second]), np.arange(len(first) + len(second)) >= len(first), by, limit)


def test_who_came_who_went_and_who_stayed():
    first = entries(6, src=["10.0.0.1"] * 4 + ["10.0.0.2"] * 2)
    second = join([first[:3], entries(9, src="10.0.0.3")])
    assert between(first, second, SRC, 10) == Change(
        came=9,
        went=3,
        stayed=3,
        groups=[group("10.0.0.3", 0, 9, 9, 0), group("10.0.0.2", 2, 0, 0, 2), group("10.0.0.1", 4, 3, 0, 1)],
        more=0,
    )


def test_who_comes_again_by_another_address_of_the_kernel_stayed():
    first = entries(3)
    second = entries(3, ct=[7, 8, 9], mark=5, left_s=1)
    assert between(first, second, SRC, 10) == Change(0, 0, 3, [], 0)


@pytest.mark.parametrize(
    "other",
    [
        *({"netns": 8}, {"zone": 1}, {"src": "10.0.0.9"}, {"dst": "10.0.0.9"}, {"sport": 9}, {"dport": 9}, {"proto": 6}),
        *({"backend": "10.0.0.9"}, {"nat": ("10.0.0.9", 1024)}, {"nat": ("10.0.0.1", 9)}, {"l3num": 10}),
    ],
    ids=str,
)
def test_an_entry_is_another_one_by_namespace_zone_or_either_tuple(other):
    assert between(entries(1), entries(1, **other), (), 10)[:3] == (1, 1, 0)


def test_an_entry_that_stayed_goes_from_one_state_to_another():
    first, second = tcp(5, "SYN_SENT"), join([tcp(5, "ESTABLISHED")[:3], tcp(5, "SYN_SENT")[3:]])
    assert between(first, second, ("state",), 10) == Change(
        0, 0, 5, [group("SYN_SENT", 5, 2, 0, 3), group("ESTABLISHED", 0, 3, 3, 0)], 0
    )


def test_groups_that_changed_most_come_first_and_of_those_alike_the_busiest():
    first = entries(9, src=["10.0.0.1"] * 3 + ["10.0.0.2"] * 3 + ["10.0.0.3"] * 3, sport=range(9))
    second = entries(9, src=["10.0.0.1"] * 3 + ["10.0.0.2"] * 3 + ["10.0.0.4"] * 3, sport=[0, 1, 2, 30, 40, 50, 6, 7, 8])
    found = between(first, second, SRC, 2)
    assert found.groups == [group("10.0.0.3", 3, 0, 0, 3), group("10.0.0.4", 0, 3, 3, 0)] and found.more == 1
    assert between(first, second, SRC, 9).groups[2:] == [group("10.0.0.2", 3, 3, 3, 3)]


@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 2), (2, 0)])
def test_an_empty_table_is_one(before, after):
    found = between(entries(before), entries(after), SRC, 10)
    assert found[:3] == (after, before, 0)
    assert found.groups == ([group("10.0.0.1", before, after, after, before)] if before + after else [])


def random_table(some: np.random.Generator) -> Entries:
    count = int(some.integers(0, 200))
    return entries(
        count,
        src=some.choice(["10.0.0.1", "10.0.0.2", "10.0.1.1"], count).tolist(),
        sport=some.integers(1, 9, count).tolist(),
        netns=some.integers(7, 9, count),
        zone=some.integers(0, 2, count),
        proto=some.choice([6, 17], count),
        tcp_state=some.integers(0, len(TCP_STATES), count),
        status=some.choice([0, IPS_ASSURED], count),
        mark=some.integers(0, 2, count),
    )


@pytest.mark.parametrize("seed", range(30))
def test_it_is_what_counting_one_by_one_says(seed):
    some = np.random.default_rng(seed)
    first, second = random_table(some), random_table(some)
    by = tuple(some.choice(COLUMNS, 2, replace=False).tolist())

    def counted(columns: tuple[str, ...]) -> list[Counter[Any]]:
        return [Counter(tuple(key(entry, name) for name in columns) for entry in table) for table in (first, second)]

    found = between(first, second, by, 10_000)
    before, after = counted(IDENTITY)
    assert found[:3] == ((after - before).total(), (before - after).total(), (before & after).total())
    (before, after), (one, other) = counted(by), counted((*by, *IDENTITY))
    came, went = Counter(), Counter()
    for moved, parts in ((came, other - one), (went, one - other)):
        for values, count in parts.items():
            moved[values[:2]] += count
    assert {row.values: row[1:] for row in found.groups} == {
        values: (before[values], after[values], came[values], went[values]) for values in came | went
    }
    assert all(row.second - row.first == row.came - row.went for row in found.groups)


@pytest.mark.parametrize(
    ("first", "second", "lasting", "known"),
    [
        # By name, whatever its number: it may have been made anew, or be of another boot.
        ({7: "init", 8: "blue"}, {8: "init", 9: "red"}, [], [("init", 7, 8), ("red", None, 9), ("blue", 8, None)]),
        ({8: "blue"}, {9: "blue"}, [], [("blue", 8, 9)]),
        ({8: "blue", 9: "red"}, {9: "blue", 8: "red"}, [8, 9], [("blue", 8, 9), ("red", 9, 8)]),
        # By its number, where it is called otherwise.
        ({7: "init", 8: "nc[3]"}, {7: "init", 8: "sh[5]", 9: "9"}, [7, 8], [("init", 7, 7), ("sh[5]", 8, 8), ("9", None, 9)]),
        ({8: "8"}, {8: "8"}, [8], [("8", 8, 8)]),
        # The number is another's by now.
        ({8: "old"}, {8: "new"}, [], [("new", None, 8), ("old", 8, None)]),
        # A number is no name.
        ({8: "8"}, {8: "8"}, [], [("8 (8)", None, 8), ("8 (8 at first)", 8, None)]),
        # Nor is one that several have.
        (
            {1: "x", 2: "x"},
            {2: "x"},
            [2],
            [("x (2)", 2, 2), ("x (1 at first)", 1, None)],
        ),
        # One that is known by its name is not another by its number, too.
        ({8: "a", 9: "b"}, {9: "a", 8: "c"}, [8, 9], [("a", 8, 9), ("c", None, 8), ("b", 9, None)]),
        ({}, {}, [], []),
    ],
)
def test_which_namespace_is_which(first, second, lasting, known):
    assert namesakes(first, second, lasting) == [Namesake(*one) for one in known]
