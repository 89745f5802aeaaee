"""Entries as columns of text, for a million of them: each distinct address is formatted once, no dictionary per row."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ctobserve.model import Entries

Texts = npt.NDArray[np.object_]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.integer[Any]]


def _short6(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET6, packed)


def _full6(packed: bytes) -> str:
    """As %pI6: eight groups of four digits."""
    return packed.hex(":", 2)


def _short4(number: int) -> str:
    return socket.inet_ntop(socket.AF_INET, number.to_bytes(4, "little"))


class Addresses:
    """Printable addresses; `full` writes IPv6 without shortening, as the kernel does. Each is formatted once for all batches."""

    def __init__(self, full: bool = False) -> None:
        self._forms: dict[int, Callable[[Any], str]] = {4: _short4, 16: _full6 if full else _short6}
        self._known: dict[tuple[int, str], dict[Any, str]] = {}

    def column(self, entries: Entries, at: int, form: str = "%s") -> Texts:
        """Of one of the four places: src, dst of original, src, dst of reply."""
        six = entries["l3num"] != socket.AF_INET
        column = np.empty(len(entries), np.object_)
        for mask, size in ((~six, 4), (six, 16)):
            if mask.any():
                packed = np.ascontiguousarray(entries["addr"][mask, at, :size])
                column[mask] = self._family(packed, form)
        return column

    def _family(self, packed: npt.NDArray[np.uint8], form: str) -> Texts:
        size = packed.shape[1]
        kinds, of = np.unique(packed.view("<u4" if size == 4 else "V16")[:, 0], return_inverse=True)
        known = self._known.setdefault((size, form), {})
        names = kinds.tolist()
        for one in names:
            if one not in known:
                known[one] = form % self._forms[size](one)
        column: Texts = np.array([known[one] for one in names], np.object_)[of]
        return column


@lru_cache(maxsize=32)
def _of_16_bits(form: str) -> Texts:
    return np.array([form % value for value in range(1 << 16)], np.object_)


def texts(values: Numbers, form: str = "%d") -> Texts:
    """Each value by a %-form; each distinct one is written once."""
    if values.dtype.itemsize <= 2:
        short: Texts = _of_16_bits(form)[values]
        return short
    kinds, of = np.unique(values, return_inverse=True)
    column: Texts = np.array([form % value for value in kinds.tolist()], np.object_)
    return column[of]


def named(values: Numbers, names: Sequence[str], form: str = "%s") -> Texts:
    """Each value by its name; numbers without one stay numbers."""
    table = np.array([form % name for name in (*names, *map(str, range(len(names), 256)))], np.object_)
    column: Texts = table[values]
    return column


def same(text: str, length: int) -> Texts:
    """One text in every row."""
    return np.full(length, text, np.object_)


def where(mask: Mask, column: Texts, otherwise: str = "") -> Texts:
    """The column where the mask holds."""
    return column if mask.all() else np.where(mask, column, otherwise)


def joined(columns: Sequence[Texts], between: str = "") -> str:
    """Rows as lines, the last without its line end."""
    return "\n".join([between.join(row) for row in zip(*(column.tolist() for column in columns), strict=True)])
