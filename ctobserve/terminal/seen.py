"""What the full screen shows at one instant, whether it happens now or was recorded: data, and what a person may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from ctobserve.analysis.groups import Key
from ctobserve.analysis.timeline import Bins
from ctobserve.capture.filters import Filter
from ctobserve.diagnosis.verdict import Severity
from ctobserve.documents.top import Moment
from ctobserve.documents.verdicts import VerdictRow
from ctobserve.model import Entries


class Wish(NamedTuple):
    """What somebody wants to look at: which entries, columns that they are grouped by, one of top.ORDERS."""

    only: Filter
    by: tuple[str, ...]
    order: str


class Standing(NamedTuple):
    """A verdict that was found last time, first at `since`; or that is no more, `gone` says since when (ISO 8601, UTC)."""

    row: VerdictRow
    since: str
    gone: str | None = None

    @property
    def grave(self) -> bool:
        """Somebody should do something."""
        return self.gone is None and self.row.severity in (Severity.CRITICAL, Severity.WARNING)


class Verdicts(NamedTuple):
    """As people read them, the gravest first, those that are gone last; of the last `of_s` seconds. `wanting` counts rules that
    could not be judged. `at_ns`, `at`: the end of what was judged (CLOCK_MONOTONIC; ISO 8601, UTC); `doubt`: why what was healthy
    then may not be so now.
    """

    standing: tuple[Standing, ...]
    of_s: float
    wanting: int
    at_ns: int
    at: str
    doubt: str = ""


class Proved(NamedTuple):
    """The last proof that the table is the kernel's. `equal` None: there was none yet, or it could not be had: `says` why."""

    at_ns: int
    equal: bool | None
    says: str


class Place(NamedTuple):
    """Where in a recording we are (CLOCK_MONOTONIC), from its begin to its end.

    `speed`: so many times as fast as it happened, 0: it stands. `bins`: all that happened in it, as far as it was looked
    through, which is `looked` of it, 0 to 1. `at_end`: nothing more comes.
    """

    begin_ns: int
    end_ns: int
    at_ns: int
    speed: int
    bins: Bins
    looked: float
    at_end: bool


class Seen(NamedTuple):
    """All of it. `source` is what we look at, `lost` counts records that never came, by kind; `busy` is what takes its time."""

    source: str
    wish: Wish
    moment: Moment
    at_ns: int
    lost: Mapping[str, int]
    invalid: bool
    verdicts: Verdicts | None
    proved: Proved | None
    place: Place | None
    busy: str


class Listed(NamedTuple):
    """Entries of a group or of a bucket: `entries` some of them, of `total` in all; `lines` one of each, for people."""

    title: str
    entries: Entries
    lines: tuple[str, ...]
    total: int


class Told(NamedTuple):
    """A text of several lines, under its title."""

    title: str
    lines: tuple[str, ...]


class Engine(Protocol):
    """Looks, in turns that each take a moment; lives in one thread, in which everything of it is called."""

    def turn(self) -> Seen | None:
        """Go on a little; what is to be seen, where that is new. Raises CtobserveError."""
        ...

    @property
    def over(self) -> bool:
        """Nothing more will come, and nothing can be asked any more."""
        ...

    def wish(self, wish: Wish) -> None:
        """Look at that from now on."""
        ...

    def group(self, by: tuple[str, ...], values: tuple[Key, ...]) -> Listed:
        """The entries that have these values in these columns."""
        ...

    def bucket(self, number: int) -> Listed:
        """The entries with a node in this bucket."""
        ...

    def life(self, entry: Entries) -> Told:
        """What became of this one, shape (1,), so far."""
        ...

    def leave(self) -> None:
        """Nobody looks at a life any more."""
        ...

    def namespaces(self) -> Mapping[int, str]:
        """What each is called, by inode number."""
        ...

    def prove(self) -> None:
        """Prove the table, as soon as that can be."""
        ...

    def seek(self, at_ns: int) -> None:
        """Of a recording, go there."""
        ...

    def play(self, speed: int) -> None:
        """Of a recording, go on so many times as fast as it happened; 0: stand."""
        ...

    def find(self, what: str, forward: bool) -> None:
        """Of a recording, go to the next `loss` or `verdict`, or to the one before."""
        ...
