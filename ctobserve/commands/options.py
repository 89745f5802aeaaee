"""The options that observing commands share, in groups, and the Request they make."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from ctobserve.analysis.groups import COLUMNS
from ctobserve.capture.filters import Filter
from ctobserve.capture.read_via import ReadVia
from ctobserve.commands.help import ENTRIES, LOOK, OBSERVE, OUTPUT, RECORDED, SCRIPTS, option
from ctobserve.commands.values import MARK, NETNS, NETWORK, PATH, PORTS, PROTOCOL, STATE, WHEN, real, some_of, whole
from ctobserve.documents.request import LOSSES_MIB, Request
from ctobserve.errors import UsageError
from ctobserve.event import RING_MIB

Command = Callable[..., Any]
Group = tuple[Callable[[Command], Command], ...]


JSON: Group = (option(OUTPUT, "--json", is_flag=True, help="As JSON (docs/json.md)."),)
ATTACH: Group = (
    option(
        OBSERVE, "--attach", type=click.Choice(["auto", "fentry", "kprobe"]), default="auto", metavar="FORM",
        help="Form of the probes: fentry, kprobe, or auto: the cheaper one that misses nothing on this kernel. Default: auto.",
    ),
)  # fmt: skip
READY: Group = (
    option(SCRIPTS, "--ready-file", type=PATH, metavar="PATH", help="Create PATH, empty, when everything is attached."),
)
OBSERVING: Group = (
    option(OBSERVE, "--duration", type=real(0), metavar="SECONDS", help="Observe this long. Ctrl-C ends earlier."),
    *JSON,
    *ATTACH,
    option(
        OBSERVE, "--ring-mib", type=click.Choice(["1", "2", "4", "8", "16", "32", "64", "128", "256"]),
        callback=lambda _ctx, _param, value: value and int(value), metavar="MIB",
        help=f"Size of the ring between kernel and us: a power of two up to 256. Default: {RING_MIB}, of losses {LOSSES_MIB}.",
    ),
    option(SCRIPTS, "--wait", is_flag=True, help="If nf_conntrack is not loaded, wait until it is."),
    *READY,
    option(SCRIPTS, "--fail-on-loss", is_flag=True, help="Exit 5 when records were lost."),
)  # fmt: skip
OF_NETNS: Group = (
    option(
        ENTRIES, "--netns", type=NETNS, metavar="NAME|INUM|all",
        help="Only of this network namespace: its `ip netns` name, or its inode number. Default: all.",
    ),
)  # fmt: skip
OF_ZONE: Group = (option(ENTRIES, "--zone", type=whole(0, 65535), metavar="ID", help="Conntrack zone."),)
OF_TUPLE: Group = (
    option(ENTRIES, "--src", type=NETWORK, metavar="CIDR", help="Original source address or network."),
    option(ENTRIES, "--dst", type=NETWORK, metavar="CIDR", help="Original destination address or network."),
    option(ENTRIES, "--sport", type=PORTS, metavar="PORT[-PORT]", help="Original source port."),
    option(ENTRIES, "--dport", type=PORTS, metavar="PORT[-PORT]", help="Original destination port."),
    option(ENTRIES, "--proto", type=PROTOCOL, metavar="NAME|NUMBER", help="Protocol, like tcp, udp, icmp or 47."),
    option(ENTRIES, "--state", type=STATE, metavar="STATE", help="TCP state, or ASSURED, REPLIED, UNREPLIED."),
    *OF_ZONE,
    option(ENTRIES, "--mark", type=MARK, metavar="MARK", help="Conntrack mark, like 7 or 0x10."),
)
SOURCE: Group = (
    option(
        OBSERVE, "--source", type=click.Choice(["auto", *(source.value for source in ReadVia)]), default="auto", metavar="WAY",
        help="How the table is read: walk (of the hash), proc or netlink (the kernel's own listings), or auto: the first of them "
        "that this kernel offers. Default: auto.",
    ),
)  # fmt: skip
FROM: Group = (
    option(
        RECORDED, "--from", "recording", type=PATH, is_eager=True, metavar="FILE",
        help="Read what `ctobserve record` kept in FILE, or in a directory with --keep, in place of this host. Needs no root.",
    ),
)  # fmt: skip
AT: Group = (
    option(
        RECORDED, "--at", type=WHEN, metavar="TIME",
        help="As it was then: 12:03:05 (UTC), 2026-11-26T12:03:05Z, or -90s: so long before the end. Default: the end.",
    ),
)  # fmt: skip
BY: Group = (
    option(
        LOOK, "--by", type=some_of(COLUMNS), default="src", metavar="COLUMN[,COLUMN]",
        help=f"Group by: {', '.join(COLUMNS)}. Default: src.",
    ),
)  # fmt: skip
STRETCH: Group = (
    option(
        RECORDED, "--since", type=WHEN, metavar="TIME",
        help="From then on: 12:03:05 (UTC), 2026-11-26T12:03:05Z, or -90s: so long before the end.",
    ),
    option(RECORDED, "--until", type=WHEN, metavar="TIME", help="Until then, written alike."),
)  # fmt: skip


def limit_to(what: str) -> Group:
    """--limit N; `what` says of what."""
    return (option(OUTPUT, "--limit", type=whole(0), metavar="N", help=what),)


def common_options(*groups: Group) -> Callable[[Command], Command]:
    """The options of every observing command, and those of the groups that have an effect in this one; it receives a Request."""
    return options_of(OBSERVING, *groups)


def options_of(*groups: Group) -> Callable[[Command], Command]:
    """The options of these groups alone; the command receives a Request."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**given: Any) -> Any:
            request = request_of(given)
            return command(request, **given)

        decorated: Command = run
        for offer in reversed(sum(groups, ())):
            decorated = offer(decorated)
        return decorated

    return decorate


def request_of(given: dict[str, Any]) -> Request:
    """A Request of what click parsed; takes out of `given` what belongs to it and its filter."""
    conditions, common = ({name: given.pop(name) for name in kind._fields if name in given} for kind in (Filter, Request))
    return Request(**common, filter=Filter(**conditions))


def chosen_form(request: Request, form: str | None, default: str) -> str:
    """What --format and --json ask for together; raises UsageError where they differ."""
    if request.json and form not in (None, "json"):
        raise UsageError(f"--json and --format {form} exclude each other; give one of them")
    return form or ("json" if request.json else default)
