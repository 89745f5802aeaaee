"""What a line of /proc/net/nf_conntrack shows of an entry beyond an ENTRY row; only a walk that is asked for it brings it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctobserve.capture.records import EXTRA, FLAG_COUNTERS, FLAG_EXT, FLAG_START, HEADER_BYTES, Records
from ctobserve.host.layout import Layout
from ctobserve.model import DCCP, SCTP, NDArray
from ctobserve.programs.constants import EXTRA_LEN, EXTRA_START

DTYPES = {
    "use": "<u4",
    "secmark": "<u4",
    "sctp_state": "u1",
    "dccp_state": "u1",
    "gre_timeout": "<u4",
    "gre_stream_timeout": "<u4",
}

# One row per entry. Of `packets`, `bytes`, `start_ns` and `ext_bytes` the flags say whether the entry has them.
EXTENSION = np.dtype(
    [
        ("packets", "<u8", (2,)),  # original, reply; struct nf_conn_counter
        ("bytes", "<u8", (2,)),
        ("start_ns", "<u8"),  # wall clock, struct nf_conn_tstamp
        ("use", "<u4"),  # references while nobody lists: 1 of the hash table, 1 per packet held and per entry it is master of
        ("secmark", "<u4"),  # security id, 0 = none
        ("gre_timeout", "<u4"),  # jiffies, as gre_timeout and gre_stream_timeout stood when the entry was made
        ("gre_stream_timeout", "<u4"),
        ("ext_bytes", "u1"),  # struct nf_ct_ext.len
        ("state", "u1"),  # SCTP, DCCP
        ("has_counters", "?"),
        ("has_start", "?"),
        ("has_ext", "?"),
    ]
)
Extensions = NDArray[np.void]


def extensions_dtype(layout: Layout) -> np.dtype[np.void]:
    """Where a walk's record holds these: in `extra` as copy_extensions() of bpf/walk.c wrote it, and at the kernel's own offsets.

    What this kernel lacks is left out.
    """
    fields: dict[str, tuple[Any, int]] = {
        "packets0": ("<u8", EXTRA),
        "bytes0": ("<u8", EXTRA + 8),
        "packets1": ("<u8", EXTRA + 16),
        "bytes1": ("<u8", EXTRA + 24),
        "start_ns": ("<u8", EXTRA + EXTRA_START),
        "ext_bytes": ("u1", EXTRA + EXTRA_LEN),
    }
    fields |= {name: (DTYPES[name], HEADER_BYTES + offset) for name, offset in layout.extensions.items()}
    return np.dtype(
        {
            "names": list(fields),
            "formats": [dtype for dtype, _ in fields.values()],
            "offsets": [offset for _, offset in fields.values()],
            "itemsize": HEADER_BYTES + layout.raw_bytes,
        }
    )


def extensions_of(records: Records, dtype: np.dtype[np.void]) -> Extensions:
    """EXTENSION rows of a walk's records, one each; what an entry or the kernel lacks is zero."""
    extensions = np.zeros(len(records), EXTENSION)
    raw = records.view(dtype)
    flags = records["flags"]
    for name, flag in (("has_counters", FLAG_COUNTERS), ("has_start", FLAG_START), ("has_ext", FLAG_EXT)):
        extensions[name] = flags & flag != 0
    for direction in (0, 1):
        for name in ("packets", "bytes"):
            extensions[name][:, direction] = np.where(extensions["has_counters"], raw[f"{name}{direction}"], 0)
    extensions["start_ns"] = np.where(extensions["has_start"], raw["start_ns"], 0)
    extensions["ext_bytes"] = np.where(extensions["has_ext"], raw["ext_bytes"], 0)
    for name in ("use", "secmark", "gre_timeout", "gre_stream_timeout"):
        if name in (dtype.names or ()):
            extensions[name] = raw[name]
    for protonum, name in ((SCTP, "sctp_state"), (DCCP, "dccp_state")):
        if name in (dtype.names or ()):
            of = records["protonum0"] == protonum
            extensions["state"][of] = raw[name][of]
    return extensions
