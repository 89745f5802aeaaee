"""ctobserve diff: what is different between two instants of a recording, or between two recordings."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from ctobserve.capture.filters import Filter
from ctobserve.capture.recorded import RecordedCapture, RecordedView
from ctobserve.capture.store.container import shown
from ctobserve.capture.store.joined import Recording
from ctobserve.capture.when import BEGIN, END, When
from ctobserve.commands.help import ENTRIES, RECORDED, Command, Example, option
from ctobserve.commands.opening import out
from ctobserve.commands.options import BY, JSON, OF_TUPLE, limit_to, options_of
from ctobserve.commands.progress import progress
from ctobserve.commands.replaying import reading
from ctobserve.commands.values import PATH, WHEN, netns_in
from ctobserve.documents.diff import LINES, collect
from ctobserve.documents.instant import Taken, take
from ctobserve.documents.request import Request
from ctobserve.errors import UsageError
from ctobserve.programs.hooks import Purpose
from ctobserve.render.diff import diff_lines
from ctobserve.render.jsonout import document


@click.command(
    cls=Command,
    examples=(
        Example("what is different since nine, by service", "ctobserve diff day.ctobserve --since 09:00 --by dst,dport"),
        Example("a bad day beside a good one", "ctobserve diff good.ctobserve bad.ctobserve"),
    ),
)
@click.argument("first", type=PATH, metavar="A")
@click.argument("second", type=PATH, required=False, metavar="[B]")
@option(
    RECORDED, "--since", type=WHEN, metavar="TIME",
    help="The first instant, in A: 12:03:05 (UTC), 2026-11-26T12:03:05Z, or -90s: so long before its end. "
    "Default: the begin of A; with B its end.",
)  # fmt: skip
@option(
    RECORDED, "--until", type=WHEN, metavar="TIME",
    help="The second instant, in B, or in A alone, written alike. Default: the end.",
)  # fmt: skip
@option(
    ENTRIES, "--netns", "space", default="all", metavar="NAME|INUM|all",
    help="Only of this network namespace: its `ip netns` name, or its inode number. Default: all.",
)  # fmt: skip
@options_of(BY, OF_TUPLE, limit_to(f"Show at most N groups. Default: {LINES}."), JSON)
def diff(request: Request, first: Path, second: Path | None, space: str, by: tuple[str, ...]) -> None:
    """What is different between two instants of the recording A, or between the ends of A and B: who came, went, grew.

    Entries, how full the table is, buckets, sysctls, what the kernel's counters gained; then groups of entries, those first that
    changed most. A and B may be of two hosts, or two boots: then namespaces are matched by name. Needs no root.
    """
    with ExitStack() as opened:
        earlier = opened.enter_context(reading(first))
        later = earlier if second is None else opened.enter_context(reading(second))
        before = _taken(earlier, request.since or (BEGIN if second is None else END), request.filter, space)
        after = _taken(later, request.until or END, request.filter, space)
        if later is earlier and before.clock.monotonic_ns > after.clock.monotonic_ns:
            raise UsageError("--since is later than --until; nothing lies between")
        found = collect(before, after, by, request.limit, one_recording=later is earlier)
        out([document(found)] if request.json else diff_lines(found))


def _taken(reader: Recording, when: When, only: Filter, space: str) -> Taken:
    """The table then. Raises UsageError where the recording is not of that time, or has no such namespace."""
    view = RecordedView(reader)
    at_ns = when.within(view)
    try:
        netns = netns_in(view, space)
    except UsageError as error:
        raise UsageError(f"{shown(reader.path)}: {error}") from None
    with progress(f"reading {shown(reader.path)}") as tell:
        capture = RecordedCapture(reader, Purpose(0), at_ns, at_ns, tell)
    return take(capture, only._replace(netns=netns))
