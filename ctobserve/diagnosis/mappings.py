"""Where unanswered entries send packets, beside where new packets to the same destination go: by the rules, and by other entries.

An entry keeps the mapping that its first packet got, whatever rules come later, as long as packets keep it alive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.groups import ADDRESSES, PORTS, Groups, divide, key
from ctobserve.analysis.translation import NewPacket, Possible, Surroundings, gives, possible, shown, target
from ctobserve.host.nat_rules import NatRule
from ctobserve.host.ruleset import Ruleset
from ctobserve.model import (
    IPS_DST_NAT,
    IPS_EXPECTED,
    IPS_OFFLOAD,
    IPS_SEEN_REPLY,
    TCP,
    TCP_STATES,
    UDP,
    Entries,
    Mask,
    NDArray,
    pick,
)

SERVICE = ("netns", "zone", "proto", "dst", "dport")
BACKEND = (*SERVICE, "reply_src", "reply_sport")
NEARBY = (*SERVICE, "subnet")  # senders that came by the same device, as far as addresses say
ALIKE = (*BACKEND, "src")
MOST = 2_000  # groups that are held against the rules, those that packets keep alive first: each costs a walk through them
SYN_SENT = TCP_STATES.index("SYN_SENT")
LOCAL = frozenset(("",))  # the name of the device by which a packet of our own came
Indices = NDArray[np.intp]


class Judged(IntEnum):
    """Whether new packets would be mapped as this entry is."""

    UNKNOWN = 0
    SAME = 1
    OTHER = 2


class NewMapping(NamedTuple):
    """What a new packet from the same source to the same destination gets.

    `rule` is the one that says so, None without NAT or where other entries say it; `address` and `port` are None where they are
    not known; `others` are entries to the same destination that are mapped there; `why` says what is not known.
    """

    judged: Judged
    rule: NatRule | None = None
    address: str | None = None
    port: int | None = None
    others: int = 0
    why: str = ""


class Mappings(NamedTuple):
    """Unanswered entries (UDP, and TCP in SYN_SENT) that no helper expected: `rows`, in `groups` that differ in sport alone.

    `expected[group]` is what new packets get instead. Of each row, `old`: it was there when the observation began, `kept`:
    packets gave it a later timeout since, `answered`: the same service answers others, at other backends, and this one nobody.
    """

    rows: Entries
    groups: Groups
    expected: Sequence[NewMapping]
    old: Mask
    kept: Mask
    answered: Mask

    def judged(self, as_: Judged) -> Mask:
        """Rows of groups that are judged so."""
        of_group = np.array([one.judged for one in self.expected], np.int64)
        found: Mask = of_group[self.groups.labels] == as_
        return found


class Place(NamedTuple):
    """What a namespace says of itself: its rules and its surroundings, None where they are not known."""

    rules: Ruleset | None = None
    around: Surroundings | None = None


def unanswered(entries: Entries) -> Mask:
    """Entries whose first packets had no answer yet, as far as a rule may have sent them astray.

    Not those in a flow table, which the gc worker keeps alive without a packet.
    """
    opening = (entries["protonum"] == UDP) | ((entries["protonum"] == TCP) & (entries["tcp_state"] == SYN_SENT))
    found: Mask = opening & ((entries["status"] & (IPS_SEEN_REPLY | IPS_EXPECTED | IPS_OFFLOAD)) == 0)
    return found


def mappings(entries: Entries, before: Entries, place: Callable[[int], Place]) -> Mappings:
    """`before` are the entries at the start of the observation; `place` gives what is known of a namespace (inode number)."""
    rows = pick(entries, unanswered(entries))
    old, kept = _since(rows, before)
    groups = divide(rows, ALIKE)
    # Only who uses the same port and protocol can be compared: of a million entries that are few.
    services = rows["protonum"].astype(np.int64) << 16 | rows["port"][:, PORTS["dport"]]
    beside = pick(entries, np.isin(entries["protonum"].astype(np.int64) << 16 | entries["port"][:, PORTS["dport"]], services))
    around = _Beside(rows, beside, before)
    alive = groups.sums(kept)
    expected = [NewMapping(Judged.UNKNOWN, why=f"of such groups only {MOST} were compared")] * len(groups.counts)
    for at in np.argsort(-alive, kind="stable")[:MOST].tolist():
        first = int(groups.first[at])
        expected[at] = _expected(rows[first], place(int(rows["netns"][first])), around, first, bool(alive[at]))
    return Mappings(rows, groups, expected, old, kept, around.answered)


class _Beside:
    """Of each unanswered entry, what others to the same service have: masks over `rows`, in their order."""

    def __init__(self, rows: Entries, beside: Entries, before: Entries) -> None:
        self.beside, count = beside, len(rows)
        both = np.concatenate([rows, beside]) if count else rows
        new, replied = np.ones(len(both), np.bool_), (both["status"] & IPS_SEEN_REPLY) != 0
        new[count:] = ~_since(beside, before)[0]
        new[:count] = replied[:count] = False  # they come again among the others
        mapped = (both["status"] & IPS_DST_NAT) != 0
        mapped[:count] = False
        services, backends, nearby = (divide(both, by) for by in (SERVICE, BACKEND, NEARBY))
        self.services, self.backends = services.labels, backends.labels
        silent = (backends.sums(replied) == 0)[backends.labels[:count]]
        self.answered: Mask = silent & (services.sums(replied) > 0)[services.labels[:count]]
        self.still: Mask = (backends.sums(new) > 0)[backends.labels[:count]]
        self.mapped: Mask = (nearby.sums(mapped) > 0)[nearby.labels[:count]]
        self.newly_mapped: Mask = (nearby.sums(mapped & new) > 0)[nearby.labels[:count]]
        self._better, self._count = new[count:] | replied[count:], count
        self._known: dict[int, tuple[str | None, int | None, int]] = {}

    def elsewhere(self, at: int) -> tuple[str | None, int | None, int]:
        """Where most others to the service of this row are mapped, those that are new or answered first; and how many."""
        backend = int(self.backends[at])
        if backend not in self._known:
            self._known[backend] = self._elsewhere(at)
        return self._known[backend]

    def _elsewhere(self, at: int) -> tuple[str | None, int | None, int]:
        others = (self.services[self._count :] == self.services[at]) & (self.backends[self._count :] != self.backends[at])
        better = others & self._better
        chosen = pick(self.beside, better if better.any() else others)
        if not len(chosen):
            return None, None, 0
        groups = divide(chosen, ("reply_src", "reply_sport"))
        most = groups.largest(1)[0]
        first = chosen[groups.first[most]]
        return str(key(first, "reply_src")), int(first["port"][PORTS["reply_sport"]]), int(groups.counts[most])


def _expected(entry: np.void, place: Place, beside: _Beside, at: int, kept: bool) -> NewMapping:
    """By the rules, where they decide; else by the entries of others."""
    by_rules, mapped_by_rule = _by_rules(entry, place)
    if by_rules.judged is Judged.SAME:
        return by_rules
    if by_rules.judged is Judged.OTHER and beside.still[at]:
        return NewMapping(Judged.UNKNOWN, why="new entries are mapped as the old ones, whatever its rules seem to say")
    if by_rules.judged is Judged.OTHER:
        address, port, others = beside.elsewhere(at)
        if by_rules.address is None or (by_rules.address, by_rules.port) == (address, port):
            return by_rules._replace(address=by_rules.address or address, port=by_rules.port or port, others=others)
        return by_rules
    # Others are answered elsewhere, or are mapped while this one is not; and no new one is mapped as it is.
    answered = kept and beside.answered[at]
    came_before = not _is_mapped(entry) and (beside.mapped[at] if mapped_by_rule else beside.newly_mapped[at])
    if beside.still[at] or not (answered or came_before):
        return by_rules
    return NewMapping(Judged.OTHER, None, *beside.elsewhere(at), by_rules.why)


def _by_rules(entry: np.void, place: Place) -> tuple[NewMapping, bool]:
    """And whether there is a rule that may translate such packets."""
    rules = place.rules
    if rules is None or rules.unread:
        return NewMapping(Judged.UNKNOWN, why=(rules and rules.unread) or "its rules were not read"), False
    if place.around is None:
        return NewMapping(Judged.UNKNOWN, why="its addresses were not read"), False
    family, kept = int(entry["l3num"]), (number(entry, "dst"), int(entry["port"][PORTS["dport"]]))
    chosen = number(entry, "reply_src"), int(entry["port"][PORTS["reply_sport"]])
    source, own = number(entry, "src"), place.around
    local = own.is_local(family, source)
    packet = NewPacket(
        family,
        int(entry["protonum"]),
        source,
        *kept,
        LOCAL if local else own.devices(family, source),
        own.is_local(family, kept[0]),
    )
    found = possible(rules.nat, "output" if local else "prerouting", packet)
    return _compared(found, family, kept, chosen, own, rules), bool(found.rules)


def _compared(
    found: Possible, family: int, kept: tuple[int, int], chosen: tuple[int, int], own: Surroundings, rules: Ruleset
) -> NewMapping:
    """What is possible, and the mapping that there is."""
    fits = [gives(rule, family, kept, chosen, own) for rule in found.rules]
    if found.untouched:
        # What is built in may translate without a rule.
        fits.append(chosen == kept or (None if rules.built_in else False))
    rule = found.rules[0] if len(fits) == len(found.rules) == 1 else None
    address, port = target(rule, family, kept) if rule else (None, None)
    if not found.rules and fits:
        address, port = shown(family, kept[0]), kept[1]
    if fits and all(fits) and not found.unread:
        return NewMapping(Judged.SAME, rule, address, port)
    if not fits or found.unread or any(fit is not False for fit in fits):
        return NewMapping(Judged.UNKNOWN, why="its rules have conditions that are not known of an entry")
    return NewMapping(Judged.OTHER, rule, address, port)


def _is_mapped(entry: np.void) -> bool:
    return bool(entry["status"] & IPS_DST_NAT)


def number(entry: np.void, column: str) -> int:
    """One of its four addresses."""
    return int.from_bytes(entry["addr"][ADDRESSES[column]].tobytes()[: 4 if entry["l3num"] == 2 else 16], "big")


def _since(rows: Entries, before: Entries) -> tuple[Mask, Mask]:
    """Which of these were there at the start, and which of those expire later now than they would have then."""
    old, later = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
    if not len(rows) or not len(before):
        return old, later
    before = pick(before, np.argsort(before["ct"], kind="stable"))
    was = pick(before, np.minimum(np.searchsorted(before["ct"], rows["ct"]), len(before) - 1))
    old = (was["ct"] == rows["ct"]) & (was["port"] == rows["port"]).all(axis=1) & (was["addr"] == rows["addr"]).all(axis=(1, 2))
    later = old & ((rows["timeout"] - was["timeout"]).astype(np.int32) > 0)
    return old, later
