"""What a field of an entry or an event is: its name, what it says, its values. JSON, CSV and text take these from one table.

The tables are entry_fields.py and event_fields.py; the schema and docs/json.md are made of them, too. A table is about rows of
one sort, which come as a view: arrays of one length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np

from ctobserve.model import SHOWN_CHARACTERS, Mask, everywhere, printable, somewhere
from ctobserve.render.columns import (
    Numbers,
    Part,
    Texts,
    chosen,
    column,
    glued,
    joined,
    placed,
    texts,
    where,
    written,
)

Row = dict[str, Any]


class View(Protocol):
    """Rows, as arrays."""

    def __len__(self) -> int:
        """How many."""
        ...

    def only(self, which: Mask) -> Self:
        """Those rows alone."""
        ...


V = TypeVar("V", bound=View)
V_contra = TypeVar("V_contra", bound=View, contravariant=True)


class Rule(NamedTuple, Generic[V_contra]):
    """Some of the rows: in words, which follow "of" where a field `has` it, "unless" where it is `known`, and which they are."""

    says: str
    of: Callable[[V_contra], Mask]


class Type(NamedTuple):
    """How values are written. `json`: the Python type that JSON gets; `texts`: of a cell; `plain`: values for JSON."""

    json: Any
    texts: Callable[[Any], Part]
    plain: Callable[[Any], list[Any]]


class Field(NamedTuple, Generic[V_contra]):
    """One fact. `says`: what it is, with its unit. `values`: one for each row.

    `known`: of which rows (None: of all); of others it is null in JSON, an empty cell in CSV, `-` or nothing in text. `has`: rows
    that have such a field at all (None: all); JSON leaves it out in others.
    """

    name: str
    says: str
    type: Type
    values: Callable[[V_contra], Any]
    known: Rule[V_contra] | None = None
    has: Rule[V_contra] | None = None

    def texts(self, view: V_contra) -> Part:
        """Of all rows, also where they mean nothing."""
        return self.type.texts(self.values(view))


class Object(NamedTuple, Generic[V_contra]):
    """Facts that belong together: an object in JSON, columns with a dot in their names in CSV.

    `within`: the rows that `members` are about, one for each.
    """

    name: str
    says: str
    members: tuple[Member[Any], ...]
    within: Callable[[V_contra], Any]
    known: Rule[V_contra] | None = None
    has: Rule[V_contra] | None = None


Member = Field[V_contra] | Object[V_contra]


NUMBER = Type(int, texts, lambda numbers: numbers.tolist())


def strings(words: Part, count: int) -> list[str]:
    """Of so many rows; each distinct one kept once: of a million addresses few are."""
    if isinstance(words, str):
        return [words] * count
    kept: dict[str, str] = {}
    return [kept.setdefault(word, word) for word in joined([words]).split("\n")]


WORDS = Type(str, lambda words: words, lambda words: strings(words, len(words)))


def names_of(names: Sequence[str]) -> Type:
    """Numbers of 8 bits, or as many as there are names, by their name; one without stays a number."""
    every = [*names, *map(str, range(len(names), 256))]

    @cache
    def texts_of_all() -> Texts:
        return column(every)

    def plain(numbers: Numbers) -> list[str]:
        return [every[number] for number in numbers.tolist()]

    return Type(str, lambda numbers: chosen(texts_of_all(), numbers), plain)


def bits_of(names: Sequence[str], between: str) -> Type:
    """Numbers as the names of their set bits, lowest first."""

    def listed(number: int) -> list[str]:
        return [name for bit, name in enumerate(names) if number >> bit & 1]

    def plain(numbers: Numbers) -> list[list[str]]:
        values = numbers.tolist()
        met = {number: listed(number) for number in set(values)}
        return [met[number].copy() for number in values]

    return Type(tuple[str, ...], lambda numbers: written(numbers, lambda number: between.join(listed(number))), plain)


def foreign(characters: int = SHOWN_CHARACTERS) -> Type:
    """Bytes that others chose, as so many printable characters at most."""

    def shown(strings: Texts) -> tuple[list[str], Numbers]:
        met, of = np.unique(strings, return_inverse=True)
        return [printable(one, characters) for one in met.tolist()], of

    def cells_of(strings: Texts) -> Part:
        met, of = shown(strings)
        return chosen(column(met), of)

    def plain(strings: Texts) -> list[str]:
        met, of = shown(strings)
        return [met[at] for at in of.tolist()]

    return Type(str, cells_of, plain)


def known(member: Member[V], view: V) -> Mask:
    """Of which rows it is known."""
    if member.has is None:
        return np.ones(len(view), np.bool_) if member.known is None else member.known.of(view)
    there = member.has.of(view)
    return there if member.known is None else there & member.known.of(view)


def said(mask: Mask, write: Callable[[], list[Part]]) -> list[Part]:
    """What is written of all rows, shown where the mask holds; nothing is written where it holds nowhere."""
    if not somewhere(mask):
        return []
    return write() if everywhere(mask) else [where(mask, glued(*write()))]


def some(mask: Mask, view: V, write: Callable[[V], list[Part]]) -> list[Part]:
    """What is written of those rows where the mask holds; of others nothing. Nothing is written where it holds nowhere."""
    if not somewhere(mask):
        return []
    if everywhere(mask):
        return write(view)
    parts = write(view.only(mask))
    return [placed(mask, glued(*parts))] if parts else []


def flat_names(members: Sequence[Member[Any]]) -> Iterator[str]:
    """Names of columns: fields of objects with a dot."""
    for member in members:
        if isinstance(member, Object):
            yield from (f"{member.name}.{name}" for name in flat_names(member.members))
        else:
            yield member.name


def cells(members: Sequence[Member[Any]], view: Any, shown: Mask | None = None) -> Iterator[Part]:
    """One part for each of `flat_names`; empty where it is not known, and where it is not `shown`."""
    for member in members:
        mask = known(member, view) if shown is None else known(member, view) & shown
        if not mask.any():
            yield from ("" for _ in flat_names([member]))
        elif isinstance(member, Object):
            inner = member.within(view)
            if 2 * np.count_nonzero(mask) > len(mask):
                yield from cells(member.members, inner, mask)
            else:  # of few rows: nothing is written of the others
                found = cells(member.members, inner.only(mask))
                yield from (placed(mask, part) for part in found)
        else:
            yield where(mask, member.texts(view))


def rows(members: Sequence[Member[Any]], view: Any) -> list[Row]:
    """Objects of JSON, in the order of `members`; what only some rows have comes last in them."""
    if not len(view):
        return []
    of_all: list[Member[Any]] = []
    of_some: list[tuple[Mask, list[Member[Any]]]] = []
    for rule, group in groupby(members, lambda member: member.has):
        having = None if rule is None else rule.of(view)
        if having is None or having.all():
            of_all += group
        elif having.any():
            of_some.append((having, list(group)))
    names = [member.name for member in of_all]
    values = zip(*(_plain(member, view) for member in of_all), strict=True)
    made: list[Row] = [dict(zip(names, row, strict=True)) for row in values]
    for having, theirs in of_some:
        for at, more in zip(np.flatnonzero(having).tolist(), rows(theirs, view.only(having)), strict=True):
            made[at] |= more
    return made


def _plain(member: Member[Any], view: Any) -> list[Any]:
    """Values for JSON, None where unknown."""
    mask = None if member.known is None else member.known.of(view)
    if isinstance(member, Field):
        values = member.type.plain(member.values(view))
        if mask is None or mask.all():
            return values
        return [value if there else None for value, there in zip(values, mask.tolist(), strict=True)]
    if mask is None or mask.all():
        return rows(member.members, member.within(view))
    found: list[Row | None] = [None] * len(view)
    if mask.any():
        for at, row in zip(np.flatnonzero(mask).tolist(), rows(member.members, member.within(view.only(mask))), strict=True):
            found[at] = row
    return found
