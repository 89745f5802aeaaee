"""What is known of the namespaces of a stream while they come and go: what they are called, and who owns them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

BELIEVED_NS = 1_000_000_000
# New numbers are looked up at once until looks took this long; from then on a tenth of the time is theirs.
AT_ONCE_NS = 1_000_000_000
T = TypeVar("T")


class Names(Generic[T]):
    """What is known by inode number. Inode numbers are given out again at once, so it is believed for a while."""

    def __init__(self, look: Callable[[], Mapping[int, T]], now_ns: Callable[[], int], unknown: Callable[[int], T]) -> None:
        """`look` says it of those that can be entered now, `unknown` of others; `look` and `now_ns` are a Capture's."""
        self._all = look
        self._now_ns = now_ns
        self._unknown = unknown
        self._known: dict[int, T] = {}
        self._last: Mapping[int, T] = {}
        self._ending: set[int] = set()
        self._looked_ns = self._took_ns = 0
        self._spare_ns = AT_ONCE_NS

    def of(self, inums: Iterable[int]) -> Mapping[int, T]:
        """By inode number, of `inums` and of others.

        On a host with many processes a look takes its time, and is taken less often.
        """
        passed, fresh = self._now_ns() - self._looked_ns, set(inums) - self._known.keys()
        if passed > max(BELIEVED_NS, 50 * self._took_ns) or (fresh and self._spare(passed) >= self._took_ns):
            self._look()
        self._known |= {inum: self._unknown(inum) for inum in fresh - self._known.keys()}
        return self._known

    def ended(self, inums: set[int]) -> None:
        """Entries of these left because their namespace ended. When no more of them come, their number is another's."""
        for inum in self._ending - inums:
            self._known.pop(inum, None)
            self._last = {other: label for other, label in self._last.items() if other != inum}
        self._ending = inums

    def _spare(self, passed: int) -> int:
        """Nanoseconds that a look for new numbers may take now, so long after the last look."""
        return min(self._spare_ns + passed // 10, max(AT_ONCE_NS, self._took_ns))

    def _look(self) -> None:
        """One that is not found any more is known until the next look: its last events may be still to come."""
        begun_ns = self._now_ns()
        spare_ns = self._spare(begun_ns - self._looked_ns)
        found = self._all()
        self._known, self._last = {**self._last, **found}, found
        self._looked_ns = self._now_ns()
        self._took_ns = self._looked_ns - begun_ns
        self._spare_ns = spare_ns - self._took_ns
