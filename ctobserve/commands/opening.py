"""How a command gets its capture, and how it ends: Ctrl-C, the ready file, the closing line."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from ctobserve.capture.capture import PROBES_OFF, Capture, HostView
from ctobserve.capture.live import LiveCapture, LiveView, Options
from ctobserve.capture.recorded import viewing
from ctobserve.capture.store.container import shown
from ctobserve.capture.watch import Stretch
from ctobserve.commands import ready
from ctobserve.commands.progress import progress
from ctobserve.commands.replaying import replayed, require_live
from ctobserve.documents.meta import Meta
from ctobserve.documents.request import LOSSES_MIB, Request
from ctobserve.errors import CtobserveError, ExitStatus, KernelLacks
from ctobserve.event import RING_MIB
from ctobserve.host import capabilities, kernel
from ctobserve.programs.hooks import Purpose
from ctobserve.render.summary import summary_line

WAIT_S = 0.2


class LostRecords(CtobserveError):
    """Finished, but records were lost and --fail-on-loss was given."""

    exit_status = ExitStatus.LOST_RECORDS


class Stop:
    """Ctrl-C and SIGTERM: once armed they end the observation, and the summary still comes; before, they end the command."""

    def __init__(self) -> None:
        self.requested = False
        self._armed = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def arm(self) -> None:
        """From now on there is a summary."""
        self.heed()
        self._armed = True

    def heed(self) -> None:
        """End the command where that was asked for before it was armed: what a callback raises is dropped by Python."""
        if self.requested and not self._armed:
            raise KeyboardInterrupt

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        ends = self.requested or not self._armed
        self.requested = True
        if ends:
            raise KeyboardInterrupt


@contextmanager
def viewed(recording: Path | None) -> Iterator[HostView]:
    """What this host says without a program in the kernel, or said in a recording.

    Raises NotPermitted, KernelLacks where there is no conntrack, Unreadable for a file that is no recording.
    """
    if recording is not None:
        with viewing(recording) as recorded:
            yield recorded
        return
    capabilities.require()
    if not kernel.conntrack_loaded():
        raise KernelLacks("nf_conntrack is not loaded, so nothing is tracked and nothing expected; try: modprobe nf_conntrack")
    yield LiveView()


@contextmanager
def opened(
    request: Request,
    purpose: Purpose,
    *,
    follows: bool = True,
    reads: bool = True,
    chains: bool = False,
    tells: bool = True,
    before_s: float = 0.0,
    streams: bool = False,
) -> Iterator[tuple[Capture, Stretch]]:
    """A capture that attaches what `purpose` needs, and the stretch of time that was asked for; detached at the end.

    `follows`: the table is read at once, and kept true by events; else events of namespaces that --netns leaves out never leave
    the kernel. `reads`: the command needs the kernel's table at all. `tells`: it needs the events themselves. `before_s`: of a
    recording, at an instant, it also needs what happened so long before. `streams`: it shows what comes as it comes; of one
    that does not, a bar says how far the reading of a recording is.
    """
    stop = Stop()
    if request.recording is not None:
        stop.arm()
        with replayed(request, purpose, before_s) as recorded, progress(f"reading {shown(request.recording)}") as tell:

            def stopped() -> bool:
                if not streams:
                    tell(1.0 if stop.requested else recorded.passed)
                return stop.requested

            yield recorded, Stretch(stopped=stopped)
        return
    require_here(request)
    while request.wait and not kernel.conntrack_loaded():
        stop.heed()
        time.sleep(WAIT_S)
    with attached(request, purpose, stop, follows=follows, reads=reads, chains=chains, tells=tells) as found:
        yield found


def loaded() -> bool:
    """Whether there is conntrack to observe."""
    return kernel.conntrack_loaded()


def require_here(request: Request, listing: bool = True) -> None:
    """Says what is not seen here without which capability; `listing`: the command lists something by netlink.

    Raises UsageError for what only a recording has or a ready file that cannot be, NotPermitted where we may not observe.
    """
    if request.ready_file:
        ready.withdraw(request.ready_file)
    require_live(request)
    capabilities.require()
    for note in capabilities.notes(listing):
        click.echo(f"ctobserve: {note}", err=True)


@contextmanager
def attached(
    request: Request,
    purpose: Purpose,
    stop: Stop,
    *,
    follows: bool = True,
    reads: bool = True,
    chains: bool = False,
    tells: bool = True,
) -> Iterator[tuple[Capture, Stretch]]:
    """The same of this host as it is now, ended by `stop`."""

    def begin() -> None:
        stop.arm()
        if request.ready_file:
            ready.announce(request.ready_file)

    options = Options(
        purpose,
        attach=request.attach,
        chains=chains,
        ring_mib=request.ring_mib or (RING_MIB if Purpose.TABLE in purpose else LOSSES_MIB),
        read_via=request.source,
        reads=reads,
        tells=tells,
        netns=None if follows else request.filter.netns,
        counts=request.filter.netns,
    )
    with LiveCapture(options) as capture:
        if follows:
            capture.follow()
        yield capture, Stretch(request.duration, begin, lambda: stop.requested)


def closed(capture: Capture, request: Request, meta: Meta) -> None:
    """Closing line on stderr; raises LostRecords where the user wants to know by exit code."""
    click.echo(summary_line(meta), err=True)
    if capture.over and request.recording is None:
        raise KernelLacks("nf_conntrack was unloaded, so nothing is tracked any more; what is shown ends there")
    if meta.events_lost and request.fail_on_loss:
        off = meta.lost_by_kind.get(PROBES_OFF, 0)
        raise LostRecords(
            f"probes were switched off for about {off} s, and nothing was seen; try: sysctl kernel.ftrace_enabled"
            if off
            else f"{meta.events_lost} records were lost; try a larger --ring-mib"
        )


def out(lines: Iterable[str]) -> None:
    """Lines of data; none waits for the next call when nobody looks at a terminal."""
    for line in lines:
        sys.stdout.write(line)
        sys.stdout.write("\n")
    if not sys.stdout.isatty():
        sys.stdout.flush()
