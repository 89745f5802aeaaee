"""What earlier records say of an entry is told with its event, or waited for, or forgotten; it is never another entry's."""

from __future__ import annotations

import random

import numpy as np
import pytest

from ctobserve.capture import correlator
from ctobserve.capture.correlator import Births, Correlator
from ctobserve.capture.decoder import Decoder
from ctobserve.capture.memory import Memory
from ctobserve.capture.records import FLAG_CLASHED, RecordKind
from ctobserve.clock import NS_PER_S
from ctobserve.event import DestroyReason, DropReason, Events, Kind
from tests.unit.samples import record, records
from tests.unit.test_decoder import AT, SYMBOLS

EVICTED = {"caller": AT["early_drop"]}
TIMED_OUT = {"caller": AT["nf_ct_gc_expired.part.0"]}


class Stream:
    """Records in, events out."""

    def __init__(self, lives: bool = True) -> None:
        self._decoder, self._correlator = Decoder(SYMBOLS), Correlator(lives)

    def tell(self, *made: np.void, final: bool = False) -> Events:
        return self._correlator.complete(self._decoder.decode(records(*made)), final)


def test_only_events_are_told_in_order():
    kinds = [
        RecordKind.MASTER,
        RecordKind.INSERT,
        RecordKind.EVICTOR,
        RecordKind.FREE,
        RecordKind.RESIZE,
        RecordKind.DESTROY,
        RecordKind.RESOLVED,
    ]
    told = Stream().tell(*(record(kind, ct) for ct, kind in enumerate(kinds, 1)))
    assert told["kind"].tolist() == [Kind.INSERT, Kind.DESTROY, Kind.DESTROY, Kind.RESOLVED]
    assert told["entry"]["ct"].tolist() == [2, 4, 6, 7]
    assert told["reason"].tolist() == [0, DestroyReason.UNCONFIRMED, DestroyReason.OTHER, 0]


def test_nothing_comes_of_nothing():
    stream = Stream()
    assert len(stream.tell()) == 0 and len(stream.tell(final=True)) == 0


def test_a_victim_waits_for_the_tuple_it_made_room_for():
    stream = Stream()
    assert len(stream.tell(record(RecordKind.DESTROY, 1, eviction=77, **EVICTED), record(RecordKind.INSERT, 2))) == 0
    first, second = stream.tell(
        record(RecordKind.EVICTOR, 0, has_ct=0, eviction=77, dport=99, src="fd00::1", dst="fd00::2", proto=6)
    )
    assert (first["reason"], second["kind"]) == (DestroyReason.EARLY_DROP, Kind.INSERT)
    assert (first["evictor"]["port"].tolist(), first["evictor"]["l3num"], first["evictor"]["protonum"]) == ([1000, 99], 10, 6)
    assert first["evictor"]["addr"][1, 15] == 2 and second["evictor"]["l3num"] == 0


def test_each_victim_gets_the_evictor_of_its_own_call():
    made = [record(RecordKind.DESTROY, ct, eviction=token, **EVICTED) for ct, token in ((1, 70), (2, 71), (3, 70), (4, 72))]
    made += [record(RecordKind.EVICTOR, 0, has_ct=0, eviction=token, dport=token) for token in (72, 70, 71)]
    assert Stream().tell(*made)["evictor"]["port"][:, 1].tolist() == [70, 71, 70, 72]


def test_final_waits_for_nothing():
    (victim,) = Stream().tell(record(RecordKind.DESTROY, 1, eviction=77, **EVICTED), final=True)
    assert (victim["reason"], victim["evictor"]["l3num"]) == (DestroyReason.EARLY_DROP, 0)


def test_a_victim_of_a_call_that_was_not_seen_to_begin_does_not_wait():
    assert len(Stream().tell(record(RecordKind.DESTROY, 1, eviction=0, **EVICTED))) == 1


def test_a_victim_whose_evictor_was_lost_holds_up_no_more_than_so_many_events(monkeypatch):
    monkeypatch.setattr(correlator, "HOLD_EVENTS", 10)
    stream = Stream()
    assert len(stream.tell(record(RecordKind.DESTROY, 1, eviction=77, **EVICTED))) == 0
    assert len(stream.tell(*(record(RecordKind.INSERT, ct) for ct in range(2, 11)))) == 0
    told = stream.tell(record(RecordKind.INSERT, 11))
    assert (told["reason"][0], told["evictor"]["l3num"][0], len(told)) == (DestroyReason.EARLY_DROP, 0, 11)


