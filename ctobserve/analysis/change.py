"""Who came, who went, who grew between two readings of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.groups import NO_OWNERS, Groups, Key, Labels, Owners, divide, key, meet
from ctobserve.model import Entries, Mask

# By these an entry is the same in both.
IDENTITY = (
    *("netns", "zone", "proto"),
    *("src", "dst", "sport", "dport", "reply_src", "reply_dst", "reply_sport", "reply_dport"),
)


class GroupChange(NamedTuple):
    """One group: its values in the columns asked for, its entries at first and at last; came - went is the difference."""

    values: tuple[Key, ...]
    first: int
    second: int
    came: int
    went: int


class Change(NamedTuple):
    """Entries that the second has and the first lacks, the other way round, and that both have; the groups that changed.

    `more` counts groups that changed and are not among these.
    """

    came: int
    went: int
    stayed: int
    groups: list[GroupChange]
    more: int


def change(both: Entries, later: Mask, by: Sequence[str], limit: int, owners: Owners = NO_OWNERS) -> Change:
    """Entries of both tables, of which `later` are of the second. Groups by these columns (see groups.divide), those whose number
    of entries changed most first.

    An entry that stayed and now has another value in one of the columns, such as its state, went from one group to another.
    """
    same, groups = divide(both, IDENTITY), divide(both, by, owners)
    before, after = same.sums(~later), same.sums(later)
    came, went = _moved(groups, meet(groups, same), later)
    counts = groups.sums(~later), groups.sums(later)
    order = np.lexsort((-(came + went), -np.abs(counts[1] - counts[0])))
    changed = order[(came + went)[order] > 0]
    found = [
        GroupChange(
            tuple(key(both[groups.first[at]], name, owners) for name in by),
            *(int(part[at]) for part in (*counts, came, went)),
        )
        for at in changed[:limit].tolist()
    ]
    return Change(
        came=int(np.maximum(after - before, 0).sum()),
        went=int(np.maximum(before - after, 0).sum()),
        stayed=int(np.minimum(before, after).sum()),
        groups=found,
        more=len(changed) - len(found),
    )


def _moved(groups: Groups, entries: Groups, later: Mask) -> tuple[Labels, Labels]:
    """Of each group, how many came and went. `entries`: the groups divided further, so that each part is one entry."""
    gained = entries.sums(later) - entries.sums(~later)
    of = groups.labels[entries.first]
    came, went = (np.bincount(of, np.maximum(moved, 0), len(groups.counts)).astype(np.int64) for moved in (gained, -gained))
    return came, went
