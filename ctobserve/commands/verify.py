"""ctobserve verify: prove the rebuilt table equal to the kernel's."""

from __future__ import annotations

import click

from ctobserve.commands.help import Command, Example
from ctobserve.commands.opening import closed, opened, out
from ctobserve.commands.options import FROM, OF_NETNS, SOURCE, common_options, limit_to
from ctobserve.documents.request import Request
from ctobserve.documents.verify import collect
from ctobserve.errors import CtobserveError
from ctobserve.programs.hooks import Purpose
from ctobserve.render.folding import room
from ctobserve.render.jsonout import document
from ctobserve.render.verify import verify_lines


class NotEqual(CtobserveError):
    """The tables differ."""


@click.command(
    cls=Command,
    examples=(
        Example("follow the table for ten seconds, then compare", "ctobserve verify --duration 10"),
        Example("for a script: exit 1 where the tables differ, 5 where records were lost", "ctobserve verify --fail-on-loss"),
    ),
)
@common_options(OF_NETNS, limit_to("Name at most N differences of each kind."), SOURCE, FROM)
def verify(request: Request) -> None:
    """Prove the table rebuilt from events equal to the kernel's: entry by entry with a walk of the hash, and with netlink dumps.

    The table is seeded, followed by events for --duration (default 1 s), then compared. Differences of entries in flux are looked
    at again; those that last are named, and the exit code is 1.
    """
    if request.duration is None and request.recording is None:
        request = request._replace(duration=1.0)
    with opened(request, Purpose.TABLE, tells=False) as (capture, stretch):
        found = collect(capture, request, stretch)
        out([document(found)] if request.json else verify_lines(found, room()))
        closed(capture, request, found.meta)
    if not found.equal:
        raise NotEqual("the rebuilt table differs from the kernel's; the differences are named above")
