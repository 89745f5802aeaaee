"""A group of entries in words: the values that they have in common."""

from __future__ import annotations

from collections.abc import Sequence

from ctobserve.analysis.groups import Key
from ctobserve.documents.base import Labels


def group_words(by: Sequence[str], values: Sequence[Key], labels: Labels) -> str:
    """A value of each column, `-` where there is none; a namespace that is given by its number has its label."""
    return " ".join(_word(name, value, labels) for name, value in zip(by, values, strict=True))


def _word(name: str, value: Key, labels: Labels) -> str:
    if isinstance(value, bool):
        return name if value else f"not {name}"
    if name == "netns" and isinstance(value, int):
        return labels.get(value, str(value))
    return "-" if value is None else str(value)
