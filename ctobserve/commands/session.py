"""What every observing command does alike: options, start and end of an observation, the meta block, the closing line."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import click

from ctobserve import __version__, filters, kernel, netns
from ctobserve.clock import NS_PER_S
from ctobserve.commands import ready
from ctobserve.errors import CtobserveError, ExitStatus, KernelLacks, UsageError
from ctobserve.events import Records
from ctobserve.hooks import Purpose
from ctobserve.netns import Namespace
from ctobserve.observer import DEFAULT_RING_MIB, Observer, Options
from ctobserve.render.text import summary_line
from ctobserve.sources import Source

Command = Callable[..., Any]
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


@dataclass
class Request:
    """The common options, parsed."""

    duration: float | None
    json: bool
    netns: str
    form: str
    ring_mib: int
    source: str
    wait: bool
    limit: int | None
    ready_file: Path | None
    fail_on_loss: bool
    filter: filters.Filter


class Finite(click.FloatRange):
    """A number from `min` on; nan and inf are none that one can wait for or multiply by."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Raises click's usage error."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


def common_options(command: Command) -> Command:
    """The options of the contract that observing commands share; the command receives a Request."""

    def run(**given: Any) -> Any:
        own = {name: given.pop(name) for name in list(given) if name not in _COMMON}
        return command(_request(given), **own)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    wrapped: Command = run
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


_OPTIONS = (
    click.option("--duration", type=Finite(min=0), metavar="SECONDS", help="Observe this long. Ctrl-C ends earlier."),
    click.option("--json", "as_json", is_flag=True, help="JSON: one document, or one object per line for streams."),
    click.option("--netns", "netns_choice", default="all", metavar="NAME|INUM|all", help="Only this network namespace."),
    click.option("--src", metavar="CIDR", help="Original source address or network."),
    click.option("--dst", metavar="CIDR", help="Original destination address or network."),
    click.option("--sport", metavar="PORT[-PORT]", help="Original source port."),
    click.option("--dport", metavar="PORT[-PORT]", help="Original destination port."),
    click.option("--proto", metavar="NAME|NUMBER", help="Protocol: tcp, udp, icmp, ... or its number."),
    click.option("--state", metavar="STATE", help="TCP state, or ASSURED, REPLIED, UNREPLIED."),
    click.option("--zone", type=click.IntRange(0, 65535), metavar="ID", help="Conntrack zone."),
    click.option("--mark", metavar="MARK", help="Conntrack mark, decimal or 0x...."),
    click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Show at most N."),
    click.option(
        "--attach", type=click.Choice(["auto", "fentry", "kprobe"]), default="auto",
        help="Form of the probes; auto takes the cheapest.",
    ),
    click.option(
        "--ring-mib", type=click.Choice(["1", "2", "4", "8", "16", "32", "64", "128", "256"]), default=str(DEFAULT_RING_MIB),
        help="Size of the ring between kernel and us.",
    ),
    click.option(
        "--source", type=click.Choice(["auto", *(source.value for source in Source)]), default="auto",
        help="How the table is read; auto takes the first that this kernel offers.",
    ),
    click.option("--wait", is_flag=True, help="If nf_conntrack is not loaded, wait until it is."),
    click.option("--ready-file", type=click.Path(path_type=Path), metavar="PATH", help="Create PATH, empty, when attached."),
    click.option("--fail-on-loss", is_flag=True, help="Exit 5 when records were lost."),
)  # fmt: skip
_COMMON = (
    *("duration", "as_json", "netns_choice", "src", "dst", "sport", "dport", "proto", "state", "zone", "mark"),
    *("limit", "attach", "ring_mib", "source", "wait", "ready_file", "fail_on_loss"),
)


def _request(given: dict[str, Any]) -> Request:
    return Request(
        duration=given["duration"],
        json=given["as_json"],
        netns=given["netns_choice"],
        form=given["attach"],
        ring_mib=int(given["ring_mib"]),
        source=given["source"],
        wait=given["wait"],
        limit=given["limit"],
        ready_file=given["ready_file"],
        fail_on_loss=given["fail_on_loss"],
        filter=filters.Filter(
            netns=netns.resolve(given["netns_choice"]),
            src=filters.parse_network("--src", given["src"]),
            dst=filters.parse_network("--dst", given["dst"]),
            sport=filters.parse_ports("--sport", given["sport"]),
            dport=filters.parse_ports("--dport", given["dport"]),
            proto=filters.parse_proto(given["proto"]),
            state=filters.parse_state(given["state"]),
            zone=given["zone"],
            mark=filters.parse_mark(given["mark"]),
        ),
    )


def chosen_form(request: Request, form: str | None, default: str) -> str:
    """What --format and --json ask for together; raises UsageError where they differ."""
    if request.json and form not in (None, "json"):
        raise UsageError(f"--json and --format {form} exclude each other; give one of them")
    return form or ("json" if request.json else default)


class Session:
    """A running observation of one command."""

    def __init__(self, command: str, request: Request, observer: Observer, stop: Stop) -> None:
        self.command = command
        self.request = request
        self.observer = observer
        self._stop = stop
        self.clock = observer.started
        self._labels: dict[int, str] = {}

    def ready(self) -> None:
        """Everything is attached and seeded: from now on Ctrl-C ends with a summary; tell who waits for us."""
        self._stop.armed = True
        self.ready_ns = time.monotonic_ns()
        if self.request.ready_file:
            ready.announce(self.request.ready_file)

    def watch(self, idle: bool = False) -> Iterator[Records]:
        """Records until --duration is over or Ctrl-C; empty batches only if `idle`."""
        end = None if self.request.duration is None else self.ready_ns + int(self.request.duration * NS_PER_S)
        return self.observer.watch(lambda: self._stop.requested or (end is not None and time.monotonic_ns() >= end), idle)

    def spaces(self) -> dict[int, Namespace]:
        """Namespaces by inode number, as known now."""
        return netns.discover()

    def labels(self) -> dict[int, str]:
        """What text calls each namespace."""
        return {inum: space.label for inum, space in self.spaces().items()}

    def labels_for(self, inums: Iterable[int]) -> dict[int, str]:
        """The same for a stream: looked up again only when a namespace appears that was not met before."""
        fresh = set(inums) - self._labels.keys()
        if fresh:
            self._labels |= {inum: str(inum) for inum in fresh} | self.labels()
        return self._labels

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
            "netns_names": {str(inum): space.label for inum, space in self.spaces().items()},
            "attach": ("fentry" if self.observer.trampolines else "kprobe") if self.observer.plan else "walk",
            "table_source": self.observer.source.value,
            "events_seen": self.observer.seen,
            "events_lost": sum(lost.values()),
            "lost_by_kind": lost,
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
    command: str, request: Request, purpose: Purpose, *, table: bool = True, chains: bool = False, stream: bool = True
) -> Iterator[Session]:
    """Attach what `purpose` needs, with `table` read the kernel's; detach at the end whatever happens.

    Without it, events of namespaces that --netns leaves out never leave the kernel.
    """
    stop = Stop()
    if request.ready_file:
        ready.withdraw(request.ready_file)
    kernel.require_root()
    while request.wait and not kernel.conntrack_loaded():
        time.sleep(WAIT_S)
    only = None if table else request.filter.netns
    options = Options(purpose, request.form, chains, request.ring_mib, request.source, stream, only)
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
