"""Entries as columns of text, for a million of them: bytes in arrays, no Python value per row.

A column is an array of byte strings of one width (UTF-8) in which NUL bytes stand for nothing, wherever they are: `joined` leaves
them out. A part of a row is a column, or a text that is the same in every row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from ctobserve.model import Mask, NDArray

Texts = NDArray[np.bytes_]
Part = Texts | str
Numbers = NDArray[np.integer[Any]]
Bytes = NDArray[np.uint8]


def column(rows: Sequence[str]) -> Texts:
    """Of as many texts."""
    return np.array([text.encode(errors="replace") for text in rows], np.bytes_) if len(rows) else np.empty(0, "S1")


def written(values: Numbers, write: Callable[[int], str]) -> Texts:
    """Each value as text, each distinct one written once."""
    if len(values) and (values == values[0]).all():
        return np.full(len(values), write(int(values[0])).encode(errors="replace"))
    kinds, of = np.unique(values, return_inverse=True)
    return column([write(kind) for kind in kinds.tolist()])[of]


def named(values: Numbers, names: Sequence[str], form: str = "%s") -> Texts:
    """Each value of 8 bits by its name; numbers without one stay numbers."""
    return column([form % name for name in (*names, *map(str, range(len(names), 256)))])[values]


def texts(values: Numbers, form: str = "%d") -> Texts:
    """Each value, which is not negative, by a %-form of one number."""
    before, decimal, after = form.partition("%d")
    if not decimal:
        return written(values, lambda value: form % value)
    number = _of_16_bits()[values] if values.dtype.itemsize <= 2 else _digits(values)
    return glued(before, number, after) if before or after else number


@cache
def _of_16_bits() -> Texts:
    return _digits(np.arange(1 << 16, dtype=np.uint32))


def _digits(values: Numbers) -> Texts:
    """Decimal, without a Python integer in between."""
    rest: Numbers = values.astype(np.uint32 if values.dtype.itemsize <= 4 else np.uint64)
    ten, zero = rest.dtype.type(10), rest.dtype.type(ord("0"))
    width = len(str(int(rest.max(initial=0))))
    digits = np.zeros((len(rest), width), np.uint8)
    digits[:, -1] = ord("0")
    for place in range(width - 1, -1, -1):
        higher = rest // ten
        digits[:, place] = np.where(rest != 0, rest - higher * ten + zero, digits[:, place])
        rest = higher
    return _texts(digits)


def _bytes(text: Texts) -> Bytes:
    return np.ascontiguousarray(text).view(np.uint8).reshape(len(text), text.dtype.itemsize)


def _texts(rows: Bytes) -> Texts:
    found: Texts = np.ascontiguousarray(rows).view(f"S{rows.shape[1]}")[:, 0]
    return found


def glued(*parts: Part) -> Texts:
    """Side by side; at least one part is a column."""
    ready = [np.frombuffer(part.encode(), np.uint8) if isinstance(part, str) else _bytes(part) for part in parts]
    rows = np.empty((next(len(part) for part in ready if part.ndim == 2), sum(part.shape[-1] for part in ready)), np.uint8)
    at = 0
    for part in ready:
        rows[:, at : at + part.shape[-1]] = part
        at += part.shape[-1]
    return _texts(rows)


def where(mask: Mask, part: Part) -> Texts:
    """The part where the mask holds, elsewhere nothing."""
    if isinstance(part, str):
        return column(["", part])[mask.view(np.uint8)]
    return part if mask.all() else _texts(_bytes(part) * mask[:, None])


def placed(mask: Mask, some: Texts) -> Texts:
    """A column for those rows alone where the mask holds; elsewhere nothing."""
    if mask.all():
        return some
    rows = np.zeros((len(mask), some.dtype.itemsize), np.uint8)
    rows[mask] = _bytes(some)
    return _texts(rows)


def aligned(text: Texts, width: int, right: bool = False) -> Texts:
    """With blanks up to this many characters."""
    rows = _bytes(text)
    long = ((rows != 0) & (rows & 0xC0 != 0x80)).sum(1)
    blanks = column([" " * count for count in range(width + 1)])[np.maximum(width - long, 0)]
    return glued(blanks, text) if right else glued(text, blanks)


def joined(parts: Sequence[Part], between: str = "") -> str:
    """Rows as lines, the last without its line end."""
    apart = [piece for part in parts for piece in (part, between)][:-1]
    rows = _bytes(glued(*apart, "\n")).ravel()
    return bytes(rows[rows != 0]).decode(errors="replace")[:-1]
