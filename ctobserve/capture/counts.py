"""What is counted in the kernel, without an event for each: the seam for who only wants numbers, for months."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol

from ctobserve.capture.capture import HostView
from ctobserve.capture.table import Lengths
from ctobserve.event import Kind

FOLDED = 0  # in place of a namespace's number: the programs had no room for it


class Count(NamedTuple):
    """So many of one kind since the programs were attached, in the namespace with this inode number, or FOLDED.

    `reason` is the contract's word for why an entry left (DESTROY) or a packet was lost (DROP), else empty.
    """

    netns: int
    kind: Kind
    reason: str
    number: int


class Counting(HostView, Protocol):
    """A host whose entries are counted as they come and leave."""

    @property
    def attach(self) -> str:
        """The form of the programs: fentry, kprobe."""
        ...

    @property
    def not_attached(self) -> tuple[str, ...]:
        """Functions that this kernel lacks: what they would tell is not counted."""
        ...

    def now_ns(self) -> int:
        """Now, CLOCK_MONOTONIC."""
        ...

    def counts(self) -> list[Count]:
        """All that are not 0, each namespace, kind and reason once."""
        ...

    def missed(self) -> int:
        """Calls that a program missed, what found no room in a map, and how often probes were found switched off when asked."""
        ...

    def lengths(self) -> Lengths | None:
        """The lengths of all chains now; None where the kernel hides its hash.

        Raises CtobserveError when the hash is resized again and again meanwhile.
        """
        ...

    def forget(self, gone: Collection[int]) -> None:
        """Make room of what was counted in these namespaces, which have ended."""
        ...
