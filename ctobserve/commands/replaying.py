"""How a command gets its capture from a recording, by --from, --at, --since and --until."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click

from ctobserve.capture.recorded import RecordedCapture, RecordedView
from ctobserve.capture.store.container import shown
from ctobserve.capture.store.joined import Recording, opened
from ctobserve.capture.when import END
from ctobserve.clock import NS_PER_S
from ctobserve.commands.progress import progress
from ctobserve.documents.request import Request
from ctobserve.errors import UsageError
from ctobserve.programs.hooks import Purpose

LIVE = ("duration", "attach", "ring_mib", "source", "wait", "ready_file")
TIMES = ("at", "since", "until")
# What a recorder looks for only where it was asked to, and the option that asks it.
ASKED = {Purpose.INVALID: "without --no-invalid", Purpose.PACKETS: "with --packets", Purpose.CONFIRMS: "with --confirms"}


def at_the_end(request: Request) -> Request:
    """Of a recording, where no other instant is asked for, the table at its end."""
    return request._replace(at=END) if request.recording is not None and request.at is None else request


def require_live(request: Request) -> None:
    """Raises UsageError where something is asked of a recording, and none is named."""
    for name in TIMES:
        if getattr(request, name) is not None:
            raise UsageError(f"--{name} is of a recording; name it with --from FILE")


def require_recorded(request: Request) -> None:
    """Raises UsageError where something is asked of a recording that only this host has."""
    for name in LIVE:
        if getattr(request, name) != getattr(Request(), name):
            raise UsageError(f"--from reads what was, so there is no use for --{name.replace('_', '-')}; leave it out")


def stretch_of(request: Request, view: RecordedView) -> tuple[int | None, int]:
    """From --since (None: all of it) to --until (CLOCK_MONOTONIC); raises UsageError."""
    since_ns = None if request.since is None else request.since.within(view)
    until_ns = view.end_ns if request.until is None else request.until.within(view)
    if since_ns is not None and since_ns > until_ns:
        raise UsageError("--since is later than --until; nothing lies between")
    return since_ns, until_ns


@contextmanager
def replayed(request: Request, purpose: Purpose, before_s: float) -> Iterator[RecordedCapture]:
    """The stretch that was asked for, or with --at that which ends then and began so long before.

    Raises Unreadable for a file that is no recording, UsageError for what it does not have.
    """
    assert request.recording is not None
    require_recorded(request)
    with reading(request.recording) as reader:
        view = RecordedView(reader)
        for one, how in ASKED.items():
            if one in purpose and one not in view.sees:
                raise UsageError(f"{shown(request.recording)} was recorded without what that needs; record {how}")
        if request.at is not None:
            until_ns = request.at.within(view)
            since_ns: int | None = max(until_ns - round(before_s * NS_PER_S), view.begin_ns)
        else:
            since_ns, until_ns = stretch_of(request, view)
        with progress(f"reading {shown(request.recording)}") as tell:
            found = RecordedCapture(reader, purpose, since_ns, until_ns, tell)
        yield found


@contextmanager
def reading(path: Path) -> Iterator[Recording]:
    """A file, or the directory of a flight recorder; a line on stderr says at the end what could not be read.

    Raises Unreadable for what is no recording.
    """
    with closing(opened(path)) as reader:
        yield reader
        if reader.complaint:
            click.echo(f"ctobserve: {reader.complaint}", err=True)
