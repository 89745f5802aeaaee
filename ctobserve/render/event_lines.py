"""Events as rows for people: what JSON says of them, in the same words. Built column by column, as in lines.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from ctobserve.clock import Clock
from ctobserve.documents.base import Labels
from ctobserve.event import Events, Kind
from ctobserve.model import somewhere
from ctobserve.render.columns import Numbers, Part, Texts, chosen, column, distinct, glued, placed, texts, written
from ctobserve.render.entry_fields import BUCKET, CHAIN, MASTER, TIMEOUT_S, PairView
from ctobserve.render.event_fields import (
    AGE_S,
    BEFORE_S,
    BYTES,
    CHANGED,
    COMM,
    CPU,
    DETAIL,
    DIRECTION,
    EVENT,
    HOOK,
    INNER,
    INNER_PROTO,
    INTERFACE,
    KINDS,
    LEFT,
    LEFT_COMM,
    LEFT_ORIGINAL,
    LEFT_PID,
    LEFT_PROCESS,
    LEFT_REASON,
    LEFT_STATE,
    LIKE,
    LOOKED_AT,
    MADE_ROOM_FOR,
    PACKETS,
    PID,
    PORTID,
    PROCESS,
    REASON,
    SCANNED_FIELDS,
    SINCE_ALLOC_NS,
    TCP_FLAGS_SET,
    TEXT,
    VERDICT,
    EventView,
)
from ctobserve.render.fields import Field, Object, known, said, some
from ctobserve.render.folding import CLAUSE, rows_fitted
from ctobserve.render.lines import flags, marks, netns, other_tuple, owner, pairs, protocol, tuples
from ctobserve.render.owners import worth_saying
from ctobserve.render.tuples import sides

NOBODY: Labels = {}
Clause = Callable[[EventView], list[Part]]


class EventLines:
    """One row per event: time of day, what, where, which tuple, and what else is known of it.

    `columns`: of the terminal, None: each row is one line. `of_one`: all are of one connection, which has been named.
    """

    def __init__(self, columns: int | None = None, of_one: bool = False) -> None:
        self._columns, self._of_one = columns, of_one

    def of(self, events: Events, clock: Clock, labels: Labels, owners: Labels = NOBODY) -> str:
        """All in order, the last without its line end; there must be one. `labels` of namespaces, and who owns them."""
        view = EventView(events, clock, worth_saying(owners, owners))
        # Of a lost packet, not what its entry would have had.
        lived = view.whole & (events["kind"] != int(Kind.DROP))
        left = known(TIMEOUT_S, view) & lived
        before, after = _clauses(view)
        cells: list[Part] = [
            *_times(view.entries["seen_ns"], clock),
            written(EVENT.values(view), lambda kind: f" {KINDS.get(kind, kind):<7} "),
            *self._whose(view, labels),
            *before,
            *owner(view),
            *said(lived, lambda: flags(view)),
            *said(left, lambda: [f"{CLAUSE}left=", texts(TIMEOUT_S.values(view)), "s"]),
            *marks(view),
            *pairs(BUCKET, view),
            *pairs(CHAIN, view),
            *after,
        ]
        return rows_fitted(cells, len(view), self._columns)

    def _whose(self, view: EventView, labels: Labels) -> list[Part]:
        """Of one connection only packets that were lost: they may go either way, or be of another protocol."""
        if self._of_one:
            lost = view.events["kind"] == int(Kind.DROP)
            return some(lost, view, lambda packets: [protocol(packets), CLAUSE, *tuples(packets)])
        return [netns(view, labels, 8), " ", protocol(view, 5), CLAUSE, *tuples(view)]


def _times(seen_ns: Numbers, clock: Clock) -> list[Part]:
    """Time of day, UTC, to the millisecond."""
    ms = (seen_ns.astype(np.int64) + (clock.wall_ns - clock.monotonic_ns)) // 1_000_000
    seconds = ms // 1000
    return [written(seconds, _time), chosen(_thousandths(), ms - seconds * 1000)]


def _time(second: int) -> str:
    return f"{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}"


@cache
def _thousandths() -> Texts:
    return column([f".{number:03}" for number in range(1000)])


def _said(field: Field[EventView], name: str, unit: str = "") -> Clause:
    """A fact between these words, where it is known and not empty."""

    def clause(view: EventView) -> list[Part]:
        mask = known(field, view)
        words = field.texts(view) if somewhere(mask) else ""
        there = bool(words) if isinstance(words, str) else words != b""
        return said(mask & there, lambda: [f"{CLAUSE}{name}", words, unit])

    return clause


def _counts(field: Object[EventView]) -> Clause:
    def clause(view: EventView) -> list[Part]:
        pair: PairView = field.within(view)
        return said(
            known(field, view), lambda: [f"{CLAUSE}{field.name}=", texts(pair.numbers[:, 0]), "/", texts(pair.numbers[:, 1])]
        )

    return clause


def _tuple(field: Object[EventView], word: str) -> Clause:
    return lambda view: other_tuple(field, view, word)


def _direction(view: EventView) -> list[Part]:
    """A packet that is lost on its way into the table is its entry's first: nobody asks for its direction."""
    told = known(HOOK, view) | known(TEXT, view)
    return said(known(DIRECTION, view) & told, lambda: [f"{CLAUSE}direction=", DIRECTION.texts(view)])


