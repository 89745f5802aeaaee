"""Is our table the kernel's? Differences by name, and only those that last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ctobserve.model import ZONE_BOTH, Entries, NDArray

# What must be equal of an entry that both have; timeouts and states move with every packet and are taken from the walk.
FIELDS = ("netns", "zone", "l3num", "protonum", "addr", "port", "bucket", "reply_only", "master")
# Namespace, zone where it holds for both directions, both tuples. Numbers are in our byte order: NumPy joins arrays so.
KEY = np.dtype(
    [("netns", "<u4"), ("zone", "<u2"), ("l3num", "u1"), ("protonum", "u1"), ("addr", "u1", (4, 16)), ("port", "<u2", (4,))]
)
Keys = NDArray[np.void]
Value = int | tuple[int, ...] | tuple[tuple[int, ...], ...]  # of a field, whatever its shape


@dataclass
class Differences:
    """Entries that one side lacks, and fields that differ: (address, field, ours, kernel's)."""

    only_ours: Entries
    only_kernel: Entries
    fields: list[tuple[int, str, Value, Value]] = field(default_factory=list)

    def names(self) -> set[tuple[int, str]]:
        """What identifies each difference, to see whether it is there again."""
        mine = {(int(ct), "only_ours") for ct in self.only_ours["ct"]}
        theirs = {(int(ct), "only_kernel") for ct in self.only_kernel["ct"]}
        return mine | theirs | {(ct, name) for ct, name, _, _ in self.fields}

    def only(self, names: set[tuple[int, str]]) -> Differences:
        """Those differences alone."""
        keep_ours = np.array([(int(ct), "only_ours") in names for ct in self.only_ours["ct"]], np.bool_)
        keep_kernel = np.array([(int(ct), "only_kernel") in names for ct in self.only_kernel["ct"]], np.bool_)
        fields = [item for item in self.fields if item[:2] in names]
        return Differences(self.only_ours[keep_ours], self.only_kernel[keep_kernel], fields)


def compare(ours: Entries, kernel: Entries) -> Differences:
    """Two tables by address of the entries; rows in flux must have been taken out of both before.

    A second row of one address, which a recording may hold, is one that the other side lacks.
    """
    both, left, right = np.intersect1d(ours["ct"], kernel["ct"], return_indices=True)
    found = Differences(np.delete(ours, left), np.delete(kernel, right))
    for name in FIELDS:
        mine, theirs = ours[name][left], kernel[name][right]
        unequal = mine != theirs
        for at in np.flatnonzero(unequal.any(axis=tuple(range(1, unequal.ndim)))):
            found.fields.append((int(both[at]), name, _value(mine[at].tolist()), _value(theirs[at].tolist())))
    return found


def _value(found: Any) -> Any:
    return tuple(map(_value, found)) if isinstance(found, list) else found


def lasting(look: Callable[[], Differences], pause: Callable[[], None], rounds: int) -> Differences:
    """Look again until no difference is left, or `rounds` are over: what was not there each time was an entry in flux."""
    found = look()
    names = found.names()
    for _ in range(rounds - 1):
        if not names:
            break
        pause()
        found = look()
        names &= found.names()
    return found.only(names)


def keys(entries: Entries) -> Keys:
    """Entries as a netlink dump would identify them, as KEY.

    Reply-only entries (IPS_NAT_CLASH) are left out: a dump walks original nodes and never shows them.
    """
    shown = entries[entries["reply_only"] == 0]
    found = key_of(shown, shown["netns"])
    found["zone"] = np.where(shown["zone_dir"] == ZONE_BOTH, shown["zone"], 0)
    return found


def key_of(rows: NDArray[np.void], netns: int | NDArray[np.uint32]) -> Keys:
    """Rows that have the fields of KEY, but for the namespace."""
    found = np.zeros(len(rows), KEY)
    for name in KEY.names or ():
        found[name] = netns if name == "netns" else rows[name]
    return found


def without(keys_: Keys, others: Keys) -> Keys:
    """Those that are not among the others."""
    as_bytes = np.dtype((np.void, KEY.itemsize))
    missing: Keys = keys_[~np.isin(keys_.view(as_bytes), others.view(as_bytes))]
    return missing