def test_a_victim_whose_evictor_was_lost_waits_no_longer_than_a_second():
    stream = Stream()
    assert len(stream.tell(record(RecordKind.DESTROY, 1, ts=5 * NS_PER_S, eviction=77, **EVICTED))) == 0
    assert len(stream.tell(record(RecordKind.INSERT, 2, ts=6 * NS_PER_S - 1))) == 0
    assert len(stream.tell(record(RecordKind.INSERT, 3, ts=6 * NS_PER_S))) == 3


def test_the_birth_of_an_entry_that_leaves_in_the_same_batch_and_in_a_later_one():
    stream = Stream()
    told = stream.tell(
        record(RecordKind.INSERT, 1, ts=10),
        record(RecordKind.INSERT, 2, ts=11),
        record(RecordKind.DESTROY, 1, ts=20, **TIMED_OUT),
    )
    assert told["born_ns"].tolist() == [0, 0, 10]
    assert stream.tell(record(RecordKind.DESTROY, 2, ts=30), record(RecordKind.DESTROY, 1, ts=31))["born_ns"].tolist() == [11, 0]


def test_births_are_right_or_unknown_whatever_comes():
    """Random lives at few addresses, cut into random batches, against a plain dictionary."""
    choose = random.Random(12)
    stream, born, expected, made = Stream(), {}, [], []
    for ts in range(1, 4000):
        ct, kind = (
            choose.randrange(1, 40),
            choose.choice((RecordKind.INSERT, RecordKind.DESTROY, RecordKind.FREE, RecordKind.UPDATE)),
        )
        made.append(record(kind, ct, ts=ts, **TIMED_OUT))
        expected.append(born.pop(ct, 0) if kind in (RecordKind.DESTROY, RecordKind.FREE) else 0)
        if kind == RecordKind.INSERT:
            born[ct] = ts
    told = []
    while made:
        count = choose.randrange(1, 60)
        told += stream.tell(*made[:count])["born_ns"].tolist()
        made = made[count:]
    assert told == expected


def test_an_address_inserted_twice_was_born_the_last_time():
    stream = Stream()
    stream.tell(record(RecordKind.INSERT, 1, ts=10), record(RecordKind.INSERT, 1, ts=20))
    assert stream.tell(record(RecordKind.DESTROY, 1, ts=30))["born_ns"].tolist() == [20]


def test_the_birth_of_an_entry_is_right_or_unknown_however_many_there_are(monkeypatch):
    births = Births(half=100)
    for ct in range(1, 1001):
        births.put(np.array([ct], np.uint64), np.array([ct * 7], np.uint64))
        assert births._young.living <= 100 and births._old.living <= 100
    # An address that was used before, and is again: its first entry's end was never seen.
    births.put(np.array([950], np.uint64), np.array([9], np.uint64))
    asked = np.array([1, 950, 1000, 950], np.uint64)
    assert births.pop(asked[:3]).tolist() == [0, 9, 7000]
    assert births.pop(asked[1:]).tolist() == [0, 0, 0], "the address goes to another entry"


def test_what_counts_are_living_entries_however_many_addresses_there_were():
    births, old = Births(half=100), np.arange(1, 11, dtype=np.uint64)
    births.put(old, old * np.uint64(7))
    for ct in range(1000, 5000):
        one = np.array([ct], np.uint64)
        births.put(one, one)
        assert births.pop(one).tolist() == [ct]
    assert len(births._young._times) <= 4096, "rows of the dead are given up"
    assert births.pop(old).tolist() == (old * np.uint64(7)).tolist()


def test_an_address_that_comes_twice_at_once_counts_as_one_entry():
    births = Births(half=3)
    births.put(np.array([1, 1, 2], np.uint64), np.array([5, 6, 7], np.uint64))
    assert births._old.living == 0, "two entries do not fill a half of three"
    assert births.pop(np.array([1, 2], np.uint64)).tolist() == [6, 7]
    births.put(np.array([1, 2, 3], np.uint64), np.array([8, 8, 8], np.uint64))
    assert (births._young.living, births._old.living) == (0, 3)


