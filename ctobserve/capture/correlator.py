"""What earlier records said of the same entry: its birth, its master, what happened to its packet, for whom it was evicted."""

from __future__ import annotations

import numpy as np

from ctobserve.capture.address_index import Addresses, AddressIndex
from ctobserve.capture.decoder import LEAVING, Decoded
from ctobserve.capture.departures import Departures
from ctobserve.capture.memory import Memory
from ctobserve.capture.records import RecordKind
from ctobserve.clock import NS_PER_S
from ctobserve.event import FOUND_BAD, IN_CONFIRM, NO_EVENTS, TUPLE, Events, Kind, drop_name, has_text
from ctobserve.model import Mask, NDArray, pick, somewhere

HOLD_NS, HOLD_EVENTS = NS_PER_S, 1 << 16
ENTRIES_REMEMBERED, MASTERS_REMEMBERED = 1 << 17, 1 << 13
CLASH_RESOLVED = b"clash_resolved"
EVICTING = (RecordKind.EVICTOR, RecordKind.DESTROY)
TOLD = frozenset(map(int, (*Kind, RecordKind.FREE)))  # kinds of records; the others are there for others alone
REFUSED, BAD = (np.isin(np.arange(256), reasons) for reasons in (IN_CONFIRM, FOUND_BAD))  # by DropReason
Times = NDArray[np.uint64]


class Correlator:
    """The stream's memory, bounded: what was said longest ago is forgotten, and then unknown, never wrong."""

    def __init__(self, lives: bool, late: bool = False) -> None:
        """`lives`: somebody wants to know what earlier records said; else nothing is remembered, and nothing waits.

        `late`: somebody wants to know which entry an INVALID packet's connection had before.
        """
        self._lives = lives
        self._departures = Departures() if late else None
        self._births = Births()
        self._masters: Memory[bytes] = Memory(MASTERS_REMEMBERED)
        self._fates: Memory[bytes] = Memory(ENTRIES_REMEMBERED)
        self._held: Decoded | None = None

    def complete(self, decoded: Decoded, final: bool = False) -> Events:
        """The events that can be told now, in order, each with what earlier ones said.

        A victim of early_drop waits for the tuple that it made room for, which comes microseconds later, if it comes: no longer
        than a second, and while few enough events came; what came after it waits too. `final`: nothing waits.
        """
        if self._held is not None:
            decoded, self._held = Decoded.joined([self._held, decoded]), None
        if not len(decoded):
            return NO_EVENTS
        if self._lives and not decoded.kinds.isdisjoint(EVICTING) and decoded.links["eviction"].any():
            waiting = _name_evictors(decoded)
            end = len(decoded) if final else _first_to_wait(decoded.events, waiting)
            if end < len(decoded):
                decoded, self._held = decoded.parted(end)
        events, leaving = decoded.events, decoded.of(*LEAVING)
        if self._lives:
            _remember_births(self._births, events, decoded.of(RecordKind.INSERT), leaving)
            self._name_masters(decoded, leaving)
            self._name_fates(decoded, leaving)
        if self._departures is not None:
            _name_departed(self._departures, decoded)
        if RecordKind.FREE in decoded.kinds:
            events["kind"][leaving] = Kind.DESTROY
        return events if decoded.kinds <= TOLD else pick(events, ~decoded.of(*(decoded.kinds - TOLD)))

    def forget(self) -> None:
        """What waits is not told any more."""
        self._held = None

    def _name_masters(self, decoded: Decoded, leaving: Mask) -> None:
        if not (len(self._masters) or RecordKind.MASTER in decoded.kinds):
            return
        events, masters = decoded.events, decoded.of(RecordKind.MASTER)
        expected = events["entry"]["master"] != 0
        concerned = masters | expected
        for at, ct in _remembered(self._masters, events, concerned, leaving):
            if masters[at]:
                self._masters.latest[ct] = _original(events[at])
                continue
            found = self._masters.get(int(events["entry"]["master"][at])) if expected[at] else None
            if found is not None:
                events["master"][at] = np.frombuffer(found, TUPLE)[0]
            if leaving[at]:
                self._masters.pop(ct)
        self._masters.age()

    def _name_fates(self, decoded: Decoded, leaving: Mask) -> None:
        """What became of the packet of an entry that never enters the table says its drop, or the clash that it lost."""
        if decoded.kinds.isdisjoint((RecordKind.DROP, *LEAVING)):
            return
        events, links = decoded.events, decoded.links
        refused = decoded.of(RecordKind.DROP) & REFUSED[events["reason"]]
        silent = leaving & links["clashed"] & ~has_text(events, "detail")
        events["detail"][silent] = CLASH_RESOLVED
        if not (len(self._fates) or refused.any()):
            return
        for at, ct in _remembered(self._fates, events, refused, leaving):
            if refused[at]:
                self._fates.latest[ct] = drop_name(int(events["reason"][at])).encode()
                continue
            fate = self._fates.pop(ct)
            if fate is not None and (silent[at] or not events["detail"][at]):
                events["detail"][at] = fate
        self._fates.age()


def _name_departed(departures: Departures, decoded: Decoded) -> None:
    events = decoded.events
    if RecordKind.DESTROY in decoded.kinds:
        departures.add(pick(events, decoded.of(RecordKind.DESTROY)))
    bad = (decoded.of(RecordKind.DROP) & BAD[events["reason"]]).nonzero()[0]
    if len(bad):
        events["left"][bad] = departures.of(pick(events, bad))


