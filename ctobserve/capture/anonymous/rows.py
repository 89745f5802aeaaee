"""Rows of a recording for others: columns of addresses and of names become others, all else stays."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import numpy as np

from ctobserve.capture.anonymous.addresses import Addresses
from ctobserve.capture.anonymous.names import Names
from ctobserve.capture.store.chunks import Rows
from ctobserve.event import TEXT_BYTES
from ctobserve.model import NDArray

# Columns of addresses, and which has their families.
ADDRESSES = {
    "event": (
        *(("entry.addr", "entry.l3num"), ("master.addr", "master.l3num"), ("evictor.addr", "evictor.l3num")),
        *(("inner.addr", "inner.l3num"), ("left.original.addr", "left.original.l3num")),
    ),
    "entry": (("addr", "l3num"),),
    "helped": (("row.addr", "row.l3num"),),
    "expectation": (("addr", "l3num"),),
}
Columns = dict[str, tuple[str, ...]]
PROCESSES: Columns = {"event": ("comm", "left.comm")}
DEVICES: Columns = {"event": ("device",)}
# The kernel's own words: functions and reasons, what a tracker or helper complains of, names of helpers.
WORDS: Columns = {"event": ("detail", "text"), "helped": ("row.helper",), "expectation": ("helper",)}
PADDING: Columns = {"event": ("padding", "entry.padding"), "entry": ("padding",)}  # nothing, but a file may have anything there
MASKS = {"expectation": slice(2, 4)}  # of its addresses: bits that must be so, no addresses
_ADDRESS = re.compile(rb"(?<![\w.:])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-fA-F]{0,4}:[0-9a-fA-F:]*:[0-9a-fA-F:.]*)(?![\w:])")
_CUT_OFF = re.compile(rb"(?<![\w.:])[0-9a-fA-F:.]+\Z")
Texts = NDArray[np.bytes_]


class OtherRows:
    """In place of rows of any kind, as many of the same."""

    def __init__(self, addresses: Addresses, names: Names) -> None:
        self._addresses, self._names = addresses, names

    def of(self, kind: str, rows: Rows) -> Rows:
        """With nothing left of those that there are."""
        made = rows.copy()
        for name in PADDING.get(kind, ()):
            _column(made, name)[...] = 0
        for name, families in ADDRESSES.get(kind, ()):
            self._write_addresses(_column(made, name), _column(made, families), MASKS.get(kind, slice(0)))
        ways: tuple[tuple[Columns, Callable[[bytes], bytes]], ...] = (
            (PROCESSES, lambda name: self._names.process(name).encode()),
            (DEVICES, lambda name: self._names.device(name).encode()),
            (WORDS, self._words),
        )
        for columns, other in ways:
            for name in columns.get(kind, ()):
                _rewrite(_column(made, name), other)
        return made

    def _write_addresses(self, column: NDArray[np.uint8], families: NDArray[np.uint8], masks: slice) -> None:
        """Shape (n, some, 16), and (n,)."""
        count = column.shape[1]
        kept = column[:, masks].copy()
        packed = np.ascontiguousarray(column).reshape(-1, 16)
        column[...] = self._addresses.rows(packed, np.repeat(families, count)).reshape(column.shape)
        column[:, masks] = kept

    def _words(self, words: bytes) -> bytes:
        """With other addresses in it; one that is cut off at the end is left out."""
        whole = words if len(words) < TEXT_BYTES - 1 else _CUT_OFF.sub(b"", words)
        return _ADDRESS.sub(self._word, whole)

    def _word(self, found: re.Match[bytes]) -> bytes:
        try:
            return str(self._addresses.one(ip_address(found[0].decode("ascii", "replace")))).encode()
        except ValueError:
            return b"?"


def _column(rows: Rows, name: str) -> Any:
    """That of this name, which may be a part of one."""
    for part in name.split("."):
        rows = rows[part]
    return rows


def _rewrite(column: Texts, other: Callable[[bytes], bytes]) -> None:
    """Each distinct text up to its first NUL."""
    distinct, of = np.unique(column, return_inverse=True)
    made = [other(text.partition(b"\0")[0]) for text in distinct.tolist()]
    column[...] = np.array(made, column.dtype)[of]
