"""ctobserve export: numbers for Prometheus, for as long as the host is up."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ctobserve.capture.capture import Capture
from ctobserve.capture.counting import LiveCounting
from ctobserve.capture.flight import Flight
from ctobserve.capture.live import LiveView
from ctobserve.capture.standing import Standing
from ctobserve.clock import NS_PER_S
from ctobserve.commands import ready
from ctobserve.commands.conditions import together
from ctobserve.commands.flight import OF_FLIGHT, SEEN, Asked, flight_of, say
from ctobserve.commands.help import HTTP, LOOK, OUTPUT, Command, Example, option
from ctobserve.commands.opening import Stop, attached, loaded, require_here
from ctobserve.commands.options import ATTACH, READY, options_of
from ctobserve.commands.values import LISTEN, PATH, whole
from ctobserve.documents import flight as flights
from ctobserve.documents.metering import Metering
from ctobserve.documents.record import Keeping
from ctobserve.documents.request import Request
from ctobserve.documents.triggers import Conditions
from ctobserve.errors import KernelLacks, UsageError
from ctobserve.programs.hooks import Purpose
from ctobserve.serving.basic_auth import BasicAuth, bcrypt_check
from ctobserve.serving.listening import Place, listen, listens_on
from ctobserve.serving.server import METRICS, Doors, Server, Source
from ctobserve.serving.tls import Tls
from ctobserve.serving.web_config import WebConfig, read

PLACE = "127.0.0.1:9877"
KEEP_S = 15 * 60
NAMED = 1000
POLL_S = 0.2


@click.command(
    cls=Command,
    examples=(
        Example("numbers for a Prometheus on this host", "ctobserve export"),
        Example(
            "for one elsewhere, by TLS and with a password",
            "ctobserve export --listen '[::]:9877' --web-config web.yml",
        ),
    ),
)
@option(
    LOOK, "--limit", type=whole(1, 4096), default=NAMED, metavar="N",
    help=f"So many network namespaces have series of their own; all others are `other`. Default: {NAMED:,}.",
)  # fmt: skip
@option(HTTP, "--listen", "place", type=LISTEN, default=PLACE, metavar="ADDRESS:PORT", help=f"Where to serve. Default: {PLACE}.")
@option(
    HTTP, "--web-config", type=PATH, metavar="FILE",
    help="TLS and users, as exporters have them (tls_server_config, basic_auth_users).",
)  # fmt: skip
@option(
    OUTPUT, "--record", "directory", type=PATH, metavar="DIR", help="Also run the flight recorder, into DIR, as record --keep."
)
@options_of(ATTACH, READY, OF_FLIGHT)
def export(
    request: Request,
    place: Place,
    web_config: Path | None,
    directory: Path | None,
    keep: int | None,
    **of_flight: Any,
) -> None:
    """Serve numbers at /metrics, in Prometheus' text or in OpenMetrics, until Ctrl-C; docs/export.md has their names.

    Entries, inserts, destroys and losses by network namespace and reason are counted in the kernel: no event is sent for any.
    Starts before nf_conntrack is loaded, and goes on when that is loaded again. Chains are measured in at most 1 % of the time.
    """
    pages = _pages()
    flight = flight_of(directory, keep or KEEP_S, **of_flight) if directory else None
    given = next((name for name, value in {"keep": keep, **of_flight}.items() if value), None)
    if given and not flight:
        raise UsageError(
            f"--{given.replace('_', '-').replace('conditions', 'on')} is of the flight recorder; give --record DIR too"
        )
    config = read(web_config) if web_config else WebConfig()
    tls = Tls(config.tls, say) if config.tls else None
    guard = BasicAuth(config.users, bcrypt_check()) if config.users else None
    stop = Stop()
    require_here(request, listing=flight is not None)
    lost = _Lost() if flight else None
    metering = Metering(LiveView(), request.limit or NAMED, say, lost)
    standing = Standing(lambda: LiveCounting(request.attach), time.monotonic_ns, say)

    def look() -> None:
        metering.look(standing.look())
        if tls:
            tls.refresh()

    with listen(place) as listening:
        standing.begin()
        where = listens_on(listening)
        source = Source(lambda: pages(metering.read(standing.counting)), look)
        server = Server(listening, source, Doors(tls.context if tls else None, guard), say)
        server.begin()
        try:
            stop.arm()
            say(f"serves http{'s' if tls else ''}://{where}{METRICS}")
            _warn(place, config, where)
            if request.ready_file:
                ready.announce(request.ready_file)
            if flight and lost:
                conditions = together(of_flight["conditions"])
                _record(request._replace(ready_file=None), flight, conditions, stop, lost, server)
            else:
                _wait(stop, server, lambda: False)
        finally:
            server.end()
            standing.end()


def _pages() -> Callable[[Any], Any]:
    try:
        from ctobserve.render.exposition import Pages
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "prometheus_client":
            raise
        why = "Python cannot import prometheus_client, which writes what Prometheus reads"
        raise KernelLacks(f"{why}; try: apt install python3-prometheus-client") from None
    return Pages


def _warn(place: Place, config: WebConfig, where: str) -> None:
    clients = config.tls is not None and config.tls.client_ca is not None
    lacking = [what for what, there in (("TLS", config.tls), ("users", config.users or clients)) if not there]
    if lacking and not place.address.is_loopback:
        say(f"warning: {where} can be reached from elsewhere, without {' and without '.join(lacking)}; give them by --web-config")


def _wait(stop: Stop, server: Server, until: Callable[[], bool]) -> bool:
    """For this; False where the end was asked for. Raises what ended the server."""
    while not stop.requested:
        if server.failure:
            raise server.failure
        if until():
            return True
        time.sleep(POLL_S)
    return False


class _Lost:
    """Records that the recorder lost, over all its captures; told by the thread that has the capture."""

    def __init__(self) -> None:
        self._before = self._due_ns = self._sum = 0

    def __call__(self) -> int:
        return self._sum

    def told(self, capture: Capture) -> None:
        """Asked of the kernel once a second."""
        if capture.now_ns() >= self._due_ns:
            self._due_ns = capture.now_ns() + NS_PER_S
            self._sum = self._before + sum(capture.fidelity().lost.values())

    def ended(self, capture: Capture) -> None:
        """The next capture begins at 0."""
        self._sum = self._before = self._before + sum(capture.fidelity().lost.values())


def _record(request: Request, flight: Flight, conditions: Conditions, stop: Stop, lost: _Lost, server: Server) -> None:
    """The flight recorder, begun again whenever nf_conntrack is."""
    purpose = SEEN | Purpose.INVALID
    asked = Asked()
    while _wait(stop, server, loaded):
        try:
            with attached(request, purpose, stop, chains=True) as (capture, stretch):

                def came(capture: Capture = capture) -> bool:
                    lost.told(capture)
                    if server.failure:
                        raise server.failure
                    return asked()

                flights.collect(capture, request, stretch, Keeping(flight.path, sees=purpose), flight, conditions, came, say)
                lost.ended(capture)
        except KernelLacks:
            if loaded():  # else it was unloaded in that very moment
                raise
