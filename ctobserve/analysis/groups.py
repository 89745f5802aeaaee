"""Who is in the table, and how much of it: entries grouped by address, port, namespace, state, without a loop per entry."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ctobserve.host.owner import Owner
from ctobserve.model import IPS_ASSURED, IPS_OFFLOAD, IPS_SEEN_REPLY, TCP, Entries, NDArray, protocol_name, tcp_state_name

Labels = NDArray[np.int64]
Key = str | int | bool | None
IPV4 = 2
# Places in ENTRY's addr and port: those of the original direction, then those of the reply.
ADDRESSES = {"src": 0, "dst": 1, "reply_src": 2, "reply_dst": 3}
PORTS = {"sport": 0, "dport": 1, "reply_sport": 2, "reply_dport": 3}
COLUMNS = (
    *("src", "dst", "reply_src", "reply_dst", "subnet", "sport", "dport", "reply_sport", "reply_dport"),
    *("netns", "zone", "mark", "proto", "state", "replied", "assured", "owner"),
)
Owners = Mapping[int, Owner]  # of network namespaces, by inode number
NO_OWNERS: Owners = {}
IPV4_PREFIX_BYTES, PREFIX_BYTES = 3, 8  # subnet: a /24 or a /64 of the original source


class Groups(NamedTuple):
    """`labels[i]` is the group of entry i; of each group, `first` is one of its entries, and `counts` how many there are."""

    labels: Labels
    first: Labels
    counts: Labels

    def largest(self, limit: int | None = None) -> Labels:
        """Numbers of the groups, the largest first."""
        return np.argsort(-self.counts, kind="stable")[:limit]

    def distinct(self, finer: Groups) -> Labels:
        """How many groups of `finer` lie in each of ours; `finer` must be a division of the same entries by more columns."""
        return np.bincount(self.labels[finer.first], minlength=len(self.counts))

    def sums(self, weights: NDArray[Any]) -> Labels:
        """The weights of the entries (or a mask of them), added up in each group."""
        return np.bincount(self.labels, weights, len(self.counts)).astype(np.int64)


def divide(entries: Entries, by: Sequence[str], owners: Owners = NO_OWNERS) -> Groups:
    """Entries with equal values in all these of COLUMNS are one group; nobody's namespaces have one owner together."""
    return divide_all((entries,), by, owners)


def divide_all(parts: Sequence[Entries], by: Sequence[str], owners: Owners = NO_OWNERS) -> Groups:
    """The same of several arrays, one behind the other, whose rows need not be joined for it."""
    groups = _label(np.zeros(sum(map(len, parts)), np.int64))
    for name in by:
        for values in zip(*(_columns(part, name, owners) for part in parts), strict=True):
            groups = meet(groups, _label(np.concatenate(values)))
    return groups


def meet(one: Groups, other: Groups) -> Groups:
    """Entries that are in one group of either: both are divisions of the same entries."""
    if len(one.counts) <= 1:
        return other
    return one if len(other.counts) <= 1 else _label(one.labels * len(other.counts) + other.labels)


def group(entries: Entries, by: str, limit: int | None = None) -> list[tuple[Key, int]]:
    """(value, number of entries) for each value of a column, the most frequent first."""
    groups = divide(entries, (by,))
    return [(key(entries[groups.first[at]], by), int(groups.counts[at])) for at in groups.largest(limit)]


def key(entry: np.void, by: str, owners: Owners = NO_OWNERS) -> Key:
    """The value of a column, as people and JSON have it."""
    if by == "owner":
        return owner_of(int(entry["netns"]), owners)
    if by in ADDRESSES:
        return _address(entry, ADDRESSES[by], 16)
    if by in PORTS:
        return int(entry["port"][PORTS[by]])
    if by in BITS:
        return bool(entry["status"] & BITS[by])
    return _WORDS[by](entry) if by in _WORDS else int(entry[by])


def owner_of(inum: int, owners: Owners) -> str | None:
    """What text calls who owns this namespace."""
    owner = owners.get(inum)
    return owner and owner.label


BITS = {"replied": IPS_SEEN_REPLY, "assured": IPS_ASSURED}
OFFLOAD = "OFFLOAD"  # in place of a state: the tracker sees no packets of an entry that is in a flow table


def _state_numbers(entries: Entries) -> NDArray[Any]:
    states = np.where(entries["protonum"] == TCP, entries["tcp_state"].astype(np.int64), -1)
    return np.where(entries["status"] & IPS_OFFLOAD != 0, -2, states)


def _state(entry: np.void) -> Key:
    return OFFLOAD if entry["status"] & IPS_OFFLOAD else tcp_state_name(int(entry["protonum"]), int(entry["tcp_state"]))


_NUMBERS: dict[str, Callable[[Entries], NDArray[Any]]] = {
    "proto": lambda entries: entries["protonum"],
    "state": _state_numbers,
}


def _columns(entries: Entries, name: str, owners: Owners) -> list[NDArray[Any]]:
    """Numbers that are equal where the values of this column are."""
    if name == "owner":
        return [_owner_numbers(entries["netns"], owners)]
    if name in ADDRESSES or name == "subnet":
        return _halves(entries, ADDRESSES.get(name, 0), name == "subnet")
    if name in PORTS:
        return [entries["port"][:, PORTS[name]].astype(np.uint16)]
    if name in BITS:
        return [(entries["status"] & BITS[name]) != 0]
    return [_NUMBERS[name](entries) if name in _NUMBERS else entries[name]]


def _owner_numbers(netns: NDArray[Any], owners: Owners) -> NDArray[Any]:
    """By who it is, not by what text calls him, which two may share; -1 where nobody is known."""
    numbers = {identity: at for at, identity in enumerate({owner.identity: None for owner in owners.values()})}
    spaces = _label(netns)
    inums = netns[spaces.first].tolist()
    return np.array([numbers[owners[inum].identity] if inum in owners else -1 for inum in inums], np.int64)[spaces.labels]


def _halves(entries: Entries, at: int, cut: bool) -> list[NDArray[Any]]:
    """Address family, and an address's 16 bytes as two numbers; `cut` to its subnet."""
    family = entries["l3num"]
    halves = np.ascontiguousarray(entries["addr"][:, at]).view("<u8")
    if not cut:
        return [family, halves[:, 0], halves[:, 1]]
    return [family, np.where(family == IPV4, halves[:, 0] & np.uint64(0xFFFFFF), halves[:, 0])]


def _label(values: NDArray[Any]) -> Groups:
    """Equal values get the same number. Sorted stably: NumPy 2's other argsort gives wrong orders on emulated CPUs."""
    if not len(values) or (values == values[0]).all():
        some = min(len(values), 1)
        return Groups(np.zeros(len(values), np.int64), np.zeros(some, np.int64), np.full(some, len(values), np.int64))
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    labels = np.empty(len(values), np.int64)
    labels[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(values)))
    return Groups(labels, order[starts], np.diff(starts, append=len(values)))


def _address(entry: np.void, at: int, kept: int) -> str:
    size = 4 if entry["l3num"] == IPV4 else 16
    packed = entry["addr"][at].tobytes()[:size]
    return str(ipaddress.ip_address(packed[:kept].ljust(size, b"\0")))


def _subnet(entry: np.void) -> str:
    kept = IPV4_PREFIX_BYTES if entry["l3num"] == IPV4 else PREFIX_BYTES
    return f"{_address(entry, 0, kept)}/{8 * kept}"


_WORDS: dict[str, Callable[[np.void], Key]] = {
    "proto": lambda entry: protocol_name(int(entry["protonum"])),
    "state": _state,
    "subnet": _subnet,
}
