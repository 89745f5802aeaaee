"""Which network namespace has series of its own, and what is added to them: a bounded number, each as long as it lives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from ctobserve.capture.capture import NamespaceState
from ctobserve.capture.counts import FOLDED, Count
from ctobserve.event import Kind

OTHER = "other"
Counted = tuple[Kind, str]  # what happened, and why


class Spaces:
    """Sums by label that never fall, whatever becomes of the namespaces and of the programs that count.

    What they say is taken as how much it grew. A namespace whose label changes, or whose number is another's now, begins at 0
    under the new one; what is counted where no namespace can be looked into, or beyond the limit, is of OTHER.
    """

    def __init__(self, limit: int) -> None:
        """So many namespaces have series of their own."""
        self._limit = limit
        self._there: frozenset[int] = frozenset()
        self._labels: dict[int, str] = {}
        self._read: dict[tuple[int, Counted], int] = {}
        self._sums: dict[str, Counter[Counted]] = {OTHER: Counter()}

    def know(self, states: Mapping[int, NamespaceState]) -> None:
        """Those that there are now; who had a label keeps it, and whatever it had is forgotten of one that has ended."""
        self._there = frozenset(states)
        wanted = _distinct(states)
        kept = {inum: label for inum, label in self._labels.items() if wanted.get(inum) == label}
        for inum in sorted(wanted.keys() - kept.keys(), key=lambda inum: (not states[inum].init, inum)):
            if len(kept) < self._limit:
                kept[inum] = wanted[inum]
        self._labels = kept
        labels = {OTHER, *kept.values()}
        self._sums = {label: self._sums.get(label, Counter()) for label in labels}

    def add(self, counts: Iterable[Count]) -> None:
        """What the programs have counted so far."""
        now = {(one.netns, (one.kind, one.reason)): one.number for one in counts}
        for (inum, what), number in now.items():
            grew = number - self._read.get((inum, what), 0)
            if grew > 0:
                self._sums[self.label(inum)][what] += grew
        self._read = now

    def restart(self) -> None:
        """The programs count from 0 again."""
        self._read = {}

    def label(self, inum: int) -> str:
        """Of this namespace's series."""
        return self._labels.get(inum, OTHER)

    @property
    def gone(self) -> frozenset[int]:
        """Namespaces of which something was counted, and that nobody holds any more."""
        return frozenset(inum for inum, _ in self._read if inum != FOLDED) - self._there

    @property
    def sums(self) -> Mapping[str, Counter[Counted]]:
        """By label, those of whom nothing was counted yet among them."""
        return self._sums


def _distinct(states: Mapping[int, NamespaceState]) -> dict[int, str]:
    """A label for each: two that are called the same, or OTHER, have their numbers with it."""
    often = Counter(state.label for state in states.values())
    often[OTHER] += 1
    # Whose own name has a # gets a number, too: so none is called as another one with its number.
    plain = {label for label, times in often.items() if times == 1 and "#" not in label}
    return {inum: state.label if state.label in plain else f"{state.label}#{inum}" for inum, state in states.items()}
