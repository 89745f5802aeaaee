"""What makes a flight recorder of a recorder: its options, and SIGUSR1."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

import click

from ctobserve.capture.flight import Flight
from ctobserve.commands.conditions import CONDITION, size, span
from ctobserve.commands.help import FLIGHT, option
from ctobserve.commands.options import Group
from ctobserve.commands.values import whole
from ctobserve.errors import UsageError
from ctobserve.programs.hooks import Purpose

# UNCONFIRMED does for a report; events and why tell each entry that died before the table, births, masters and evictors.
SEEN = Purpose.TABLE | Purpose.REASONS | Purpose.DROPS | Purpose.UPDATES
MOST_MIB, LEAST_MIB = 256, 32
AFTER_S = 60
MOST_INCIDENTS = 16


class Asked:
    """SIGUSR1: whether it came since it was asked for last."""

    def __init__(self) -> None:
        self._came = False
        signal.signal(signal.SIGUSR1, self._handle)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True

    def __call__(self) -> bool:
        """It is forgotten with the answer."""
        came, self._came = self._came, False
        return came


OF_FLIGHT: Group = (
    option(
        FLIGHT, "--keep", type=span(10), metavar="TIME",
        help="Keep only the last minutes, as parts in DIR, for as long as it runs: 90s, 15m, 2h.",
    ),
    option(
        FLIGHT, "--max-size", type=size(LEAST_MIB), metavar="SIZE",
        help=f"DIR never takes more, half of it for incidents: 512MiB, 2GiB. Default: {MOST_MIB}MiB.",
    ),
    option(
        FLIGHT, "--on", "conditions", type=CONDITION, multiple=True, metavar="WHAT",
        help="Keep an incident, what is there and what follows, on: drop (a packet is lost), early_drop, 'fill>=90%' (of "
        "nf_conntrack_max), verdict:ID (of the report, made with each keyframe). Repeatable. SIGUSR1 always does.",
    ),
    option(
        FLIGHT, "--after", type=span(1), metavar="TIME",
        help=f"An incident goes on for so long. Default: {AFTER_S}s, or --keep.",
    ),
    option(
        FLIGHT, "--max-incidents", type=whole(1, 10_000), metavar="N",
        help=f"Keep so many; then the oldest goes. Default: {MOST_INCIDENTS}.",
    ),
)  # fmt: skip


def flight_of(
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


def say(line: str) -> None:
    """A line for the operator."""
    click.echo(f"ctobserve: {line}", err=True)
