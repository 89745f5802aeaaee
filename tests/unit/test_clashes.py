"""Who won a race is remembered when the entry has ended."""

from __future__ import annotations

import numpy as np

from ctobserve.diagnosis import clashes
from ctobserve.diagnosis.clashes import Inserted
from ctobserve.model import Entries, join
from tests.unit.tables import entries

NONE = entries(0)


def tuples(rows: Entries) -> list[tuple[int, int]]:
    return sorted(zip(rows["netns"].tolist(), rows["port"][:, 0].tolist(), strict=True))


def test_it_is_the_entry_with_the_same_original_tuple():
    came = join([entries(5), entries(5, netns=8), entries(5, dst="10.0.0.9")])
    found = clashes.winners(join([entries(9)[2:3], entries(9)[8:]]), (came[:7], came[7:]))
    assert found.beaten.tolist() == [True, False]
    assert tuples(found.entries) == tuples(entries(9)[2:3])
    nothing = clashes.winners(entries(3), (NONE,))
    assert not nothing.beaten.any() and not len(nothing.entries)


def test_it_is_found_among_those_that_came_last(monkeypatch):
    monkeypatch.setattr(clashes, "RECENT", 8)
    made = Inserted()
    first, later = entries(4), entries(8, sport=np.arange(8) + 5000)
    made.add(first, NONE)
    made.add(NONE, first[:2])
    assert tuples(made.won()) == tuples(first[:2])
    made.add(later, later[:1])
    made.add(NONE, first)
    assert tuples(made.won()) == tuples(join([first[:2], later[:1]])), "those before are forgotten"


def test_so_many_are_kept(monkeypatch):
    monkeypatch.setattr(clashes, "KEPT", 3)
    made = Inserted()
    for _ in range(2):
        made.add(entries(5), entries(5))
    assert len(made.won()) == 3


def test_the_same_packet_sent_again_later_did_not_win():
    lost, came = entries(3, seen_ns=1_000), entries(3, seen_ns=[999, 1_000, 1_001])
    found = clashes.winners(lost, (came,))
    assert found.beaten.tolist() == [True, True, False]
    assert tuples(found.entries) == tuples(came[:2])


def test_no_more_is_kept_than_is_looked_at(monkeypatch):
    monkeypatch.setattr(clashes, "RECENT", 8)
    made = Inserted()
    for _ in range(1000):
        made.add(NONE, NONE)
    whole = entries(100)
    made.add(whole, NONE)
    (part,) = made._recent
    assert len(part) == 8 and part.base is None
