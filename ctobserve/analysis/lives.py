"""Which events are of one connection, how did it begin, and what ended it?

A life is that of an entry, with the packets of its connection that were refused before it or came after it; or that of packets
which never got an entry.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ctobserve.clock import NS_PER_S
from ctobserve.event import FOUND_BAD, IN_CONFIRM, DestroyReason, DropReason, Events, Kind
from ctobserve.model import IPS_CONFIRMED, WITH_ICMP, WITH_PORTS, NDArray

# A packet that was refused is sent again, in the same attempt: SYNs are at most so long apart (tcp_syn_retries).
RETRY_NS = 70 * NS_PER_S
INSTANT_NS = NS_PER_S  # or less, between the end of an entry that was refused and the word on its packet
HAS_ID, HAS_PORTS = (np.isin(np.arange(256), list(protocols)) for protocols in (WITH_ICMP, WITH_PORTS))  # by protocol number
NO_ZONE = -1  # of a packet without an entry it is not known
Ends = tuple[int, int, bytes]  # namespace, protocol, both ends: the same of a tuple and of its inverse
Key = tuple[Ends, int]  # and the zone


@dataclass
class Life:
    """Places of its events, in order. `key`: of its original tuple, None: not known. `ct`: address of its entry, 0 = none.

    `entered`: it had an entry in the table; `inserted`: that was seen. `ended`: the place of the destroy that ended it; `lost`:
    that was not seen, as the address has been another's since. `former`: the last one with its tuple, which was over.
    """

    key: Key | None
    ct: int
    entered: bool
    inserted: bool = False
    places: list[int] = field(default_factory=list)
    ended: int | None = None
    lost: bool = False
    former: Life | None = None

    @property
    def over(self) -> bool:
        """It has left the table."""
        return self.ended is not None or self.lost


def ends_of(rows: NDArray[np.void], at: int = 0, netns: NDArray[np.uint32] | None = None) -> list[Ends]:
    """Of the tuple that begins at this place of each row, ENTRY or TUPLE; `netns`: of those that do not say it."""
    addr = np.ascontiguousarray(rows["addr"][:, at : at + 2]).tobytes()
    inums = (rows["netns"] if netns is None else netns).tolist()
    made = []
    ports = rows["port"][:, at : at + 2].copy()
    icmp = HAS_ID[rows["protonum"]]
    ports[icmp, 1] = ports[icmp, 0]  # the id at both ends, as question and answer differ in their types
    ports[~(icmp | HAS_PORTS[rows["protonum"]])] = 0
    port = ports.tobytes()
    for place, (inum, protonum) in enumerate(zip(inums, rows["protonum"].tolist(), strict=True)):
        start, behind = 32 * place, 4 * place
        one = addr[start : start + 16] + port[behind : behind + 2]
        other = addr[start + 16 : start + 32] + port[behind + 2 : behind + 4]
        made.append((inum, protonum, one + other if one < other else other + one))
    return made


def keys_of(entries: NDArray[np.void]) -> list[Key]:
    """Of the original tuples of these entries."""
    known = entries["has_ct"] != 0
    return list(zip(ends_of(entries), np.where(known, entries["zone"].astype(np.int64), NO_ZONE).tolist(), strict=True))


def lives_of(events: Events) -> list[Life]:
    """All that these events are of, which are in order; each event is of one."""
    return [life for life in _Growing(events).lives if life.places]


class _Growing:
    """What has an entry's address is that entry's while it lives; a packet without an entry is found by its tuple."""

    def __init__(self, events: Events) -> None:
        self.lives: list[Life] = []
        self._by_ct: dict[int, Life] = {}
        self._by_key: dict[Key, Life] = {}
        self._zones: dict[Ends, set[int]] = {}
        entries = events["entry"]
        self._times: list[int] = entries["seen_ns"].tolist()
        self._kinds: list[int] = events["kind"].tolist()
        replies, inner, left = (
            ends_of(rows, at, entries["netns"])
            for rows, at in ((entries, 2), (events["inner"], 0), (events["left"]["original"], 0))
        )
        there = (events["inner"]["l3num"], events["left"]["original"]["l3num"], entries["has_ct"] == 1)
        # Where the tuple alone is known, there is no entry.
        addresses = np.where(entries["has_ct"] != 0, entries["ct"], 0)
        columns = (events["kind"], events["reason"], addresses, entries["status"], *there)
        rows = zip(keys_of(entries), *(column.tolist() for column in columns), strict=True)
        for at, (key, kind, reason, ct, status, speaks, late, whole) in enumerate(rows):
            if kind == Kind.DROP and reason in FOUND_BAD:
                # What speaks of another packet is of that one's connection.
                about = [*([(inner[at], NO_ZONE)] if speaks else [key]), *([(left[at], NO_ZONE)] if late else [])]
                life = self._of_former(at, self._bad(ct, about))
            else:
                about = [key, (replies[at], key[1])] if whole else [key]
                life = self._life(at, key, kind, reason, ct, bool(ct and status & IPS_CONFIRMED))
            life.places.append(at)
            for one in about:
                self._remember(one, life)

    def _life(self, at: int, key: Key, kind: int, reason: int, ct: int, confirmed: bool) -> Life:
        if kind == Kind.INSERT:
            return self._inserted(at, key, ct)
        if kind == Kind.DESTROY and reason == DestroyReason.UNCONFIRMED:
            return self._freed(at, key, ct)
        if kind == Kind.RESOLVED:
            return self._resolved(at, key, ct, confirmed)
        if kind == Kind.DESTROY:
            life = self._of_entry(key, ct)
            life.ended = at
            del self._by_ct[ct]
            return life
        if kind in (Kind.UPDATE, Kind.CONFIRM) or (reason == DropReason.HELPER and confirmed):
            return self._of_entry(key, ct)
        return self._refused(at, key, ct, reason in IN_CONFIRM)

    def _begin(self, key: Key | None, ct: int, entered: bool) -> Life:
        life = Life(key, ct, entered)
        self.lives.append(life)
        return life

    def _remember(self, key: Key, life: Life) -> None:
        """The tuple is this one's now, unless it is of one that lives."""
        there = self._by_key.get(key)
        if there is None or there.over or not there.entered:
            self._by_key[key] = life
            self._zones.setdefault(key[0], set()).add(key[1])

    def _own(self, ct: int) -> Life | None:
        """The one whose entry has this address, and lives; not one of which another entry lost a clash."""
        life = self._by_ct.get(ct)
        return life if life is not None and life.entered and life.ct == ct else None

    def _inserted(self, at: int, key: Key, ct: int) -> Life:
        self._leave_unseen(ct)
        life = self._attempt(at, key, ct)
        life.entered = life.inserted = True
        self._by_ct[ct] = life
        return life

    def _leave_unseen(self, ct: int) -> None:
        """Whose address this was has left the table, and nobody saw it."""
        life = self._own(ct)
        if life is not None:
            life.lost = True

    def _attempt(self, at: int, key: Key, ct: int) -> Life:
        """One that is not in the table yet: the last with this tuple, or one that begins now."""
        life = self._by_key.get(key)
        if life is not None and not life.entered and life.key == key and self._just_now(at, life, RETRY_NS):
            life.ct = ct
            return life
        made = self._begin(key, ct, entered=False)
        made.former = life if life is not None and life.over else None
        return made

    def _just_now(self, at: int, life: Life, within_ns: int) -> bool:
        return bool(life.places) and self._times[at] - self._times[life.places[-1]] <= within_ns

    def _of_entry(self, key: Key, ct: int) -> Life:
        life = self._own(ct)
        if life is not None and life.key in (None, key):
            life.key = key
            return life
        self._leave_unseen(ct)
        life = self._by_ct[ct] = self._begin(key, ct, entered=True)
        return life

    def _freed(self, at: int, key: Key, ct: int) -> Life:
        """It never entered the table; what became of its packet may have been told before, or its connection has an entry."""
        self._leave_unseen(ct)
        life = self._by_ct.pop(ct, None)
        return (self._living(key) or self._attempt(at, key, ct)) if life is None or life.lost else life

    def _living(self, key: Key) -> Life | None:
        """The one with this original tuple that is in the table."""
        life = self._by_key.get(key)
        return life if life is not None and life.entered and not life.over and life.key in (None, key) else None

    def _resolved(self, at: int, key: Key, ct: int, confirmed: bool) -> Life:
        """The packet goes on with the entry that won: this one, or the loser's, which enters the table in reply direction."""
        return self._own(ct) or self._living(key) or (self._of_entry(key, ct) if confirmed else self._attempt(at, key, ct))

    def _refused(self, at: int, key: Key, ct: int, confirming: bool) -> Life:
        """A packet that got no entry of its own: who lost a clash is of the connection that won it."""
        life = (self._living(key) if confirming else None) or self._attempt(at, key, ct)
        if ct:
            self._by_ct[ct] = life
        return life

    def _bad(self, ct: int, about: list[Key]) -> Life:
        """An INVALID packet: of its entry, else of the last life with a tuple that it is about."""
        life = self._own(ct) or next(filter(None, map(self._found, about)), None)
        if life is None:
            life = self._begin(None if ct else about[0], ct, entered=bool(ct))
            if ct:
                self._by_ct[ct] = life
        return life

    def _of_former(self, at: int, life: Life) -> Life:
        """An INVALID packet whose tracker refuses to begin with it had an entry for an instant: it comes after the former one."""
        freed = all(self._kinds[place] == Kind.DESTROY for place in life.places)
        if life.former is None or life.entered or not freed or not self._just_now(at, life, INSTANT_NS):
            return life
        former, places, life.places = life.former, life.places, []
        former.places = sorted([*former.places, *places])
        if life.key is not None:
            self._by_key[life.key] = former
        return former

    def _found(self, key: Key) -> Life | None:
        """By its tuple; where its zone is not known, the one zone in which there is such a tuple."""
        ends, zone = key
        zones = self._zones.get(ends, set())
        known = zones - {NO_ZONE} or zones
        if zone not in known and len(known) == 1:
            (zone,) = known
        life = self._by_key.get((ends, zone))
        return life if zone in known or (life is not None and not life.entered) else None
