"""Records of the kernel side as arrays: the layout of struct record in bpf/ctobserve.h, and the entries in it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from ctobserve.layout import Layout
from ctobserve.model import ENTRY, IPS_CONFIRMED, TCP, Entries

HEADER_BYTES = 200
TEXT_BYTES = 84
FLAG_KILLED, FLAG_COUNTERS, FLAG_TEXT, FLAG_CONTESTED, FLAG_ENTRY, FLAG_REPLY, FLAG_START, FLAG_EXT = (1 << n for n in range(8))
Records = npt.NDArray[np.void]


class Kind(IntEnum):
    """What happened; enum kind of bpf/ctobserve.h."""

    INSERT = 1
    CONFIRM = 2
    DESTROY = 3
    FREE = 4
    DROP = 5
    WALK = 6
    WALK_REPLY = 7
    RESIZE = 8
    UPDATE = 9
    MASTER = 10
    EVICTOR = 11
    RESOLVED = 12


class DropReason(IntEnum):
    """Why a packet was lost; enum drop_reason of bpf/ctobserve.h."""

    TABLE_FULL = 1
    NO_MEMORY = 2
    CLASH = 3
    CHAINTOOLONG = 4
    DYING = 5
    CONFIRMED = 6
    INVALID = 7
    ERROR = 8


def record_dtype(layout: Layout) -> np.dtype[np.void]:
    """Every field of a record at its place, those inside the copied nf_conn by the kernel's own offsets."""
    form: dict[str, tuple[Any, int]] = {
        "ts": ("<u8", 0),
        "ct": ("<u8", 8),
        "caller": ("<u8", 16),
        "since": ("<u8", 24),
        "token": ("<u8", 32),
        "netns": ("<u4", 40),
        "bucket": (("<u4", 2), 44),
        "portid": ("<u4", 52),
        "pid": ("<u4", 56),
        "ifindex": ("<u4", 60),
        "chain": (("<u2", 2), 64),
        "looked": (("<u2", 4), 68),
        "cpu": ("<u2", 76),
        "kind": ("u1", 78),
        "reason": ("u1", 79),
        "reply_only": ("u1", 80),
        "has_ct": ("u1", 81),
        "flags": ("u1", 82),
        "hook": ("u1", 83),
        "comm": ("S16", 84),
        "device": ("S16", 100),
        "extra": (("u1", TEXT_BYTES), 116),
    }

    def copied(name: str, kind: Any, offset: int) -> None:
        form[name] = (kind, HEADER_BYTES + offset)

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
            "names": list(form),
            "formats": [kind for kind, _ in form.values()],
            "offsets": [offset for _, offset in form.values()],
            "itemsize": HEADER_BYTES + layout.raw_bytes,
        }
    )


def picked(records: Records, which: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Records:
    """Some records, whole: NumPy's own indexing copies only the bytes that fields name."""
    return records.view(np.dtype((np.void, records.dtype.itemsize)))[which].view(records.dtype)


def together(parts: Sequence[Records]) -> Records:
    """Several arrays of records as one, whole, for the same reason."""
    whole = np.dtype((np.void, parts[0].dtype.itemsize))
    return np.concatenate([part.view(whole) for part in parts]).view(parts[0].dtype)


def entries_of(records: Records) -> Entries:
    """The entry that each record copied, as ENTRY rows; what a tuple-only record lacks is zero or unknown."""
    entries = np.zeros(len(records), ENTRY)
    for name in ("ct", "netns", "bucket", "chain", "reply_only", "has_ct"):
        entries[name] = records[name]
    entries["seen_ns"] = records["ts"]
    entries["zone"] = np.where(records["has_ct"], records["zone"], 0)
    entries["l3num"] = records["l3num0"]
    entries["protonum"] = records["protonum0"]
    entries["addr"][:, 0] = records["src0"]
    entries["addr"][:, 1] = records["dst0"]
    entries["port"][:, 0] = records["sport0"]
    entries["port"][:, 1] = records["dport0"]
    whole = records["has_ct"] == 1
    if not whole.all():
        records, view = records[whole], entries[whole]
        _copy_whole(records, view)
        entries[whole] = view
    else:
        _copy_whole(records, entries)
    return entries


def _copy_whole(records: Records, entries: Entries) -> None:
    for name in ("status", "timeout", "mark", "zone_dir", "master"):
        entries[name] = records[name]
    entries["tcp_state"] = np.where(entries["protonum"] == TCP, records["tcp_state"], 0)
    entries["addr"][:, 2] = records["src1"]
    entries["addr"][:, 3] = records["dst1"]
    entries["port"][:, 2] = records["sport1"]
    entries["port"][:, 3] = records["dport1"]
    # The bit is set right after the insert hook on >= 6.1, and the entry is in the table from then on.
    entries["status"][records["kind"] == Kind.INSERT] |= np.uint32(IPS_CONFIRMED)