def test_a_flood_of_addresses_that_were_there_before_makes_no_room():
    births, flood = Births(half=1 << 20), np.arange(1, 20_001, dtype=np.uint64)
    rooms = []
    for times in (flood, flood + np.uint64(7), flood + np.uint64(9)):
        for at in range(0, len(flood), 1700):
            births.put(flood[at : at + 1700], times[at : at + 1700])
        rooms.append((births._young._used, len(births._young._times), len(births._young._index._keys)))
        assert births.pop(flood).tolist() == times.tolist()
    assert rooms[0] == rooms[1] == rooms[2]


def test_who_asks_for_no_story_is_told_at_once_and_pays_for_none():
    stream = Stream(lives=False)
    made = record(RecordKind.INSERT, 1, ts=10), record(RecordKind.DESTROY, 1, ts=20, eviction=77, **EVICTED)
    told = stream.tell(*made, record(RecordKind.DROP, 2, reason=DropReason.CLASH), record(RecordKind.MASTER, 3))
    assert told["kind"].tolist() == [Kind.INSERT, Kind.DESTROY, Kind.DROP]
    assert (told["reason"][1], told["born_ns"].tolist()) == (DestroyReason.EARLY_DROP, [0, 0, 0])
    assert not len(stream._correlator._fates) and not len(stream._correlator._masters)


def test_what_is_held_back_can_be_forgotten():
    stream = Stream()
    assert len(stream.tell(record(RecordKind.DESTROY, 1, eviction=77, **EVICTED))) == 0
    stream._correlator.forget()
    assert len(stream.tell(final=True)) == 0


def test_related_entries_name_their_master_until_it_leaves():
    stream = Stream()
    (child,) = stream.tell(record(RecordKind.MASTER, 5, dport=21, proto=6), record(RecordKind.INSERT, 6, master=5, dport=20))
    assert (child["master"]["port"][1], child["master"]["protonum"]) == (21, 6)
    update, gone, late = stream.tell(
        record(RecordKind.UPDATE, 6, master=5),
        record(RecordKind.DESTROY, 5, **TIMED_OUT),
        record(RecordKind.DESTROY, 6, master=5, **TIMED_OUT),
    )
    assert [event["master"]["port"][1] for event in (update, gone, late)] == [21, 0, 0]


def test_the_fate_of_an_unconfirmed_entry():
    made = [
        record(RecordKind.DROP, 1, reason=DropReason.CHAINTOOLONG),
        record(RecordKind.FREE, 1),
        record(RecordKind.FREE, 2, flags=FLAG_CLASHED),
    ]
    made += [
        record(RecordKind.DROP, 3, reason=DropReason.CLASH),
        record(RecordKind.FREE, 3, flags=FLAG_CLASHED),
        record(RecordKind.FREE, 3),
    ]
    told = Stream().tell(*made)
    details = told["detail"][told["kind"] == Kind.DESTROY].tolist()
    assert details == [b"chaintoolong", b"clash_resolved", b"clash", b""]


def test_a_fate_is_remembered_over_batches_and_says_less_than_a_reason_of_its_own():
    stream = Stream()
    stream.tell(*(record(RecordKind.DROP, ct, reason=DropReason.CONFIRMED) for ct in (1, 2)))
    told = stream.tell(record(RecordKind.DESTROY, 1, **TIMED_OUT), record(RecordKind.DESTROY, 2, caller=AT["act_ct"]))
    assert told["detail"].tolist() == [b"confirmed", b"act_ct"]


@pytest.mark.parametrize("name", ["_masters", "_fates"])
def test_memories_are_bounded(monkeypatch, name):
    monkeypatch.setattr(correlator, "ENTRIES_REMEMBERED", 100)
    monkeypatch.setattr(correlator, "MASTERS_REMEMBERED", 100)
    stream = Stream()
    for ct in range(1, 1001):
        stream.tell(*(record(kind, ct, reason=DropReason.CLASH) for kind in (RecordKind.MASTER, RecordKind.DROP)))
    assert 100 <= len(getattr(stream._correlator, name)) <= 200


def test_a_memory_keeps_the_latest_and_never_more_than_two_halves():
    memory: Memory[int] = Memory(100)
    for ct in range(1000):
        memory.latest[ct] = ct
        memory.age()
        assert len(memory) <= 200 and memory.get(max(0, ct - 99)) == max(0, ct - 99)
    assert memory.get(0) is None and memory.pop(0) is None, "forgotten is unknown"
    known = len(memory)
    memory.latest[900] = -900
    assert memory.pop(900) == -900 and memory.pop(900) is None, "an older entry at the address is forgotten with it"
    assert len(memory) == known - 1
