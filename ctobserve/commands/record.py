"""ctobserve record: a stretch of time kept in a file, or the last minutes in a directory, to be asked later by --from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ctobserve.commands.conditions import together
from ctobserve.commands.flight import OF_FLIGHT, SEEN, Asked, flight_of, say
from ctobserve.commands.help import LOOK, OBSERVE, OUTPUT, Command, Example, option
from ctobserve.commands.opening import closed, opened, out
from ctobserve.commands.options import SOURCE, common_options
from ctobserve.commands.values import PATH, real, whole
from ctobserve.documents import flight as flights
from ctobserve.documents.record import KEYFRAME_S, LEVEL, Keeping, collect
from ctobserve.documents.request import Request
from ctobserve.programs.hooks import Purpose
from ctobserve.render.jsonout import document
from ctobserve.render.record import record_lines


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
    OUTPUT, "--compress", type=whole(0, 9), default=LEVEL, metavar="LEVEL",
    help=f"From 0, which costs least, to 9, which makes the smallest file. Default: {LEVEL}.",
)  # fmt: skip
@common_options(SOURCE, OF_FLIGHT)
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
    purpose = SEEN
    for wanted, more in ((not no_invalid, Purpose.INVALID), (confirms, Purpose.CONFIRMS), (packets, Purpose.PACKETS)):
        if wanted:
            purpose |= more
    keeping = Keeping(path, compress, keyframe, purpose)
    flight = flight_of(path, keep, **of_flight)
    asked = Asked() if flight else None
    with opened(request, purpose, chains=True) as (capture, stretch):
        if flight and asked:
            conditions = together(of_flight["conditions"])
            found = flights.collect(capture, request, stretch, keeping, flight, conditions, asked, say)
        else:
            found = collect(capture, request, stretch, keeping, say)
        out([document(found)] if request.json else record_lines(found))
        closed(capture, request, found.meta)
