"""Records of the kernel side as arrays: the layout of struct record in bpf/ctobserve.h, and the entries in it.

What makes an entry lies together in a record. These bytes are its row: a table keeps them as they are, and
they become an ENTRY when somebody asks.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np

from ctobserve.event import TEXT_BYTES
from ctobserve.host.layout import Layout
from ctobserve.model import ENTRY, Entries, Mask, NDArray, everywhere, pick

HEADER_BYTES, EXTRA, ROW = 200, 80, 164  # what stands before the copied nf_conn, before `extra`, and before what makes an entry
FLAG_KILLED, FLAG_COUNTERS, FLAG_TEXT, FLAG_CLASHED, FLAG_ENTRY, FLAG_REPLY, FLAG_START, FLAG_EXT = (1 << n for n in range(8))
Records = NDArray[np.void]
Held = NDArray[np.void]  # rows of a table, in either form


class RecordKind(IntEnum):
    """What happened; enum kind of bpf/ctobserve.h."""

    INSERT = 1
    CONFIRM = 2
    DESTROY = 3
    FREE = 4
    DROP = 5
    WALK = 6
    RESIZE = 8
    UPDATE = 9
    MASTER = 10
    EVICTOR = 11
    RESOLVED = 12


def kinds_among(kinds: NDArray[np.uint8]) -> set[int]:
    """Which there are: asked once for a batch, nobody looks for what has not come."""
    every = kinds.tobytes()
    return set(every[:1] if every == every[:1] * len(every) else every)


def record_dtype(layout: Layout) -> np.dtype[np.void]:
    """Every field of a record at its place, those inside the copied nf_conn by the kernel's own offsets.

    Members of one union share theirs: `since`, `iterator` and `killer`, which is read as `iterator`; `portid`, `changes` and
    `buckets`; `scanned`, `tcp_flags` and `hook`. `row` are the bytes that make an entry, up to the last member that is decoded. A
    refused ICMP error has the inner tuple where an entry has its reply tuple (CT_INNER of bpf/ctobserve.h); `l3num1` is 0 where
    there is none.
    """
    fields: dict[str, tuple[Any, int]] = {
        "caller": ("<u8", 0),
        "since": ("<u8", 8),
        "iterator": ("<u8", 8),
        "eviction": ("<u8", 16),
        "portid": ("<u4", 24),
        "changes": ("<u4", 24),
        "buckets": ("<u4", 24),
        "pid": ("<u4", 28),
        "ifindex": ("<u4", 32),
        "scanned": (("<u2", 4), 36),
        "tcp_flags": ("u1", 36),
        "hook": ("u1", 37),
        "cpu": ("<u2", 44),
        "reason": ("u1", 46),
        "flags": ("u1", 47),
        "comm": ("S16", 48),
        "device": ("S16", 64),
        "extra": (("u1", TEXT_BYTES), EXTRA),
        "netns": ("<u4", ROW),
        "ts": ("<u8", 168),
        "ct": ("<u8", 176),
        "bucket": (("<u4", 2), 184),
        "chain": (("<u2", 2), 192),
        "kind": ("u1", 196),
        "reply_only": ("u1", 197),
        "has_ct": ("u1", 198),
        "tcp_state": ("u1", 199),
    }

    def copied(name: str, dtype: Any, offset: int) -> None:
        fields[name] = (dtype, HEADER_BYTES + offset)

    copied("timeout", "<u4", layout.timeout)
    copied("zone", "<u2", layout.zone_id)
    copied("zone_dir", "u1", layout.zone_dir)
    copied("status", "<u4", layout.status)
    copied("master", "<u8", layout.master)
    copied("mark", "<u4", layout.mark)
    for direction in (0, 1):
        base = layout.tuplehash + direction * layout.tuplehash_bytes + layout.tuple
        copied(f"src{direction}", ("u1", 16), base + layout.src_u3)
        copied(f"sport{direction}", ">u2", base + layout.src_u)
        copied(f"l3num{direction}", "<u2", base + layout.l3num)
        copied(f"dst{direction}", ("u1", 16), base + layout.dst_u3)
        copied(f"dport{direction}", ">u2", base + layout.dst_u)
        copied(f"protonum{direction}", "u1", base + layout.protonum)
    fields["row"] = (f"V{max(offset + np.dtype(dtype).itemsize for dtype, offset in fields.values()) - ROW}", ROW)
    return np.dtype(
        {
            "names": list(fields),
            "formats": [dtype for dtype, _ in fields.values()],
            "offsets": [offset for _, offset in fields.values()],
            "itemsize": HEADER_BYTES + layout.raw_bytes,
        }
    )


def _plain(dtype: np.dtype[np.void], split: tuple[str, ...] = ()) -> np.dtype[np.void]:
    """The same bytes as single values of our byte order, which NumPy copies fastest; arrays in `split` as their rows."""
    fields: dict[str, tuple[Any, int]] = {}
    for name, (of_field, offset, *_) in (dtype.fields or {}).items():
        rows = of_field.shape[0] if name in split else 1
        size = of_field.itemsize // rows
        for row in range(rows):
            fields[f"{name}{row}" if name in split else name] = (
                f"u{size}" if size in (1, 2, 4, 8) else f"V{size}",
                offset + row * size,
            )
    names, formats, offsets = list(fields), [one for one, _ in fields.values()], [offset for _, offset in fields.values()]
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": dtype.itemsize})


# The rows of a table that takes entries as EVENT has them.
ENTRY_ROW = _plain(ENTRY, ("addr", "port", "bucket"))
ALWAYS = (
    *((name, name) for name in ("ct", "netns", "bucket0", "bucket1", "chain", "reply_only", "has_ct")),
    *(("seen_ns", "ts"), ("l3num", "l3num0"), ("protonum", "protonum0"), ("zone", "zone")),
    *(("addr0", "src0"), ("addr1", "dst0"), ("port0", "sport0"), ("port1", "dport0")),
)
WHOLE = (
    *((name, name) for name in ("status", "timeout", "mark", "zone_dir", "master", "tcp_state")),
    *(("addr2", "src1"), ("addr3", "dst1"), ("port2", "sport1"), ("port3", "dport1")),
)


@cache
def row_dtype(record: np.dtype[np.void]) -> np.dtype[np.void]:
    """A record's `row` with the names of ENTRY_ROW, each where the record has it."""
    plain, fields = _plain(record, ("bucket",)), record.fields
    assert fields and plain.fields
    found = {name: plain.fields[theirs] for name, theirs in ALWAYS + WHOLE}
    return np.dtype(
        {
            "names": list(found),
            "formats": [of_field[0] for of_field in found.values()],
            "offsets": [of_field[1] - ROW for of_field in found.values()],
            "itemsize": fields["row"][0].itemsize,
        }
    )


