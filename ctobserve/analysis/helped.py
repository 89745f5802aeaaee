"""Which helper does an entry have? The nf_conn does not say it: netlink does, of those that have one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ctobserve.analysis.verify import KEY, Keys, key_of
from ctobserve.host.dump import Dumped
from ctobserve.model import IPS_EXPECTED, IPS_HELPER, ZONE_BOTH, Entries, NDArray

NAME = np.dtype("S16")  # NF_CT_HELPER_NAME_LEN
Names = NDArray[np.bytes_]


def may_have_one(entries: Entries) -> bool:
    """Whether there is any that a rule, netlink or an expectation may have given one."""
    return bool((entries["status"] & (IPS_HELPER | IPS_EXPECTED)).any())


def worth_asking(entries: Entries) -> set[int]:
    """The namespaces of those that may have one."""
    return set(np.unique(entries["netns"][(entries["status"] & (IPS_HELPER | IPS_EXPECTED)) != 0]).tolist())


def names_of(entries: Entries, helped: Mapping[int, Dumped]) -> Names:
    """Of each entry the name of its helper, empty where it has none. `helped`: by namespace, as host.dump.HELPED."""
    names = np.zeros(len(entries), NAME)
    asked = np.flatnonzero(entries["status"] & (IPS_HELPER | IPS_EXPECTED))
    if not len(asked) or not helped:
        return names
    told = np.concatenate([key_of(rows, inum) for inum, rows in helped.items()])
    of_told = np.concatenate([rows["helper"] for rows in helped.values()])
    ours = key_of(entries[asked], entries["netns"][asked])
    ours["zone"] = np.where(entries["zone_dir"][asked] == ZONE_BOTH, entries["zone"][asked], 0)
    _, first, of = np.unique(np.concatenate([_bytes(told), _bytes(ours)]), return_index=True, return_inverse=True)
    # The first with such a key is one that netlink told, if any is.
    at = first[of[len(told) :]]
    found = at < len(told)
    names[asked[found]] = of_told[at[found]]
    return names


def _bytes(keys: Keys) -> NDArray[np.void]:
    found: NDArray[np.void] = keys.view(np.dtype((np.void, KEY.itemsize)))
    return found
