"""What a stream remembers of living entries, bounded: what was said longest ago is forgotten, and then unknown, never wrong."""

from __future__ import annotations

from typing import Generic, TypeVar

Value = TypeVar("Value")


class Memory(Generic[Value]):
    """A value by address, in two halves: when the younger one is full, it becomes the older, and what that held is forgotten.

    A stream writes straight into `latest`, one item per new entry, and calls `age` after each batch.
    """

    def __init__(self, half: int) -> None:
        """So many addresses at least are remembered; twice as many, and those of one batch, at most."""
        self._half = half
        self.latest: dict[int, Value] = {}
        self._older: dict[int, Value] = {}

    def __len__(self) -> int:
        return len(self.latest) + len(self._older)

    def __contains__(self, ct: int) -> bool:
        return ct in self.latest or ct in self._older

    def get(self, ct: int) -> Value | None:
        """What was said last of this address."""
        return self.latest.get(ct, self._older.get(ct))

    def pop(self, ct: int) -> Value | None:
        """The same, for the last time: the address goes to another entry."""
        older = self._older.pop(ct, None)
        return self.latest.pop(ct, older)

    def age(self) -> None:
        """Forget, if it is time."""
        if len(self.latest) >= self._half:
            self.latest, self._older = {}, self.latest
