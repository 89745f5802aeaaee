"""Records of the kernel side as arrays: the layout of struct record in bpf/ctobserve.h, and the entries in it."""

from __future__ import annotations

from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np

from ctobserve.event import TEXT_BYTES
from ctobserve.host.layout import Layout
from ctobserve.model import ENTRY, IPS_CONFIRMED, TCP, Entries, Mask, NDArray, pick

HEADER_BYTES, EXTRA = 200, 116  # what stands before the copied nf_conn, and before `extra`
FLAG_KILLED, FLAG_COUNTERS, FLAG_TEXT, FLAG_CLASHED, FLAG_ENTRY, FLAG_REPLY, FLAG_START, FLAG_EXT = (1 << n for n in range(8))
Records = NDArray[np.void]


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


def record_dtype(layout: Layout) -> np.dtype[np.void]:
    """Every field of a record at its place, those inside the copied nf_conn by the kernel's own offsets.

    Members of one union share theirs: `since` and `iterator`; `portid`, `changes` and `buckets`; `scanned` and `tcp_flags`.
    """
    fields: dict[str, tuple[Any, int]] = {
        "ts": ("<u8", 0),
        "ct": ("<u8", 8),
        "caller": ("<u8", 16),
        "since": ("<u8", 24),
        "iterator": ("<u8", 24),
        "eviction": ("<u8", 32),
        "netns": ("<u4", 40),
        "bucket": (("<u4", 2), 44),
        "portid": ("<u4", 52),
        "changes": ("<u4", 52),
        "buckets": ("<u4", 52),
        "pid": ("<u4", 56),
        "ifindex": ("<u4", 60),
        "chain": (("<u2", 2), 64),
        "scanned": (("<u2", 4), 68),
        "tcp_flags": ("u1", 68),
        "cpu": ("<u2", 76),
        "kind": ("u1", 78),
        "reason": ("u1", 79),
        "reply_only": ("u1", 80),
        "has_ct": ("u1", 81),
        "flags": ("u1", 82),
        "hook": ("u1", 83),
        "comm": ("S16", 84),
        "device": ("S16", 100),
        "extra": (("u1", TEXT_BYTES), EXTRA),
    }

    def copied(name: str, dtype: Any, offset: int) -> None:
        fields[name] = (dtype, HEADER_BYTES + offset)

    copied("timeout", "<u4", layout.timeout)
    copied("zone", "<u2", layout.zone_id)
    copied("zone_dir", "u1", layout.zone_dir)
    copied("status", "<u4", layout.status)
    copied("master", "<u8", layout.master)
    copied("mark", "<u4", layout.mark)
    copied("tcp_state", "u1", layout.tcp_state)
    for direction in (0, 1):
        base = layout.tuplehash + direction * layout.tuplehash_bytes + layout.tuple
        copied(f"src{direction}", ("u1", 16), base + layout.src_u3)
        copied(f"sport{direction}", ">u2", base + layout.src_u)
        copied(f"l3num{direction}", "<u2", base + layout.l3num)
        copied(f"dst{direction}", ("u1", 16), base + layout.dst_u3)
        copied(f"dport{direction}", ">u2", base + layout.dst_u)
        copied(f"protonum{direction}", "u1", base + layout.protonum)
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
                f"u{size}" if size in (1, 2, 4) else f"V{size}",
                offset + row * size,
            )
    names, formats, offsets = list(fields), [one for one, _ in fields.values()], [offset for _, offset in fields.values()]
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": dtype.itemsize})


_PLAIN_ENTRY = _plain(ENTRY, ("addr", "port", "bucket"))


@cache
def _plain_record(dtype: np.dtype[np.void]) -> np.dtype[np.void]:
    return _plain(dtype, ("bucket",))


ALWAYS = (
    *((name, name) for name in ("ct", "netns", "bucket0", "bucket1", "chain", "reply_only", "has_ct")),
    *(("seen_ns", "ts"), ("l3num", "l3num0"), ("protonum", "protonum0"), ("zone", "zone")),
    *(("addr0", "src0"), ("addr1", "dst0"), ("port0", "sport0"), ("port1", "dport0")),
)
WHOLE = (
    *((name, name) for name in ("status", "timeout", "mark", "zone_dir", "master", "tcp_state")),
    *(("addr2", "src1"), ("addr3", "dst1"), ("port2", "sport1"), ("port3", "dport1")),
)


def entries_of(records: Records, into: Entries | None = None) -> Entries:
    """The entry that each record copied, as ENTRY rows; what a tuple-only record lacks is zero or unknown.

    `into`: rows to write to, all zero; else new ones.
    """
    whole = records["has_ct"] == 1
    if whole.all():
        entries = np.empty(len(records), ENTRY) if into is None else into
        _copy(records.view(_plain_record(records.dtype)), entries.view(_PLAIN_ENTRY), ALWAYS + WHOLE)
    else:
        entries = np.zeros(len(records), ENTRY) if into is None else into
        _fill_some(records, whole, entries)
    tcp = entries["protonum"] == TCP
    if not tcp.any():
        entries["tcp_state"] = 0
    elif not tcp.all():
        entries["tcp_state"] *= tcp
    # The bit is set right after the insert hook on >= 6.1, and the entry is in the table from then on.
    inserted = records["kind"] == RecordKind.INSERT
    if inserted.all():
        entries["status"] |= np.uint32(IPS_CONFIRMED)
    else:
        entries["status"][inserted] |= np.uint32(IPS_CONFIRMED)
    return entries


def _fill_some(records: Records, whole: Mask, entries: Entries) -> None:
    source, target = records.view(_plain_record(records.dtype)), entries.view(_PLAIN_ENTRY)
    _copy(source, target, ALWAYS)
    target["zone"][records["has_ct"] == 0] = 0
    some = pick(target, whole)
    _copy(pick(source, whole), some, WHOLE)
    as_bytes = np.dtype((np.void, ENTRY.itemsize))
    entries.view(as_bytes)[whole] = some.view(as_bytes)


def _copy(source: Records, target: Records, pairs: tuple[tuple[str, str], ...]) -> None:
    for name, theirs in pairs:
        target[name] = source[theirs]
