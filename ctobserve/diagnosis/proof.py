"""The proof that our table is the kernel's: beside a reading of it, and beside netlink dumps; entries in flux looked at again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ctobserve.analysis.verify import KEY, Differences, Keys, compare, key_of, keys, lasting, without
from ctobserve.capture.address_index import Addresses
from ctobserve.capture.capture import Capture, Snapshot
from ctobserve.capture.filters import Filter
from ctobserve.capture.store.container import Unreadable
from ctobserve.errors import CtobserveError
from ctobserve.event import Events
from ctobserve.model import Entries, pick

SEED = "the recording has no reading of the kernel's table but the one that this stretch begins with: there is nothing to compare"
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


def prove(
    capture: Capture,
    only: int | None = None,
    pause: Callable[[float], None] | None = None,
    took: Callable[[Events], object] = lambda _: None,
) -> Proof:
    """Compare the followed table with the kernel's, entry by entry, until they are equal or a few rounds are over.

    `only`: the entries of one namespace (inode number). `pause` lets so many seconds pass in the place of Capture.wait, and
    `took` is given the events that this takes from the capture: for who watches meanwhile. Raises as Capture.snapshot.
    """
    wait = pause or capture.wait
    looked = _Look(capture, only)
    found = lasting(looked.again, lambda: wait(PAUSE_S), ROUNDS)
    unlike, not_dumped = _beside_dumps(capture, only, wait, took)
    return Proof(looked.ours, looked.kernel, found, unlike, not_dumped)


class _Look:
    """Both tables, and how large they were last."""

    def __init__(self, capture: Capture, only: int | None) -> None:
        self._capture = capture
        self._only = Filter(netns=only)
        self.ours = self.kernel = 0

    def again(self) -> Differences:
        """Read the kernel's table, and compare what no event touched meanwhile."""
        read = self._read()
        ours, kernel = self._only.passing(self._capture.table.entries()), self._only.passing(read.entries)
        self.ours, self.kernel = len(ours), len(kernel)
        return compare(_calm(ours, read.touched), _calm(kernel, read.touched))

    def _read(self) -> Snapshot:
        """Raises CtobserveError also where all that there is of a recording is the reading that ours was made of."""
        capture = self._capture
        if not capture.fidelity().recorded_in:
            return capture.snapshot()
        try:
            read = capture.snapshot()
        except Unreadable:
            raise
        except CtobserveError:
            raise CtobserveError(SEED) from None
        if read.at_ns <= capture.started.monotonic_ns:
            raise CtobserveError(SEED)
        return read


def _calm(entries: Entries, touched: Addresses) -> Entries:
    return pick(entries, ~np.isin(entries["ct"], touched)) if len(touched) else entries


def _beside_dumps(
    capture: Capture, only: int | None, wait: Callable[[float], None], took: Callable[[Events], object]
) -> tuple[tuple[Keys, Keys] | None, tuple[int, ...]]:
    """Keys on one side alone in every round, None without dumps; and namespaces of entries of ours of which there is no dump."""
    lasting_ours = lasting_theirs = None
    not_dumped: tuple[int, ...] = ()
    for again in range(ROUNDS):
        if again:
            wait(PAUSE_S)
        dumps = capture.dumps(only)
        if dumps is None:
            return None, ()
        dumped = np.concatenate([np.empty(0, KEY), *(key_of(rows, inum) for inum, rows in dumps.items())])
        took(capture.drain())
        ours = keys(Filter(netns=only).passing(capture.table.entries()))
        entered = np.isin(ours["netns"], list(dumps))
        not_dumped = tuple(np.unique(ours["netns"][~entered]).tolist())
        mine, theirs = without(ours[entered], dumped), without(dumped, ours)
        lasting_ours = mine if lasting_ours is None else _both(lasting_ours, mine)
        lasting_theirs = theirs if lasting_theirs is None else _both(lasting_theirs, theirs)
        if not len(lasting_ours) and not len(lasting_theirs):
            break
    assert lasting_ours is not None and lasting_theirs is not None
    return (lasting_ours, lasting_theirs), not_dumped


def _both(one: Keys, other: Keys) -> Keys:
    return without(one, without(one, other))
