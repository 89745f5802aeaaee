"""ctobserve events: one line per event as it happens."""

from __future__ import annotations

import click
import numpy as np

from ctobserve.commands.help import LOOK, Command, Example, option
from ctobserve.commands.options import OF_NETNS, OF_TUPLE, common_options, limit_to
from ctobserve.commands.session import Session, observe, out
from ctobserve.commands.values import some_of
from ctobserve.documents.request import Request
from ctobserve.model import NF_HOOKS
from ctobserve.programs.hooks import Purpose
from ctobserve.render.folding import room
from ctobserve.render.happenings import EVENTS, Chosen, Happenings, Told
from ctobserve.render.jsonout import line
from ctobserve.render.lines import EventLines
from ctobserve.render.rows import Row
from ctobserve.render.text import packet_line

STATES = ("ESTABLISHED", "RELATED", "NEW", "ESTABLISHED", "RELATED", None, None, "UNTRACKED", "INVALID")


@click.command(
    cls=Command,
    examples=(
        Example("why entries leave, and who deletes them", "ctobserve events --events destroy"),
        Example("replies, TCP states and marks of one host's connections", "ctobserve events --events update --src 10.1.2.3"),
    ),
)
@option(
    LOOK, "--events", "choice", type=some_of(EVENTS), metavar="LIST",
    help=f"Comma-separated: {', '.join(EVENTS)}. Default: all, without accepted confirms.",
)  # fmt: skip
@option(
    LOOK, "--invalid", is_flag=True,
    help="Drops also of INVALID packets, with the kernel's words. Costs one probe per packet.",
)  # fmt: skip
@option(
    LOOK, "--packets", is_flag=True, help="At the end, packets by state, namespace and hook. Costs one probe per packet."
)  # fmt: skip
@common_options(OF_NETNS, OF_TUPLE, limit_to("End after N events."))
def events(request: Request, choice: tuple[str, ...] | None, invalid: bool, packets: bool) -> None:
    """One line per event as it happens.

    insert: an entry enters the table. confirm: a packet's new entry passed or failed the last check. update: status, TCP state,
    mark or helper changed. destroy: an entry leaves, with the reason. drop: conntrack lost a packet, with the reason.
    """
    chosen = set(choice or EVENTS)
    purpose = Purpose.TABLE | Purpose.REASONS | Purpose.DROPS
    for wanted, more in (
        (choice and "confirm" in chosen, Purpose.CONFIRMS),
        ("update" in chosen, Purpose.UPDATES),
        (invalid and "drop" in chosen, Purpose.INVALID),
        (packets, Purpose.PACKETS),
    ):
        if wanted:
            purpose |= more
    with observe("events", request, purpose, chains=True, reads=False, table=False) as session:
        happenings = Happenings(Chosen(chosen, request.filter), session.clock, session.observer.symbols)
        session.ready()
        shown = _Shown(session)
        for records in session.watch():
            if shown.show(happenings.of(records)):
                break
        shown.show(happenings.of(session.observer.poll(), final=True))
        if packets:
            shown.packets()
        session.finish(session.meta())


class _Shown:
    """Prints events up to the limit."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lines = EventLines(room())
        self._left = session.request.limit

    def show(self, told: Told) -> bool:
        """True when the limit is reached."""
        session = self._session
        session.ended(told.ended())
        if self._left is not None:
            told = told.first(self._left)
            self._left -= len(told)
        if not len(told):
            return self._left == 0
        if session.request.json:
            out(map(line, told.rows(session.clock)))
        else:
            out([self._lines.of(told, session.clock, session.labels_for(np.unique(told.entries["netns"]).tolist()))])
        return self._left == 0

    def packets(self) -> None:
        """The counts of packets by state; replies are ESTABLISHED or RELATED like the packets they answer."""
        counts: dict[tuple[int, int, str], int] = {}
        for netns, hook, state, count in self._session.observer.packets():
            key = netns, hook, STATES[state] or str(state)
            counts[key] = counts.get(key, 0) + count
        now = self._session.observer.clock()
        for (netns, hook, name), count in sorted(counts.items()):
            if self._session.request.filter.netns in (None, netns):
                row: Row = {"event": "packets", "ts": now.iso(now.monotonic_ns), "netns": netns or None, "hook": NF_HOOKS[hook]}
                row |= {"state": name, "packets": count}
                out([line(row) if self._session.request.json else packet_line(row, self._session.labels_for([netns]), room())])
