"""The record of bpf/ctobserve.h, compiled on the host, is the record that capture/records.py decodes."""

from __future__ import annotations

from ctobserve.capture.records import EXTRA, HEADER_BYTES, ROW
from ctobserve.programs.constants import TEXT_BYTES
from tests.unit.csource import TYPES, compiled, struct, text
from tests.unit.samples import DTYPE, LAYOUT

FIELDS = [
    *(
        "caller",
        "since",
        "iterator",
        "eviction",
        "portid",
        "changes",
        "buckets",
        "pid",
        "ifindex",
        "scanned",
        "tcp_flags",
        "hook",
    ),
    *("cpu", "reason", "flags", "comm", "device", "extra"),
    *("netns", "ts", "ct", "bucket", "chain", "kind", "reply_only", "has_ct", "tcp_state"),
]
RECORD = f"{TYPES}#define TEXT_BYTES {TEXT_BYTES}\n{struct(text('ctobserve.h'), 'record')}"


def test_offsets_and_size():
    places = {name: f"offsetof(struct record, {name})" for name in [*FIELDS, "raw"]}
    sizes = {name: f"sizeof(((struct record *)0)->{name})" for name in FIELDS}
    found = compiled(RECORD, [*places.values(), *sizes.values(), "sizeof(struct record)"])
    offsets = {name: found[place] for name, place in places.items()}
    assert found["sizeof(struct record)"] == HEADER_BYTES
    assert DTYPE.itemsize == HEADER_BYTES + LAYOUT.raw_bytes
    assert DTYPE.itemsize % 8 == 0
    assert {name: DTYPE.fields[name][1] for name in FIELDS} == {name: offsets[name] for name in FIELDS}
    assert {name: DTYPE.fields[name][0].itemsize for name in FIELDS} == {name: found[sizes[name]] for name in FIELDS}
    assert DTYPE.fields["status"][1] == offsets["raw"] + LAYOUT.status
    assert (offsets["extra"], offsets["raw"]) == (EXTRA, HEADER_BYTES)


def test_every_field_before_the_copied_entry_is_compared():
    assert {name for name, (_, offset) in DTYPE.fields.items() if offset < HEADER_BYTES} == {*FIELDS, "row"}


def test_a_row_has_what_makes_an_entry_and_nothing_before_it():
    found = compiled(RECORD, ["offsetof(struct record, netns)"])
    (kind, first), mark = DTYPE.fields["row"][:2], DTYPE.fields["mark"][1]
    assert first == ROW == found["offsetof(struct record, netns)"]
    assert first + kind.itemsize == mark + 4 <= HEADER_BYTES + LAYOUT.raw_bytes
