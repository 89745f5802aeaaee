"""Who won a race is remembered when the entry has ended."""

from __future__ import annotations

import numpy as np

from ctobserve.diagnosis import winners
from ctobserve.diagnosis.winners import Inserted
from ctobserve.model import Entries, join
from tests.unit.tables import entries

NONE = entries(0)


def tuples(rows: Entries) -> list[tuple[int, int]]:
    return sorted(zip(rows["netns"].tolist(), rows["port"][:, 0].tolist(), strict=True))


def test_it_is_the_entry_with_the_same_original_tuple():
    came = join([entries(5), entries(5, netns=8), entries(5, dst="10.0.0.9")])
    found = winners.winners(join([entries(9)[2:3], entries(9)[8:]]), (came[:7], came[7:]))
    assert found.beaten.tolist() == [True, False]
    assert tuples(found.entries) == tuples(entries(9)[2:3])
    nothing = winners.winners(entries(3), (NONE,))
    assert not nothing.beaten.any() and not len(nothing.entries)


def test_it_is_found_among_those_that_came_last(monkeypatch):
    monkeypatch.setattr(winners, "RECENT", 8)
    made = Inserted()
    first, later = entries(4), entries(8, sport=np.arange(8) + 5000)
    made.add(first, NONE)
    made.add(NONE, first[:2])
    assert tuples(made.won()) == tuples(first[:2])
    made.add(later, later[:1])
    made.add(NONE, first)
    assert tuples(made.won()) == tuples(join([first[:2], later[:1]])), "those before are forgotten"


def test_so_many_are_kept(monkeypatch):
    monkeypatch.setattr(winners, "KEPT", 3)
    made = Inserted()
    for _ in range(2):
        made.add(entries(5), entries(5))
    assert len(made.won()) == 3