def _remembered(memory: Memory[bytes], events: Events, concerned: Mask, leaving: Mask) -> list[tuple[int, int]]:
    """Places and addresses, in order: of events that are concerned, and of those that leave and may be remembered."""
    addresses = events["entry"]["ct"]
    at = np.flatnonzero(concerned | leaving)
    here = set(addresses[concerned].tolist())
    found = zip(at.tolist(), addresses[at].tolist(), concerned[at].tolist(), strict=True)
    return [(place, ct) for place, ct, is_concerned in found if is_concerned or ct in here or ct in memory]


def _name_evictors(decoded: Decoded) -> Mask:
    """Victims get the tuple that they made room for; returns those of which it has not come yet."""
    events, links, evictors = decoded.events, decoded.links, decoded.of(RecordKind.EVICTOR)
    victims = np.flatnonzero((links["eviction"] != 0) & ~evictors)
    tokens = links["eviction"][evictors]
    order = np.argsort(tokens, kind="stable")
    ranked = np.append(tokens[order], np.uint64(0))
    place = np.searchsorted(ranked[:-1], links["eviction"][victims])
    there = ranked[place] == links["eviction"][victims]
    chosen = np.flatnonzero(evictors)[order][place[there]] if len(order) else place[:0]
    for name, of in (("addr", slice(0, 2)), ("port", slice(0, 2))):
        events["evictor"][name][victims[there]] = events["entry"][name][chosen, of]
    for name in ("l3num", "protonum"):
        events["evictor"][name][victims[there]] = events["entry"][name][chosen]
    waiting = np.zeros(len(events), np.bool_)
    waiting[victims[~there]] = True
    return waiting


def _first_to_wait(events: Events, waiting: Mask) -> int:
    """How many events can be told: those before the first recent one that waits."""
    at = np.flatnonzero(waiting)
    times = events["entry"]["seen_ns"]
    if len(at):
        newest = int(times[-1])
        at = at[(times[at].astype(np.int64) > newest - HOLD_NS) & (len(events) - at <= HOLD_EVENTS)]
    return int(at[0]) if len(at) else len(events)


def _original(event: np.void) -> bytes:
    made = np.zeros(1, TUPLE)
    entry = event["entry"]
    made["addr"], made["port"] = entry["addr"][:2], entry["port"][:2]
    made["l3num"], made["protonum"] = entry["l3num"], entry["protonum"]
    return made.tobytes()


class Births:
    """When entries were inserted, by address, in two halves: when the younger is full it becomes the older one.

    What that held is forgotten.
    """

    def __init__(self, half: int = ENTRIES_REMEMBERED) -> None:
        """So many living entries at least are remembered; twice as many, and those of one batch, at most."""
        self._half = half
        self._young, self._old = _Half(), _Half()

    def put(self, addresses: Addresses, times: Times) -> None:
        """These addresses are entries inserted then; of one that comes twice, which a lost record can make, the last counts."""
        self._young.put(addresses, times)
        if self._young.living >= self._half and self._young.counted() >= self._half:
            self._young, self._old = _Half(self._half), self._young

    def pop(self, addresses: Addresses) -> Times:
        """When each was inserted, 0 = unknown; for the last time: the address goes to another entry."""
        young, old = self._young.pop(addresses), self._old.pop(addresses)
        return np.where(young != 0, young, old)


class _Half:
    """A row for each address met, with 0 for one whose entry has left; rebuilt of the living when those are few among them."""

    def __init__(self, room: int = 1024) -> None:
        """`room`: for so many at once."""
        self.living = 0  # or fewer, where an address came twice in one batch
        self._index = AddressIndex(room)
        self._times = np.zeros(room, np.uint64)
        self._used = 0

    def put(self, addresses: Addresses, times: Times) -> None:
        rows, self._used = self._index.find_or_add(addresses, self._used)
        room = len(self._times)
        if self._used > room:
            self._times = np.concatenate([self._times, np.zeros(self._used, np.uint64)])
        self.living += len(rows) - int(np.count_nonzero(self._times[rows]))
        self._times[rows] = times
        if self._used > room > 2 * self.living:
            self._forget_dead(room)

    def counted(self) -> int:
        """How many are living indeed."""
        self.living = int(np.count_nonzero(self._times))
        return self.living

    def pop(self, addresses: Addresses) -> Times:
        rows = self._index.find(addresses)
        found: Times = np.where(rows >= 0, self._times[rows], 0).astype(np.uint64)
        self._times[rows[rows >= 0]] = 0
        self.living -= int(np.count_nonzero(found))
        return found

    def _forget_dead(self, room: int) -> None:
        addresses, rows = self._index.known()
        times = self._times[rows]
        alive = times.nonzero()[0]
        self._used = len(alive)
        self._times = np.zeros(room, np.uint64)
        self._times[: self._used] = times[alive]
        self._index.rebuild(addresses[alive], np.arange(self._used, dtype=np.int32))


def _remember_births(births: Births, events: Events, inserted: Mask, leaving: Mask) -> None:
    """Destroys get the time of their insert; an address may come and go several times in one batch."""
    entries = events["entry"]
    if not somewhere(leaving):
        if somewhere(inserted):
            births.put(entries["ct"][inserted], entries["seen_ns"][inserted])
        return
    at = (inserted | leaving).nonzero()[0]
    addresses = np.ascontiguousarray(entries["ct"][at])
    order = np.argsort(addresses, kind="stable")
    at, addresses = at[order], addresses[order]
    again = np.append(False, addresses[1:] == addresses[:-1])
    times = np.where(inserted[at], entries["seen_ns"][at], 0).astype(np.uint64)
    born = np.where(again, np.append(np.uint64(0), times[:-1]), 0).astype(np.uint64)
    born[~again] = births.pop(addresses[~again])
    gone = leaving[at]
    events["born_ns"][at[gone]] = born[gone]
    last = np.append(~again[1:], True) & ~gone
    births.put(addresses[last], times[last])
