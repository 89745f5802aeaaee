from __future__ import annotations

import numpy as np

from ctobserve.capture.extensions import extensions_dtype
from ctobserve.capture.records import RecordKind
from ctobserve.capture.snapshot_builder import REPLY, SnapshotBuilder
from ctobserve.model import UNKNOWN_BUCKET
from tests.unit.samples import LAYOUT, record, records


def replies(*pairs: tuple[int, int]):
    return np.array(list(pairs), REPLY)


def test_reply_buckets_are_joined_and_repeats_counted_once():
    found = SnapshotBuilder()
    found.add_replies(replies((0xB, 9)))
    found.add(
        records(
            record(RecordKind.WALK, 0xB, bucket=(3, UNKNOWN_BUCKET)), record(RecordKind.WALK, 0xA, bucket=(4, UNKNOWN_BUCKET))
        )
    )
    found.add(records())
    found.add(
        records(
            record(RecordKind.WALK, 0xC, bucket=(UNKNOWN_BUCKET, 5), reply_only=1),
            record(RecordKind.WALK, 0xB, bucket=(6, UNKNOWN_BUCKET)),
        )
    )
    found.add_replies(replies((0xFF, 7), (0x1, 7), (0xA, 8)))
    entries, extensions = found.result()
    assert entries["ct"].tolist() == [0xA, 0xB, 0xC]
    assert entries["bucket"].tolist() == [[4, 8], [6, 9], [UNKNOWN_BUCKET, 5]]
    assert len(extensions) == 0


def test_an_entry_without_repeats_keeps_its_place_and_its_reply_bucket():
    found = SnapshotBuilder()
    found.add(
        records(
            record(RecordKind.WALK, 0xB, bucket=(3, UNKNOWN_BUCKET)), record(RecordKind.WALK, 0xA, bucket=(4, UNKNOWN_BUCKET))
        )
    )
    found.add_replies(replies((0xA, 8), (0xB, 9), (0xA, 10)))
    entries, _ = found.result()
    assert dict(zip(entries["ct"].tolist(), entries["bucket"].tolist(), strict=True)) == {0xB: [3, 9], 0xA: [4, 10]}


def test_nothing_and_replies_of_nothing():
    found = SnapshotBuilder()
    found.add_replies(replies((0xA, 8)))
    entries, extensions = found.result()
    assert (len(entries), len(extensions)) == (0, 0)


def test_details_follow_their_entries():
    found = SnapshotBuilder(extensions_dtype(LAYOUT))
    for first, second in ((0xB, 0xA), (0xC, 0xB)):
        made = records(record(RecordKind.WALK, first), record(RecordKind.WALK, second))
        made.view(extensions_dtype(LAYOUT))["use"] = first, second + 0x100 * (first == 0xC)
        found.add(made)
    entries, extensions = found.result()
    assert dict(zip(entries["ct"].tolist(), extensions["use"].tolist(), strict=True)) == {0xA: 0xA, 0xB: 0x10B, 0xC: 0xC}


def test_whose_entries_came_last():
    found = SnapshotBuilder()
    assert found.namespaces(found.batches) == set()
    found.add(records(record(RecordKind.WALK, 0xA, netns=7), record(RecordKind.WALK, 0xB, netns=8)))
    before = found.batches
    found.add(records(record(RecordKind.WALK, 0xC, netns=9), record(RecordKind.WALK, 0xD, netns=9)))
    found.add(records(record(RecordKind.WALK, 0xE, netns=10)))
    assert found.namespaces(before) == {9, 10}
    assert found.namespaces(0) == {7, 8, 9, 10}
