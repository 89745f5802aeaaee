"""Entries as columns of text, for a million of them: bytes in arrays, no Python value per row.

A column is an array of byte strings of one width (UTF-8) in which NUL bytes stand for nothing, wherever they are: `joined` leaves
them out. A part of a row is a column, or a text that is the same in every row: what is written of values that are all one is
such a text, so that neither long batches of like rows nor short ones make many columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from ctobserve.model import Mask, NDArray, everywhere

Texts = NDArray[np.bytes_]
Part = Texts | str
Numbers = NDArray[np.integer[Any]]
Bytes = NDArray[np.uint8]

GROUP_DIGITS = 4  # numbers are written by so many at a time: items of 4 bytes are what NumPy takes and puts fastest
GROUP = 10**GROUP_DIGITS
# Tables of numbers below these; the last, for ports and most buckets, is worth making for so many rows at once.
TABLES, MANY = (10, 100, GROUP, 1 << 16), 512
FEW = 64  # rows that Python writes in less time than NumPy takes to begin
SAMPLE, SPARSE = 64, 12  # rows that tell how many NULs there are in a row, and so many are few
DENSE = 256  # values so near to each other are found by place, not by sorting, however few they are


def column(rows: Sequence[str]) -> Texts:
    """Of as many texts."""
    return np.array([text.encode(errors="replace") for text in rows], np.bytes_) if len(rows) else np.empty(0, "S1")


def same(values: NDArray[Any]) -> bool:
    """Whether there are some, and all are one."""
    if len(values) < 2:
        return len(values) == 1
    return bool(values[0] == values[-1]) and everywhere(values == values[0])


def distinct(values: Numbers) -> list[int]:
    """Those that there are."""
    found: list[int] = values[:1].tolist() if same(values) else np.unique(values).tolist()
    return found


def chosen(words: Texts, places: Numbers) -> Part:
    """Of each row the word at that place."""
    return bytes(words[places[0]]).decode(errors="replace") if same(places) else words.take(places)


def written(values: Numbers, write: Callable[[int], str]) -> Part:
    """Each value as text, each distinct one written once."""
    if same(values):
        return write(int(values[0]))
    lowest = int(values.min()) if len(values) else 0
    span = int(values.max()) - lowest + 1 if len(values) else 0
    if span > len(values) + DENSE:
        kinds, of = np.unique(values, return_inverse=True)
        return column([write(kind) for kind in kinds.tolist()]).take(of)
    places = (values - values.dtype.type(lowest)).astype(np.intp)
    there = np.zeros(span, np.bool_)
    there[places] = True
    words = column([write(lowest + place) for place in there.nonzero()[0].tolist()])
    by_place = np.empty(span, words.dtype)
    by_place[there] = words
    return by_place.take(places)


def named(values: Numbers, names: Sequence[str], form: str = "%s") -> Part:
    """Each value of 8 bits by its name; numbers without one stay numbers."""
    return chosen(column([form % name for name in (*names, *map(str, range(len(names), 256)))]), values)


def texts(values: Numbers, form: str = "%d") -> Part:
    """Each value, which is not negative, by a %-form of one number."""
    before, decimal, after = form.partition("%d")
    if not decimal:
        return written(values, lambda value: form % value)
    if same(values):
        return form % int(values[0])
    number = _digits(values)
    return glued(before, number, after) if before or after else number


def _digits(values: Numbers, zero: str = "0") -> Texts:
    """Decimal; what stands for 0 is `zero`."""
    if len(values) <= FEW:
        return column([str(value) if value else zero for value in values.tolist()])
    rest: Numbers = values.astype(np.uint32 if values.itemsize <= 4 else np.uint64)
    most = int(rest.max())
    for size in TABLES if len(rest) >= MANY else TABLES[:-1]:
        if most < size:
            return _of_up_to(size, zero).take(rest.astype(np.intp))
    return _by_groups(rest, zero)


def _by_groups(values: Numbers, zero: str) -> Texts:
    """Four digits at a time, from behind."""
    group = values.dtype.type(GROUP)
    higher = values // group
    places = (values - higher * group + (higher != 0) * group).astype(np.intp)
    return _side_by_side((_digits(higher, ""), _following(zero).take(places)), len(values))


@cache
def _of_up_to(size: int, zero: str) -> Texts:
    """Numbers below this one."""
    if size > GROUP:
        return _by_groups(np.arange(size, dtype=np.uint32), zero)
    digits = len(str(size)) - 1
    return _texts(_four_digits(zero)[:size, GROUP_DIGITS - digits :])


@cache
def _following(zero: str) -> Texts:
    """Numbers of one group: as they are, then with the zeros that they have behind others."""
    return _texts(np.concatenate([_four_digits(zero), _four_digits(None)]))


def _four_digits(zero: str | None) -> Bytes:
    """Shape (GROUP, 4): all numbers of one group, with NULs before them; None: with zeros before them."""
    numbers = np.arange(GROUP, dtype=np.uint16)
    powers = [10**place for place in range(GROUP_DIGITS - 1, -1, -1)]
    digits: Bytes = np.stack([numbers // power % 10 + ord("0") for power in powers], axis=1).astype(np.uint8)
    if zero is not None:
        digits[numbers[:, None] < powers] = 0
        digits[0, -1] = ord(zero or "\0")
    return digits


def _texts(letters: Bytes) -> Texts:
    found: Texts = np.ascontiguousarray(letters).view(f"S{letters.shape[1]}")[:, 0]
    return found


def glued(*parts: Part) -> Part:
    """Side by side."""
    count = next((len(part) for part in parts if not isinstance(part, str)), None)
    return "".join(map(str, parts)) if count is None else _side_by_side(parts, count)


def _side_by_side(parts: Sequence[Part], count: int) -> Texts:
    """What is the same in all rows is put into all at once, then, column by column, what is not."""
    row = b"".join([part.encode() if isinstance(part, str) else bytes(part.itemsize) for part in parts])
    rows = np.empty(count, f"S{len(row)}")
    if any(row):
        rows[...] = np.frombuffer(row, rows.dtype)
    at = 0
    for part in parts:
        if isinstance(part, str):
            at += len(part.encode())
        else:
            np.ndarray((count,), part.dtype, rows, at, rows.strides)[...] = part
            at += part.itemsize
    return rows


def where(mask: Mask, part: Part) -> Part:
    """The part where the mask holds, elsewhere nothing."""
    if everywhere(mask):
        return part
    if isinstance(part, str):
        return part and column(["", part]).take(mask)
    rows = np.zeros(len(mask), part.dtype)
    np.copyto(rows, part, where=mask)
    return rows


def placed(mask: Mask, some: Part) -> Part:
    """A part for those rows alone where the mask holds; elsewhere nothing."""
    if isinstance(some, str) or everywhere(mask):
        return where(mask, some)
    rows = np.zeros(len(mask), some.dtype)
    rows[mask] = some
    return rows


def aligned(text: Part, width: int, right: bool = False) -> Part:
    """With blanks up to this many characters."""
    if isinstance(text, str):
        return text.rjust(width) if right else text.ljust(width)
    rows = np.ascontiguousarray(text).view(np.uint8).reshape(len(text), text.itemsize)
    long = ((rows != 0) & (rows & 0xC0 != 0x80)).sum(1)
    blanks = column([" " * count for count in range(width + 1)]).take(np.maximum(width - long, 0))
    return glued(blanks, text) if right else glued(text, blanks)


def joined(parts: Sequence[Part], between: str = "", count: int = 1) -> str:
    """Rows as lines, the last without its line end; so many, where no part is a column."""
    apart = [piece for part in parts for piece in (part, between)][:-1] if between else parts
    rows = glued(*apart, "\n")
    if isinstance(rows, str):
        return (rows * count)[:-1]
    letters, first = rows.view(np.uint8)[:-1], rows[:SAMPLE].view(np.uint8)
    # One by one a few NULs are found much faster than a mask is made and gone through; many are not.
    few = len(first) - np.count_nonzero(first) <= SPARSE * SAMPLE
    return str(letters.tobytes().replace(b"\0", b"") if few else letters[letters != 0].data, "utf-8", "replace")