def _process(view: EventView) -> list[Part]:
    return said(known(PROCESS, view), lambda: [f"{CLAUSE}by ", COMM.texts(view), "[", PID.texts(view), "]"])


def _looked_at(view: EventView) -> list[Part]:
    def counts() -> list[Part]:
        counted: list[Part] = []
        for field in SCANNED_FIELDS:
            counted += [", ", field.texts(view), f" {field.name.replace('_', ' ')}"]
        return [f"{CLAUSE}(looked at: ", *counted[1:], ")"]

    return said(known(LOOKED_AT, view), counts)


def _inner(view: EventView) -> list[Part]:
    """What an ICMP error is about, with its protocol."""
    return some(
        known(INNER, view), INNER.within(view), lambda tuples: [f"{CLAUSE}inner ", INNER_PROTO.texts(tuples), " ", *sides(tuples)]
    )


def _left(view: EventView) -> list[Part]:
    """The entry that the packet's connection had: when it left, why, in which state, by whom, and its original tuple."""

    def words(of: EventView) -> list[Part]:
        asked = said(known(LEFT_PROCESS, of), lambda: [" by ", LEFT_COMM.texts(of), "[", LEFT_PID.texts(of), "]"])
        stated = said(known(LEFT_STATE, of), lambda: [" in ", LEFT_STATE.texts(of)])
        when: list[Part] = [f"{CLAUSE}entry left ", BEFORE_S.texts(of), "s before: ", LEFT_REASON.texts(of)]
        return [*when, *stated, *asked, f"{CLAUSE}it was ", *sides(LEFT_ORIGINAL.within(of))]

    return some(known(LEFT, view), view, words)


MASTER_OF: Clause = _tuple(MASTER, "master")
# What each kind says before and after the state of its entry.
CLAUSES: dict[Kind, tuple[tuple[Clause, ...], tuple[Clause, ...]]] = {
    Kind.INSERT: ((), (MASTER_OF,)),
    Kind.CONFIRM: ((_said(VERDICT, "verdict="), _said(SINCE_ALLOC_NS, "since_alloc=", "ns")), (MASTER_OF,)),
    Kind.UPDATE: ((_said(CHANGED, "changes="),), (MASTER_OF,)),
    Kind.DESTROY: (
        (_said(REASON, "reason="),),
        (
            *(_said(AGE_S, "age=", "s"), _counts(PACKETS), _counts(BYTES), _said(PORTID, "portid="), _said(CPU, "cpu=")),
            *(_process, _tuple(MADE_ROOM_FOR, "for"), MASTER_OF, _said(DETAIL, "(", ")")),
        ),
    ),
    Kind.DROP: (
        (_said(REASON, "reason="), _said(LIKE, "like="), _said(TCP_FLAGS_SET, "flags="), _said(HOOK, "hook="), _direction),
        (
            *(_said(CPU, "cpu="), _process, _said(INTERFACE, "on "), MASTER_OF, _said(TEXT, "(", ")"), _inner, _left),
            _looked_at,
        ),
    ),
}


def _clauses(view: EventView) -> tuple[list[Part], list[Part]]:
    """Before and after; where events of several kinds stand together, each kind has a column in which others have nothing."""
    before: list[Part] = []
    after: list[Part] = []
    kinds = view.events["kind"]
    there = distinct(kinds)
    for kind in there:
        mask = kinds == kind
        of_kind = view if len(there) == 1 else view.only(mask)
        for found, clauses in zip((before, after), CLAUSES[Kind(kind)], strict=True):
            parts = [part for clause in clauses for part in clause(of_kind)]
            found.extend(parts if of_kind is view or not parts else [placed(mask, glued(*parts))])
    return before, after
