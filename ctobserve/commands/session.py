"""What every observing command does alike: start and end of an observation, the meta block, the closing line."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from ctobserve import __version__
from ctobserve.capture.observer import Observer, Options
from ctobserve.capture.records import Records
from ctobserve.clock import NS_PER_S
from ctobserve.commands import ready
from ctobserve.documents.request import Request
from ctobserve.errors import CtobserveError, ExitStatus, KernelLacks
from ctobserve.host import kernel, netns
from ctobserve.programs.hooks import Purpose
from ctobserve.render.text import summary_line

WAIT_S = 0.2


class LostRecords(CtobserveError):
    """Finished, but records were lost and --fail-on-loss was given."""

    exit_status = ExitStatus.LOST_RECORDS


class Stop:
    """Ctrl-C and SIGTERM: once armed they end the observation, and the summary still comes; before, they end the command."""

    def __init__(self) -> None:
        self.requested = False
        self.armed = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested or not self.armed:
            raise KeyboardInterrupt
        self.requested = True


class Session:
    """A running observation of one command."""

    def __init__(self, command: str, request: Request, observer: Observer, stop: Stop) -> None:
        self.command = command
        self.request = request
        self.observer = observer
        self._stop = stop
        self.clock = observer.started
        self._names = netns.Names(lambda: observer.drained(netns.discover))

    def ready(self) -> None:
        """Everything is attached and seeded: from now on Ctrl-C ends with a summary; tell who waits for us."""
        self._stop.armed = True
        # Who ends before the first line about it still has a name.
        self._names.of(())
        self.ready_ns = time.monotonic_ns()
        if self.request.ready_file:
            ready.announce(self.request.ready_file)

    def watch(self, idle: bool = False) -> Iterator[Records]:
        """Records until --duration is over or Ctrl-C; empty batches only if `idle`."""
        end = None if self.request.duration is None else self.ready_ns + int(self.request.duration * NS_PER_S)
        return self.observer.watch(lambda: self._stop.requested or (end is not None and time.monotonic_ns() >= end), idle)

    def labels(self) -> dict[int, str]:
        """What text calls each namespace, as known now."""
        return {inum: space.label for inum, space in self.observer.drained(netns.discover).items()}

    def labels_for(self, inums: Iterable[int]) -> dict[int, str]:
        """The same for a stream that shows these: those that ended a moment ago keep their name until their last event."""
        return self._names.of(inums)

    def ended(self, inums: set[int]) -> None:
        """What came last was the end of these namespaces."""
        self._names.ended(inums)

    def meta(self) -> dict[str, Any]:
        """The meta block of every JSON document."""
        now = time.monotonic_ns()
        lost = {kind.name.lower(): n for kind, n in self.observer.lost().items()}
        walked = self.observer.walked_ns
        return {
            "command": self.command,
            "version": __version__,
            "kernel": kernel.release(),
            "started": self.clock.iso(self.observer.started_ns),
            "ended": self.clock.iso(now),
            "duration_s": round((now - self.observer.started_ns) / NS_PER_S, 3),
            "netns": self.request.filter.netns or "all",
            "netns_names": {str(inum): label for inum, label in self.labels().items()},
            "attach": ("fentry" if self.observer.trampolines else "kprobe") if self.observer.plan else "walk",
            "not_attached": self.observer.unattached,
            "table_source": self.observer.source and self.observer.source.value,
            "events_seen": self.observer.seen,
            "events_lost": sum(lost.values()),
            "lost_by_kind": lost,
            "evictions_unpaired": self.observer.unpaired,
            "table_age_s": round((now - walked) / NS_PER_S, 3) if walked else None,
            "table_uncertain_s": round(self.observer.uncertain_ns / NS_PER_S, 3),
            "buckets_unread": self.observer.unread,
        }

    def finish(self, meta: dict[str, Any]) -> None:
        """Closing line on stderr; raises LostRecords where the user wants to know by exit code."""
        click.echo(summary_line(meta), err=True)
        if self.observer.gone:
            raise KernelLacks("nf_conntrack was unloaded, so nothing is tracked any more; what is shown ends there")
        if meta["events_lost"] and self.request.fail_on_loss:
            raise LostRecords(f"{meta['events_lost']} records were lost; try a larger --ring-mib")


@contextmanager
def observe(
    command: str,
    request: Request,
    purpose: Purpose,
    *,
    reads: bool = True,
    table: bool = True,
    chains: bool = False,
    stream: bool = True,
) -> Iterator[Session]:
    """Attach what `purpose` needs, with `table` read the kernel's; detach at the end whatever happens.

    `reads`: the command needs the kernel's table at all. Without `table`, events of namespaces that --netns leaves out never
    leave the kernel.
    """
    stop = Stop()
    if request.ready_file:
        ready.withdraw(request.ready_file)
    kernel.require_root()
    while request.wait and not kernel.conntrack_loaded():
        time.sleep(WAIT_S)
    options = Options(
        purpose,
        form=request.attach,
        chains=chains,
        ring_mib=request.ring_mib,
        source=request.source,
        table=reads,
        stream=stream,
        netns=None if table else request.filter.netns,
    )
    with Observer(options) as observer:
        session = Session(command, request, observer, stop)
        if table:
            observer.seed()
        yield session


def out(lines: Iterable[str]) -> None:
    """Lines of data; none waits for the next call when nobody looks at a terminal."""
    sys.stdout.writelines(f"{line}\n" for line in lines)
    if not sys.stdout.isatty():
        sys.stdout.flush()
