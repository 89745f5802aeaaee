"""The options that observing commands share, in groups, and the Request they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any

import click

from ctobserve.capture.filters import Filter
from ctobserve.capture.read_via import ReadVia
from ctobserve.commands.values import MARK, NETNS, NETWORK, PATH, PORTS, PROTOCOL, STATE, real, whole
from ctobserve.documents.request import DEFAULT_RING_MIB, Request
from ctobserve.errors import UsageError

Command = Callable[..., Any]
Group = tuple[Callable[[Command], Command], ...]


OBSERVING: Group = (
    click.option("--duration", type=real(0), metavar="SECONDS", help="Observe this long. Ctrl-C ends earlier."),
    click.option("--json", is_flag=True, help="JSON: one document, or one object per line for streams."),
    click.option(
        "--attach", type=click.Choice(["auto", "fentry", "kprobe"]), default="auto",
        help="Form of the probes; auto takes the cheapest.",
    ),
    click.option(
        "--ring-mib", type=click.Choice(["1", "2", "4", "8", "16", "32", "64", "128", "256"]), default=str(DEFAULT_RING_MIB),
        callback=lambda _ctx, _param, value: int(value), help="Size of the ring between kernel and us.",
    ),
    click.option("--wait", is_flag=True, help="If nf_conntrack is not loaded, wait until it is."),
    click.option("--ready-file", type=PATH, metavar="PATH", help="Create PATH, empty, when attached."),
    click.option("--fail-on-loss", is_flag=True, help="Exit 5 when records were lost."),
)  # fmt: skip
OF_NETNS: Group = (click.option("--netns", type=NETNS, metavar="NAME|INUM|all", help="Only this network namespace."),)
OF_TUPLE: Group = (
    click.option("--src", type=NETWORK, metavar="CIDR", help="Original source address or network."),
    click.option("--dst", type=NETWORK, metavar="CIDR", help="Original destination address or network."),
    click.option("--sport", type=PORTS, metavar="PORT[-PORT]", help="Original source port."),
    click.option("--dport", type=PORTS, metavar="PORT[-PORT]", help="Original destination port."),
    click.option("--proto", type=PROTOCOL, metavar="NAME|NUMBER", help="Protocol: tcp, udp, icmp, ... or its number."),
    click.option("--state", type=STATE, metavar="STATE", help="TCP state, or ASSURED, REPLIED, UNREPLIED."),
    click.option("--zone", type=whole(0, 65535), metavar="ID", help="Conntrack zone."),
    click.option("--mark", type=MARK, metavar="MARK", help="Conntrack mark, decimal or 0x...."),
)
LIMIT: Group = (click.option("--limit", type=whole(0), metavar="N", help="Show at most N."),)
SOURCE: Group = (
    click.option(
        "--source", type=click.Choice(["auto", *(source.value for source in ReadVia)]), default="auto",
        help="How the table is read; auto takes the first that this kernel offers.",
    ),
)  # fmt: skip


def common_options(*groups: Group) -> Callable[[Command], Command]:
    """The options of every observing command, and those of the groups that have an effect in this one; it receives a Request."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**given: Any) -> Any:
            request = request_of(given)
            return command(request, **given)

        decorated: Command = run
        for option in reversed(sum(groups, OBSERVING)):
            decorated = option(decorated)
        return decorated

    return decorate


def request_of(given: dict[str, Any]) -> Request:
    """A Request of what click parsed; takes out of `given` what belongs to it and its filter."""
    conditions, common = (
        {one.name: given.pop(one.name) for one in fields(kind) if one.name in given} for kind in (Filter, Request)
    )
    return Request(**common, filter=Filter(**conditions))


def chosen_form(request: Request, form: str | None, default: str) -> str:
    """What --format and --json ask for together; raises UsageError where they differ."""
    if request.json and form not in (None, "json"):
        raise UsageError(f"--json and --format {form} exclude each other; give one of them")
    return form or ("json" if request.json else default)
