"""Fields as flat columns of values, for tables of other programs: a name with dots, a type, one value or none for each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ctobserve.model import Mask
from ctobserve.render.fields import Field, Member, Object, known, strings


class Column(NamedTuple):
    """`form` is int, float or str."""

    name: str
    form: type
    says: str


Values = list[Any] | None  # of each row one, None where it is unknown; None: of all rows


def columns_of(members: Sequence[Member[Any]], before: str = "", of: str = "") -> Iterator[Column]:
    """Fields of objects have a dot in their names, and say of what they are. Lists are texts, as CSV has them."""
    for member in members:
        says = f"{of}{member.says}"
        if isinstance(member, Object):
            yield from columns_of(member.members, f"{before}{member.name}.", f"{says}: ")
        else:
            yield Column(f"{before}{member.name}", _form(member), says)


def values_of(members: Sequence[Member[Any]], view: Any, shown: Mask | None = None) -> Iterator[Values]:
    """Of each of the columns; of rows that are not `shown` nothing is known."""
    for member in members:
        mask = known(member, view) if shown is None else known(member, view) & shown
        count = np.count_nonzero(mask)
        if not count:
            yield from (None for _ in columns_of([member]))
        elif 2 * count <= len(mask):  # of few rows: nothing is made of the others
            yield from (_spread(values, mask) for values in values_of([member], view.only(mask)))
        elif isinstance(member, Object):
            yield from values_of(member.members, member.within(view), mask)
        else:
            yield _masked(_plain(member, view), mask)


def _form(field: Field[Any]) -> type:
    form: type = field.type.json if field.type.json in (int, float) else str
    return form


def _plain(field: Field[Any], view: Any) -> list[Any]:
    found = field.values(view)
    return field.type.plain(found) if field.type.json in (int, float, str) else strings(field.type.texts(found), len(view))


def _masked(values: list[Any], mask: Mask) -> list[Any]:
    return values if mask.all() else [value if there else None for value, there in zip(values, mask.tolist(), strict=True)]


def _spread(values: Values, mask: Mask) -> Values:
    if values is None:
        return None
    made: list[Any] = [None] * len(mask)
    for at, value in zip(np.flatnonzero(mask).tolist(), values, strict=True):
        made[at] = value
    return made
