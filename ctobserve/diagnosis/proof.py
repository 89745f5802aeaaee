"""The proof that our table is the kernel's: beside a reading of it, and beside netlink dumps; entries in flux looked at again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ctobserve.analysis.verify import KEY, Differences, Keys, compare, key_of, keys, lasting, without
from ctobserve.capture.address_index import Addresses
from ctobserve.capture.filters import Filter
from ctobserve.capture.observer import Observer
from ctobserve.errors import CtobserveError
from ctobserve.host import netlink, netns
from ctobserve.host.dump import Dumped, dump
from ctobserve.model import Entries, pick

ROUNDS = 5
PAUSE_S = 0.3


@dataclass(frozen=True)
class Proof:
    """Entries on both sides at the last look, and the differences that lasted. `unlike`: keys that only we have, and that only
    the dumps have; None where there are no dumps. `not_dumped`: namespaces that hold entries and could not be entered."""

    ours: int
    kernel: int
    differences: Differences
    unlike: tuple[Keys, Keys] | None
    not_dumped: tuple[int, ...]

    @property
    def equal(self) -> bool:
        """No difference of any kind."""
        return not self.differences.names() and not any(map(len, self.unlike or ()))


def prove(observer: Observer, only: int | None = None) -> Proof:
    """Compare the followed table with the kernel's, entry by entry, until they are equal or a few rounds are over.

    `only`: the entries of one namespace (inode number). Raises CtobserveError when the hash is resized again and again meanwhile.
    """
    looked = _Look(observer, only)
    found = lasting(looked.again, lambda: time.sleep(PAUSE_S), ROUNDS)
    unlike, not_dumped = _beside_netlink(observer, only) if netlink.available() else (None, ())
    return Proof(looked.ours, looked.kernel, found, unlike, not_dumped)


class _Look:
    """Both tables, and how large they were last."""

    def __init__(self, observer: Observer, only: int | None) -> None:
        self._observer = observer
        self._only = Filter(netns=only)
        self.ours = self.kernel = 0

    def again(self) -> Differences:
        """Read the kernel's table, and compare what no event touched meanwhile."""
        walk, touched = self._observer.walk()
        ours, kernel = self._only.passing(self._observer.table.entries()), self._only.passing(walk.entries)
        self.ours, self.kernel = len(ours), len(kernel)
        return compare(_calm(ours, touched), _calm(kernel, touched))


def _calm(entries: Entries, touched: Addresses) -> Entries:
    return pick(entries, ~np.isin(entries["ct"], touched)) if len(touched) else entries


def _beside_netlink(observer: Observer, only: int | None) -> tuple[tuple[Keys, Keys], tuple[int, ...]]:
    """Keys on one side alone in every round; and whose dumps there are none of, though we have entries of theirs."""
    lasting_ours = lasting_theirs = None
    for _ in range(ROUNDS):
        dumps = observer.drained(lambda: dict(_dumps(only)))
        dumped = np.concatenate([np.empty(0, KEY), *(key_of(rows, inum) for inum, rows in dumps.items())])
        observer.poll()
        ours = keys(Filter(netns=only).passing(observer.table.entries()))
        told = np.isin(ours["netns"], list(dumps))
        not_dumped = tuple(np.unique(ours["netns"][~told]).tolist())
        mine, theirs = without(ours[told], dumped), without(dumped, ours)
        lasting_ours = mine if lasting_ours is None else _both(lasting_ours, mine)
        lasting_theirs = theirs if lasting_theirs is None else _both(lasting_theirs, theirs)
        if not len(lasting_ours) and not len(lasting_theirs):
            break
        time.sleep(PAUSE_S)
    assert lasting_ours is not None and lasting_theirs is not None
    return (lasting_ours, lasting_theirs), not_dumped


def _dumps(only: int | None) -> Iterator[tuple[int, Dumped]]:
    """Of every namespace that can be entered."""
    for inum, space in netns.discover().items():
        if only in (None, inum):
            try:
                yield inum, netns.run_inside(space, dump)
            except (CtobserveError, OSError):
                continue


def _both(one: Keys, other: Keys) -> Keys:
    return without(one, without(one, other))
