"""ctobserve top: a live view of fill level, rates, losses and the heaviest groups."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any

import click
import numpy as np

from ctobserve.analysis.groups import COLUMNS
from ctobserve.analysis.top import ORDERS, Gathered, heaviest
from ctobserve.capture.records import DropReason, Kind, Records, entries_of
from ctobserve.capture.table import lengths_of
from ctobserve.clock import NS_PER_S
from ctobserve.commands.help import LOOK, OBSERVE, Command, Example, option
from ctobserve.commands.options import OF_NETNS, OF_TUPLE, SOURCE, common_options, limit_to
from ctobserve.commands.session import Session, observe, out
from ctobserve.commands.values import real, some_of
from ctobserve.documents.request import Request
from ctobserve.errors import CtobserveError
from ctobserve.host import kernel, netns
from ctobserve.model import pick
from ctobserve.programs.hooks import Purpose
from ctobserve.render.jsonout import line
from ctobserve.render.top import frame_lines

LINES = 10
CLEAR = "\x1b[H\x1b[J"


@click.command(
    cls=Command,
    examples=(
        Example("which services fill the table", "ctobserve top --by dst,dport"),
        Example("which sources make the most entries now", "ctobserve top --order new"),
    ),
)
@option(
    LOOK, "--by", type=some_of(COLUMNS), default="src", metavar="COLUMN[,COLUMN]",
    help=f"Group by: {', '.join(COLUMNS)}. Default: src.",
)  # fmt: skip
@option(
    LOOK, "--order", type=click.Choice(ORDERS), default="entries", metavar="COLUMN",
    help=f"Which groups come first, those with the most: {', '.join(ORDERS)}. Default: entries.",
)  # fmt: skip
@option(
    OBSERVE, "--interval", type=real(0.1), default=2.0, metavar="SECONDS", help="Between frames. Default: 2."
)  # fmt: skip
@common_options(OF_NETNS, OF_TUPLE, limit_to("Show at most N groups. Default: 10."), SOURCE)
def top(request: Request, by: tuple[str, ...], order: str, interval: float) -> None:
    """Who fills the table, now: how full it is, rates of new, leaving and lost, and the heaviest sources, services, namespaces.

    A new frame every interval, until --duration or Ctrl-C; with --json one object per line.
    """
    with observe("top", request, Purpose.TABLE | Purpose.DROPS) as session:
        session.observer.poll()
        session.ready()
        frame = _Frame(session, by, order)
        due = time.monotonic() + interval
        for records in session.watch(idle=True):
            frame.add(records)
            if time.monotonic() >= due:
                frame.show()
                due += interval
        frame.show()
        session.finish(session.meta())


class _Frame:
    """What happened since the last one was shown."""

    def __init__(self, session: Session, by: tuple[str, ...], order: str) -> None:
        self._session = session
        self._by = by
        self._order = order
        self._gathered = {kind: Gathered(by) for kind in (Kind.INSERT, Kind.DROP)}
        self._clear()

    def _clear(self) -> None:
        self._began_ns = time.monotonic_ns()
        self._kinds: Counter[int] = Counter()
        self._reasons: Counter[str] = Counter()
        for gathered in self._gathered.values():
            gathered.clear()

    def add(self, records: Records) -> None:
        kinds = records["kind"]
        for kind, gathered in self._gathered.items():
            some = pick(records, kinds == kind)
            if not len(some):
                continue
            entries = entries_of(some)
            wanted = self._session.request.filter.mask(entries)
            gathered.add(entries[wanted])
            self._kinds[kind] += int(wanted.sum())
            if kind == Kind.DROP:
                self._reasons.update(DropReason(reason).name.lower() for reason in some["reason"][wanted].tolist())
        gone = pick(records, kinds == Kind.DESTROY)
        if len(gone):
            self._kinds[Kind.DESTROY] += int(self._session.request.filter.mask(entries_of(gone)).sum())

    def show(self) -> None:
        """Print the frame and begin the next."""
        frame = self._rows()
        if self._session.request.json:
            out([line(frame)])
        else:
            if sys.stdout.isatty():
                sys.stdout.write(CLEAR)
            out(frame_lines(frame, self._session.labels()))
        self._clear()

    def _rows(self) -> dict[str, Any]:
        session, now_ns = self._session, time.monotonic_ns()
        seconds = (now_ns - self._began_ns) / NS_PER_S
        whole = session.observer.table.entries()
        shown = session.request.filter.passing(whole)
        limit = LINES if session.request.limit is None else session.request.limit
        new, lost = self._gathered.values()
        lines = heaviest(shown, new, lost, self._by, self._order, limit)
        lengths = lengths_of(whole, session.observer.buckets)
        spaces, counts = np.unique(whole["netns"], return_counts=True)
        return {
            "ts": session.clock.iso(now_ns),
            "interval_s": round(seconds, 3),
            "max": kernel.sysctl("nf_conntrack_max"),
            "max_by_netns": session.observer.drained(lambda: _limits(spaces.tolist())),
            "entries": len(shown),
            "entries_by_netns": dict(zip(map(str, spaces.tolist()), counts.tolist(), strict=True)),
            "buckets": len(lengths.of_bucket),
            "max_chain": int(lengths.of_bucket.max(initial=0)),
            "new_per_s": round(self._kinds[Kind.INSERT] / seconds, 1),
            "gone_per_s": round(self._kinds[Kind.DESTROY] / seconds, 1),
            "lost_per_s": round(self._kinds[Kind.DROP] / seconds, 1),
            "lost_by_reason": dict(self._reasons),
            "not_grouped": new.forgotten + lost.forgotten,
            "by": list(self._by),
            "groups": [
                {
                    "values": list(line.values),
                    "entries": line.entries,
                    "new_per_s": round(line.new / seconds, 1),
                    "lost": line.lost,
                }
                for line in lines
            ],
            "events_lost": sum(session.observer.lost().values()),
        }


def _limits(inums: list[int]) -> dict[str, int | None]:
    """Entries that each namespace may have: its nf_conntrack_max, or the first one's where that is less. None: unknown."""
    spaces = netns.discover()
    first = next((space for space in spaces.values() if space.init), None)
    cap = _limit(first)
    own = {inum: _limit(spaces.get(inum)) for inum in inums}
    return {str(inum): limit and min(limit, cap or limit) for inum, limit in own.items()}


def _limit(space: netns.Namespace | None) -> int | None:
    """None also for 0, which newer kernels take as no limit."""
    if space is None:
        return None
    try:
        return netns.run_inside(space, lambda: kernel.sysctl("nf_conntrack_max")) or None
    except (CtobserveError, OSError):
        return None
