"""ctobserve record: a stretch of time kept in a file, or the last minutes in a directory, to be asked later by --from."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import click

from ctobserve.capture.flight import Flight
from ctobserve.commands.conditions import CONDITION, size, span, together
from ctobserve.commands.help import FLIGHT, LOOK, OBSERVE, OUTPUT, Command, Example, option
from ctobserve.commands.opening import closed, opened, out
from ctobserve.commands.options import SOURCE, common_options
from ctobserve.commands.values import PATH, real, whole
from ctobserve.documents import flight as flights
from ctobserve.documents.record import KEYFRAME_S, LEVEL, Keeping, collect
from ctobserve.documents.request import Request
from ctobserve.errors import UsageError
from ctobserve.programs.hooks import Purpose
from ctobserve.render.jsonout import document
from ctobserve.render.record import record_lines

MOST_MIB, LEAST_MIB = 256, 32
AFTER_S = 60
MOST_INCIDENTS = 16


class _Asked:
    """SIGUSR1: whether it came since it was asked for last."""

    def __init__(self) -> None:
        self._came = False
        signal.signal(signal.SIGUSR1, self._handle)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True

    def __call__(self) -> bool:
        came, self._came = self._came, False
        return came


@click.command(
    cls=Command,
    examples=(
        Example("what happens in a minute, to be looked at elsewhere", "ctobserve record incident.ctobserve --duration 60"),
        Example(
            "for months the last 15 minutes, and what is around each loss",
            "ctobserve record --keep 15m --on drop --on 'fill>=90%' /var/lib/ctobserve",
        ),
    ),
)
@click.argument("path", type=PATH, metavar="FILE|DIR")
@option(LOOK, "--no-invalid", is_flag=True, help="Spare the probe per packet: invalid packets are not kept.")
@option(LOOK, "--confirms", is_flag=True, help="Also packets whose new entry passed the last check.")
@option(LOOK, "--packets", is_flag=True, help="Also packets by state, namespace and hook. Costs one probe per packet.")
@option(
    OBSERVE, "--keyframe", type=real(1), default=KEYFRAME_S, metavar="SECONDS",
    help=f"How often the table is read, and with it counters and settings. Default: {KEYFRAME_S:g}.",
)  # fmt: skip
@option(
    FLIGHT, "--keep", type=span(10), metavar="TIME",
    help="Keep only the last minutes, as parts in DIR, for as long as it runs: 90s, 15m, 2h.",
)  # fmt: skip
@option(
    FLIGHT, "--max-size", type=size(LEAST_MIB), metavar="SIZE",
    help=f"DIR never takes more, half of it for incidents: 512MiB, 2GiB. Default: {MOST_MIB}MiB.",
)  # fmt: skip
@option(
    FLIGHT, "--on", "conditions", type=CONDITION, multiple=True, metavar="WHAT",
    help="Keep an incident, what is there and what follows, on: drop (a packet is lost), early_drop, 'fill>=90%' (of "
    "nf_conntrack_max), verdict:ID (of the report, made with each keyframe). Repeatable. SIGUSR1 always does.",
)  # fmt: skip
@option(FLIGHT, "--after", type=span(1), metavar="TIME", help=f"An incident goes on for so long. Default: {AFTER_S}s, or --keep.")
@option(
    FLIGHT, "--max-incidents", type=whole(1, 10_000), metavar="N",
    help=f"Keep so many; then the oldest goes. Default: {MOST_INCIDENTS}.",
)  # fmt: skip
@option(
    OUTPUT, "--compress", type=whole(0, 9), default=LEVEL, metavar="LEVEL",
    help=f"From 0, which costs least, to 9, which makes the smallest file. Default: {LEVEL}.",
)  # fmt: skip
@common_options(SOURCE)
def record(
    request: Request, path: Path, no_invalid: bool, confirms: bool, packets: bool, keyframe: float, compress: int,
    keep: int | None, **of_flight: Any,
) -> None:  # fmt: skip
    """Keep everything that a report can rest on in FILE: each event, the table now and then, counters, settings, rule sets.

    Of all network namespaces, for --duration or until Ctrl-C. Other commands read it by --from FILE, anywhere, without root. FILE
    must not exist yet; it is for its owner alone. It holds addresses, names of processes and rule sets, and no packet's content.

    With --keep it is a flight recorder: the last minutes are in DIR, to be read by --from DIR, in bounded space; what --on names
    makes a recording of its own, DIR/incident-TIME-WHY, of what came before and after it.
    """
    # UNCONFIRMED does for a report; events and why tell each entry that died before the table, births, masters and evictors.
    purpose = Purpose.TABLE | Purpose.REASONS | Purpose.DROPS | Purpose.UPDATES
    for wanted, more in ((not no_invalid, Purpose.INVALID), (confirms, Purpose.CONFIRMS), (packets, Purpose.PACKETS)):
        if wanted:
            purpose |= more
    keeping = Keeping(path, compress, keyframe, purpose)
    flight = _flight(path, keep, **of_flight)
    asked = _Asked() if flight else None
    with opened(request, purpose, chains=True) as (capture, stretch):
        if flight and asked:
            conditions = together(of_flight["conditions"])
            found = flights.collect(capture, request, stretch, keeping, flight, conditions, asked, _say)
        else:
            found = collect(capture, request, stretch, keeping, _say)
        out([document(found)] if request.json else record_lines(found))
        closed(capture, request, found.meta)


def _flight(
    path: Path, keep: int | None, max_size: int | None, after: int | None, max_incidents: int | None, conditions: object
) -> Flight | None:
    """Raises UsageError for what only a flight recorder has."""
    if keep is None:
        given = {"--max-size": max_size, "--on": conditions, "--after": after, "--max-incidents": max_incidents}
        for name, value in given.items():
            if value:
                raise UsageError(f"{name} is of a flight recorder; give it --keep TIME too, like --keep 15m")
        return None
    return Flight(path, keep, max_size or MOST_MIB << 20, max_incidents or MOST_INCIDENTS, after or min(AFTER_S, keep))


def _say(line: str) -> None:
    click.echo(f"ctobserve: {line}", err=True)
