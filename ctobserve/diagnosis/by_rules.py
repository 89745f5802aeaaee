"""What the rules of a namespace would give a new packet of the same source and destination, beside what an entry has."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.groups import ADDRESSES, PORTS
from ctobserve.analysis.translation import NewPacket, Possible, Surroundings, gives, possible, shown, target
from ctobserve.host.nat_rules import ANY_PORT, NatRule
from ctobserve.host.ruleset import Ruleset

LOCAL = frozenset(("",))  # the name of the device by which a packet of our own came


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


class Place(NamedTuple):
    """What a namespace says of itself: its rules and its surroundings, None where they are not known."""

    rules: Ruleset | None = None
    around: Surroundings | None = None

    @property
    def length(self) -> int:
        """Rules that a packet may have to walk through."""
        return sum(len(chain.rules) for chain in self.rules.nat) if self.rules else 0


def destination(entry: np.void, place: Place) -> tuple[NewMapping, bool]:
    """Where they would send such a packet; and whether there is a rule that may translate it."""
    rules, own = place.rules, place.around
    if rules is None or rules.unread or own is None:
        return _unread(place), False
    family, kept = int(entry["l3num"]), _end(entry, "dst", "dport")
    local = own.is_local(family, number(entry, "src"))
    packet = NewPacket(
        family,
        int(entry["protonum"]),
        number(entry, "src"),
        *kept,
        iif=LOCAL if local else own.devices(family, number(entry, "src")),
        dst_local=own.is_local(family, kept[0]),
    )
    found = possible(rules.nat, "output" if local else "prerouting", packet)
    fits = [gives(rule, family, kept, _end(entry, "reply_src", "reply_sport"), own) for rule in found.rules]
    return _compared(found, fits, family, kept, kept == _end(entry, "reply_src", "reply_sport"), rules), bool(found.rules)


def source(entry: np.void, place: Place) -> NewMapping:
    """From which address they would let such a packet leave, after it has been sent where the entry sends it."""
    rules, own = place.rules, place.around
    if rules is None or rules.unread or own is None:
        return _unread(place)
    family, (client, sport), chosen = int(entry["l3num"]), _end(entry, "src", "sport"), number(entry, "reply_dst")
    towards = _end(entry, "reply_src", "reply_sport")
    if own.ends_here(family, towards[0]):
        return NewMapping(Judged.SAME, None, shown(family, client), sport)  # it does not leave
    packet = NewPacket(family, int(entry["protonum"]), client, *towards, oif=own.devices(family, towards[0]), dst_local=False)
    found = possible(rules.nat, "postrouting", packet)
    # Another port may be chosen for being free.
    fits = [gives(rule._replace(ports=ANY_PORT), family, (client, sport), (chosen, sport), own) for rule in found.rules]
    return _compared(found, fits, family, (client, sport), client == chosen, rules)


def _unread(place: Place) -> NewMapping:
    if place.rules is None or place.rules.unread:
        return NewMapping(Judged.UNKNOWN, why=(place.rules and place.rules.unread) or "its rules were not read")
    return NewMapping(Judged.UNKNOWN, why="its addresses were not read")


def _compared(
    found: Possible, fits: list[bool | None], family: int, kept: tuple[int, int], as_it_was: bool, rules: Ruleset
) -> NewMapping:
    """What is possible, and whether the entry's mapping `fits` the rules; `as_it_was`: it has none."""
    if found.untouched:
        # What is built in may translate without a rule.
        fits = [*fits, as_it_was or (None if rules.built_in else False)]
    rule = found.rules[0] if len(fits) == len(found.rules) == 1 else None
    address, port = target(rule, family, kept) if rule else (None, None)
    if not found.rules and fits:
        address, port = shown(family, kept[0]), kept[1]
    if fits and all(fits) and not found.unread:
        return NewMapping(Judged.SAME, rule, address, port)
    if not fits or found.unread or any(fit is not False for fit in fits):
        return NewMapping(Judged.UNKNOWN, why="its rules have conditions that are not known of an entry")
    return NewMapping(Judged.OTHER, rule, address, port)


def _end(entry: np.void, address: str, port: str) -> tuple[int, int]:
    return number(entry, address), int(entry["port"][PORTS[port]])


def number(entry: np.void, column: str) -> int:
    """One of its four addresses."""
    return int.from_bytes(entry["addr"][ADDRESSES[column]].tobytes()[: 4 if entry["l3num"] == 2 else 16], "big")
