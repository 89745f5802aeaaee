"""Which network namespaces of two instants are the same, and what to call each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

Names = Mapping[int, str]  # by inode number; one that has no name is called by its number


class Namesake(NamedTuple):
    """One namespace: a name that no other has, and its inode number at either instant; None where it was not there."""

    name: str
    first: int | None
    second: int | None


def namesakes(first: Names, second: Names, lasting: Collection[int]) -> list[Namesake]:
    """Each namespace of either.

    It is the same by its name, where no other has that: one that is made again is what people mean by it. Of the others those are
    the same that are `lasting`: inode numbers that had not been given to another meanwhile.
    """
    before, after = _by_name(first), _by_name(second)
    pairs = {after[name]: before[name] for name in after if name in before}
    left = (first.keys() - pairs.values()) & (second.keys() - pairs.keys())
    pairs |= {inum: inum for inum in lasting if inum in left}
    met = set(pairs.values())
    found = [Namesake(second[inum], pairs.get(inum), inum) for inum in second]
    found += [Namesake(first[inum], inum, None) for inum in first if inum not in met]
    often = Counter(one.name for one in found)
    return [one if often[one.name] == 1 else one._replace(name=_told_apart(one)) for one in found]


def _by_name(names: Names) -> dict[str, int]:
    """Those that have one of their own."""
    often = Counter(names.values())
    return {name: inum for inum, name in names.items() if often[name] == 1 and name != str(inum)}


def _told_apart(one: Namesake) -> str:
    return f"{one.name} ({one.second})" if one.second is not None else f"{one.name} ({one.first} at first)"
