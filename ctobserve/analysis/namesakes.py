"""Which network namespaces of two instants are the same, and what to call each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

Names = Mapping[int, str]  # by inode number; one that has no name is called by its number
Identity = int | str | tuple[str, int]


class Namesake(NamedTuple):
    """One namespace: a name that no other has, and its inode number at either instant; None where it was not there."""

    name: str
    first: int | None
    second: int | None


def namesakes(first: Names, second: Names, one_boot: bool) -> list[Namesake]:
    """Each namespace of either. Within one boot the inode number says which it is, else its name, where no other has that."""
    before, after = _by_identity("first", first, one_boot), _by_identity("second", second, one_boot)
    words = {who: names[inum] for found, names in ((before, first), (after, second)) for who, inum in found.items()}
    often = Counter(words.values())
    return [
        Namesake(
            word if often[word] == 1 else f"{word} ({after[who] if who in after else f'{before[who]} at first'})",
            before.get(who),
            after.get(who),
        )
        for who, word in words.items()
    ]


def _by_identity(side: str, names: Names, one_boot: bool) -> dict[Identity, int]:
    if one_boot:
        return {inum: inum for inum in names}
    often = Counter(names.values())
    return {name if often[name] == 1 and name != str(inum) else (side, inum): inum for inum, name in names.items()}
