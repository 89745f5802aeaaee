"""What became of the connections that are asked about: their events as they come, bounded, and at the end the life of each."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from ctobserve.analysis.lives import Key, Life, keys_of, lives_of
from ctobserve.analysis.recent import HALF, Recent
from ctobserve.analysis.sought import Sought
from ctobserve.capture.filters import Filter
from ctobserve.event import NO_EVENTS, DestroyReason, DropReason, Events, Kind, destroy_name, drop_name
from ctobserve.model import Entries, Mask, NDArray, join, pick

MOST_BEFORE = 1 << 16  # entries of which it is remembered that they were there at the beginning
LIVES, UNSEEN = "lives", "unseen"
RESOLVED = b"clash_resolved"
REFUSALS = [drop_name(reason).encode() for reason in DropReason]


class Connection(NamedTuple):
    """`events` of it, in order. `ended`: the place among them of the destroy that ended it. `now`: its row in the table, if any.

    `before`: it was there before the observation; None: not known. `entered`: it had an entry in the table. `end`: why it left;
    of one that has no entry why its last packet was refused; LIVES, or UNSEEN: it is in the table no more.
    """

    events: Events
    ended: int | None
    now: Entries
    before: bool | None
    entered: bool
    end: str

    @property
    def last(self) -> np.void:
        """The ENTRY row that says most of it: as it is now, as it was when it ended or was seen last, else that of a packet."""
        rows = self.now
        if not len(rows):
            rows = self.events["entry"]
            if self.ended is not None:
                rows = rows[self.ended : self.ended + 1]
            elif (rows["has_ct"] == 1).any():
                rows = rows[rows["has_ct"] == 1]
        row: np.void = rows[-1]
        return row

    @property
    def packets(self) -> Events:
        """Those that were refused, or INVALID."""
        return pick(self.events, self.events["kind"] == Kind.DROP)


class Told(NamedTuple):
    """The most telling first: those that ended or were refused, then those with lost packets, then the others; the latest first.

    `ends` counts all by their `end`, `packets` those that were refused or INVALID by reason. `forgotten` events are not known
    any more.
    """

    connections: list[Connection]
    ends: Counter[str]
    packets: Counter[str]
    forgotten: int


class Connections:
    """Made when the table is followed; `add` every batch of events, then ask what is `told`. `came` counts all events."""

    def __init__(self, sought: Sought, only: Filter, table: Entries, began_ns: int, half: int = HALF) -> None:
        """`table`: as it is at the beginning, `began_ns`. `only` narrows what is sought. `half`: as Recent has it."""
        self._sought, self._only, self._began_ns = sought, only, began_ns
        here = pick(table, np.flatnonzero(self._of(table))[:MOST_BEFORE])
        self._before = dict(zip(here["ct"].tolist(), keys_of(here), strict=True))
        # Apart, so that a flood of the one leaves some of the other.
        self._packets, self._others = Recent(half), Recent(half)
        self.came = 0
        self._ends: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()

    def _of(self, entries: Entries) -> Mask:
        return self._sought.entries(entries) & self._only.mask(entries)

    def add(self, events: Events) -> None:
        """Count those that are sought, and keep the latest."""
        places = np.flatnonzero(self._sought.events(events) & self._only.mask(events["entry"]))
        mine = pick(events, places)
        places += self.came
        self.came += len(events)
        lost = mine["kind"] == Kind.DROP
        left = (mine["kind"] == Kind.DESTROY) & (mine["reason"] != DestroyReason.UNCONFIRMED)
        self._lost.update(map(drop_name, mine["reason"][lost].tolist()))
        self._ends.update(map(destroy_name, mine["reason"][left].tolist()))
        for store, which in ((self._packets, lost), (self._others, ~lost)):
            store.add(pick(mine, which), places[which])

    def told(self, table: Entries, events_lost: int, limit: int) -> Told:
        """`table`: as it is after all events. Of those to which nothing happened no more than `limit` are told."""
        (places, lost), (other_places, others) = self._packets.rows(), self._others.rows()
        order = np.argsort(np.concatenate([places, other_places]), kind="stable")
        events = pick(join([lost, others]), order)
        forgotten = self._packets.forgotten + self._others.forgotten
        sure = not (events_lost or forgotten)
        here = pick(table, self._of(table))
        lives = lives_of(events)
        changed = np.isin(here["ct"], np.array([life.ct for life in lives], np.uint64))
        rows = dict(zip(here["ct"][changed].tolist(), zip(*_rows(here, changed), strict=True), strict=True))
        found = []
        for life in lives:
            key, row = rows.get(life.ct, (None, here[:0])) if life.entered and not life.over else (None, here[:0])
            mine = key is not None and life.key in (None, key)
            if mine:
                life.key = key
            found.append(self._connection(life, events, row if mine else here[:0], sure))
            if mine:
                del rows[life.ct]
        # What happened at the same address may be another's.
        changed &= ~np.isin(here["ct"], np.array(list(rows), np.uint64))
        silent = pick(here, ~changed)
        ends = self._ends + Counter(one.end for one in found if one.ended is None) + Counter({LIVES: len(silent)})
        for key, row in zip(*_rows(silent, _first(silent, limit)), strict=True):
            before = True if sure or self._before.get(int(row["ct"][0])) == key else None
            found.append(Connection(NO_EVENTS, None, row, before, True, LIVES))
        return Told(sorted(found, key=_telling), ends, self._lost, forgotten)

    def _connection(self, life: Life, events: Events, now: Entries, sure: bool) -> Connection:
        mine = pick(events, np.array(life.places))
        ended = None if life.ended is None else life.places.index(life.ended)
        if ended is not None:
            end = destroy_name(int(mine["reason"][ended]))
        elif life.entered:
            end = LIVES if len(now) else UNSEEN
        else:
            end = _refusal(mine)
        return Connection(mine, ended, now, self._was_before(life, events, sure), life.entered, end)

    def _was_before(self, life: Life, events: Events, sure: bool) -> bool | None:
        if not life.entered or life.inserted:
            return False
        born_ns = 0 if life.ended is None else int(events["born_ns"][life.ended])
        if born_ns:
            return born_ns < self._began_ns
        return True if sure or (life.key is not None and self._before.get(life.ct) == life.key) else None


def _refusal(events: Events) -> str:
    """Why the last packet of a connection without an entry came to nothing: a drop says it, or the death of its entry."""
    told = events[events["kind"] != Kind.RESOLVED][-1:]
    for event in told[told["kind"] == Kind.DROP]:
        return drop_name(int(event["reason"]))
    for event in told[np.isin(told["detail"], REFUSALS)]:
        return bytes(event["detail"]).decode(errors="replace")
    return destroy_name(DestroyReason.UNCONFIRMED)


def _rows(entries: Entries, which: NDArray[Any]) -> tuple[list[Key], list[Entries]]:
    """Some of these, each by itself, and its key."""
    some = pick(entries, which)
    return keys_of(some), [some[at : at + 1] for at in range(len(some))]


def _first(entries: Entries, count: int) -> NDArray[np.intp]:
    """So many of them, in an order that does not depend on that of a table."""
    halves = np.ascontiguousarray(entries["addr"]).view(">u8").reshape(len(entries), 8)
    columns = (
        *(entries["port"][:, at] for at in range(4)),
        *halves.T,
        *(entries[name] for name in ("zone", "protonum", "netns")),
    )
    order: NDArray[np.intp] = np.lexsort(columns)
    return order[:count]


def _telling(one: Connection) -> tuple[int, int]:
    rank = 0 if one.end != LIVES else 1 if len(one.packets) else 2
    return rank, -int(one.events["entry"]["seen_ns"].max()) if len(one.events) else 0