def entries_of_rows(rows: Held) -> Entries:
    """Rows that have the names of ENTRY_ROW, as ENTRY rows; they are the same where they have that form already."""
    if rows.dtype == ENTRY_ROW:
        return rows.view(ENTRY)
    entries = np.empty(len(rows), ENTRY)
    _copy_all(rows, entries.view(ENTRY_ROW))
    return entries


def rows_of_entries(entries: Entries, dtype: np.dtype[np.void]) -> Held:
    """The opposite, in the form that is given."""
    if dtype == ENTRY_ROW:
        return entries.view(dtype)
    rows = np.zeros(len(entries), dtype)
    _copy(entries.view(ENTRY_ROW), rows, ALWAYS + WHOLE)
    return rows


def entries_of(records: Records, into: Entries | None = None) -> Entries:
    """The entry that each record copied, as ENTRY rows; what a tuple-only record lacks is zero or unknown.

    `into`: rows to write to; else new ones.
    """
    entries = np.empty(len(records), ENTRY) if into is None else into
    whole = records["has_ct"] == np.uint8(1)
    if everywhere(whole):
        _copy_all(records["row"].view(row_dtype(records.dtype)), entries.view(ENTRY_ROW))
    else:
        _fill_some(records, whole, entries)
    return entries


def _fill_some(records: Records, whole: Mask, entries: Entries) -> None:
    source, target = records["row"].view(row_dtype(records.dtype)), entries.view(ENTRY_ROW)
    as_bytes = np.dtype((np.void, ENTRY.itemsize))
    entries.view(as_bytes)[:] = np.zeros(1, as_bytes)
    _copy(source, target, ALWAYS)
    target["zone"][records["has_ct"] == 0] = 0
    some = pick(target, whole)
    _copy(pick(source, whole), some, WHOLE)
    entries.view(as_bytes)[whole] = some.view(as_bytes)


def _copy_all(source: Held, target: Held) -> None:
    _copy(source, target, ALWAYS + WHOLE)
    target["padding"] = 0


def _copy(source: Held, target: Held, pairs: tuple[tuple[str, str], ...]) -> None:
    for name, _ in pairs:
        target[name] = source[name]
