"""ctobserve size: memory and sysctl arithmetic for this host, and what-if."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ctobserve.analysis.size import MOST_BUCKETS
from ctobserve.capture.live import LiveCapture, LiveView, Options
from ctobserve.capture.read_via import ReadVia
from ctobserve.capture.recorded import viewing
from ctobserve.commands.help import ENTRIES, OBSERVE, OUTPUT, WHAT_IF, Command, Example, option
from ctobserve.commands.opening import out
from ctobserve.commands.options import FROM
from ctobserve.commands.replaying import at_the_end, replayed
from ctobserve.commands.values import ONE_NETNS, Value, number, real, whole
from ctobserve.documents.request import Request
from ctobserve.documents.size import HEADROOM, SizeDocument, SizeRequest, collect
from ctobserve.errors import UsageError
from ctobserve.host.sysctls import INT_MAX, PREFIX, known
from ctobserve.render.jsonout import document
from ctobserve.render.size import size_lines


def _timeout(text: str) -> tuple[str, int]:
    """Full name and seconds; raises ValueError."""
    short, _, seconds = text.partition("=")
    name = PREFIX + short.removeprefix("net.netfilter.").removeprefix(PREFIX)
    found = known(name)
    if found is None or found.unit != "s":
        raise ValueError("names no timeout; write it like udp_timeout=10; `ctobserve size` lists them")
    try:
        return name, number(seconds, 0, INT_MAX)
    except ValueError:
        raise ValueError(f"has no seconds from 0 to {INT_MAX}; write it like udp_timeout=10") from None


# How to read the entries, in the order in which that is tried.
WAYS = {"auto": tuple(ReadVia), **{via.value: (via,) for via in ReadVia}, "none": ()}


@click.command(
    cls=Command,
    examples=(
        Example("how many entries a shorter timeout would free", "ctobserve size --timeout tcp_timeout_time_wait=30"),
        Example("what a million entries would take", "ctobserve size --max 1048576 --buckets 1048576"),
    ),
)
@option(WHAT_IF, "--max", type=whole(1), metavar="N", help="What if nf_conntrack_max were N.")
@option(WHAT_IF, "--buckets", type=whole(1, MOST_BUCKETS), metavar="N", help="What if nf_conntrack_buckets were N.")
@option(
    WHAT_IF, "--timeout", "timeouts", type=Value(_timeout), multiple=True, metavar="NAME=SECONDS",
    help="What if this timeout were so. Repeatable.",
)  # fmt: skip
@option(
    WHAT_IF, "--rate", "rate_per_s", type=real(0), metavar="N", help="Size for N new entries per second, not for the rate now."
)
@option(WHAT_IF, "--headroom", type=real(1), default=HEADROOM, metavar="FACTOR", help="Factor between need and size. Default: 2.")
@option(
    ENTRIES, "--netns", type=ONE_NETNS, metavar="NAME|INUM",
    help="Of this network namespace. Default: the one we are in.",
)  # fmt: skip
@option(OBSERVE, "--duration", type=real(0), metavar="SECONDS", help="Measure the rate of new entries that long (by BPF).")
@option(
    OBSERVE, "--source", type=click.Choice(list(WAYS)), metavar="WAY",
    help="How to read the entries for --timeout: walk (by BPF), proc, netlink, none, or auto: the first that works. "
    "Default: auto with --timeout, else none.",
)  # fmt: skip
@FROM[0]
@option(OUTPUT, "--json", "as_json", is_flag=True, help="As JSON (docs/json.md).")
def size(as_json: bool, source: str | None, recording: Path | None, **wanted: Any) -> None:
    """Memory of a full table, the kernel's defaults, what other values would do, and the lines to paste. Writes nothing.

    Needs neither root nor BPF; what could not be read is null, or `-`, and a note says why.
    """
    request = SizeRequest(**wanted, via=WAYS[source or ("auto" if wanted["timeouts"] else "none")])
    if recording is None:
        found = collect(LiveView(), lambda purpose: LiveCapture(Options(purpose)), request)
    else:
        found = _recorded(recording, request)
    out([document(found)] if as_json else size_lines(found))


def _recorded(recording: Path, request: SizeRequest) -> SizeDocument:
    """Of the end of a recording. Raises UsageError for what has no effect on it."""
    if request.duration is not None:
        raise UsageError("--from reads what was, so there is no use for --duration; leave it out")
    asked = at_the_end(Request(recording=recording))
    with viewing(recording) as view:
        return collect(view, lambda purpose: replayed(asked, purpose, 0.0), request)
