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

GROUP = 10_000  # numbers are written by four digits at a time: items of 4 bytes are what NumPy takes and puts fastest
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
    """Decimal, without a Python integer in between; what stands for 0 is `zero`."""
    rest: Numbers = values.astype(np.uint32 if values.itemsize <= 4 else np.uint64)
    most = int(rest.max(initial=0))
    if most < GROUP:
        return _leading(len(str(most)), zero).take(rest.astype(np.intp))
    group = rest.dtype.type(GROUP)
    higher = rest // group
    places = (rest - higher * group + (higher != 0) * group).astype(np.intp)
    return _side_by_side((_digits(higher, ""), _following(zero).take(places)), len(values))


@cache
def _leading(width: int, zero: str) -> Texts:
    """Numbers of that many digits at most, which are four at most."""
    return column([zero, *map(str, range(1, 10**width))]).astype(f"S{(1, 2, 4, 4)[width - 1]}")


@cache
def _following(zero: str) -> Texts:
    """Numbers of four digits at most: as they are, then with the zeros that they have behind higher digits."""
    return column([zero, *map(str, range(1, GROUP)), *(f"{number:04}" for number in range(GROUP))])


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
    letters = rows.view(np.uint8)[:-1]
    return str(letters[letters != 0].data, "utf-8", "replace")
