"""The proof that our table is the kernel's: beside a reading of it, and beside netlink dumps; entries in flux looked at again."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from ctobserve import netlink, netns
from ctobserve.analysis.verify import KEY, Differences, Keys, compare, key_of, keys, lasting, without
from ctobserve.dump import dump
from ctobserve.errors import CtobserveError
from ctobserve.events import take
from ctobserve.model import Entries
from ctobserve.observer import Observer
from ctobserve.places import Addresses

ROUNDS = 5
PAUSE_S = 0.3


@dataclass(frozen=True)
class Proof:
    """Entries on both sides at the last look, and the differences that lasted. `unlike`: keys that only we have, and that only
    the dumps have, of the namespaces that can be entered; None where there are no dumps."""

    ours: int
    kernel: int
    differences: Differences
    unlike: tuple[Keys, Keys] | None

    @property
    def equal(self) -> bool:
        """No difference of any kind."""
        return not self.differences.names() and not any(map(len, self.unlike or ()))


def prove(observer: Observer) -> Proof:
    """Compare the followed table with the kernel's, entry by entry, until they are equal or a few rounds are over.

    Raises CtobserveError when the hash is resized again and again meanwhile.
    """
    looked = _Look(observer)
    found = lasting(looked.again, lambda: time.sleep(PAUSE_S), ROUNDS)
    return Proof(looked.ours, looked.kernel, found, _beside_netlink(observer) if netlink.available() else None)


class _Look:
    """Both tables, and how large they were last."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.ours = self.kernel = 0

    def again(self) -> Differences:
        """Read the kernel's table, and compare what no event touched meanwhile."""
        walk, touched = self._observer.walk()
        ours = self._observer.table.entries()
        self.ours, self.kernel = len(ours), len(walk.entries)
        return compare(_calm(ours, touched), _calm(walk.entries, touched))


def _calm(entries: Entries, touched: Addresses) -> Entries:
    return take(entries, ~np.isin(entries["ct"], touched)) if len(touched) else entries


def _beside_netlink(observer: Observer) -> tuple[Keys, Keys]:
    lasting_ours = lasting_theirs = None
    for _ in range(ROUNDS):
        spaces = netns.discover()
        dumps = [np.empty(0, KEY)]
        for inum, space in spaces.items():
            try:
                dumps.append(key_of(netns.run_inside(space, dump), inum))
            except (CtobserveError, OSError):
                continue
        dumped = np.concatenate(dumps)
        observer.poll()
        ours = keys(observer.table.entries())
        ours = ours[np.isin(ours["netns"], list(spaces))]
        mine, theirs = without(ours, dumped), without(dumped, ours)
        lasting_ours = mine if lasting_ours is None else _both(lasting_ours, mine)
        lasting_theirs = theirs if lasting_theirs is None else _both(lasting_theirs, theirs)
        if not len(lasting_ours) and not len(lasting_theirs):
            break
        time.sleep(PAUSE_S)
    assert lasting_ours is not None and lasting_theirs is not None
    return lasting_ours, lasting_theirs


def _both(one: Keys, other: Keys) -> Keys:
    return without(one, without(one, other))
