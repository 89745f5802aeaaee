"""What the value of an option means: strict parsers, as types by which click converts what was typed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, NoReturn

import click

from ctobserve.capture import when
from ctobserve.capture.filters import STATUS_FILTERS
from ctobserve.capture.recorded import RecordedView, viewing
from ctobserve.errors import UsageError
from ctobserve.host import netns
from ctobserve.host.sysctls import INT_MAX
from ctobserve.model import PROTOCOLS, TCP_STATES
from ctobserve.serving.listening import Place

PLACE = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<four>[0-9.]{7,15})):(?P<port>[0-9]{1,5})")
WHOLE = "0|[1-9][0-9]{0,9}"  # int() and float() also take signs, underscores, blanks, and the digits of every script
STATE_WORDS = (*TCP_STATES, *STATUS_FILTERS)


class Value(click.ParamType):
    """A word with a meaning. `parse` gives it, or raises ValueError with what is wrong and what would be right."""

    name = "value"

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Raises click's usage error; a default that is no str has its meaning already."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


def number(text: str, low: int, high: int) -> int:
    """Decimal, in ASCII digits alone; raises ValueError."""
    if not re.fullmatch(WHOLE, text) or not low <= int(text) <= high:
        raise ValueError(f"is no whole number from {low} to {high}")
    return int(text)


def _listen(text: str) -> Place:
    """An address, not a name: what a name means is others' to say."""
    found = PLACE.fullmatch(text)
    try:
        return Place(ip_address(found["six"] or found["four"]), number(found["port"], 0, 65535)) if found else _nowhere()
    except ValueError:
        return _nowhere()


def _nowhere() -> NoReturn:
    raise ValueError("is no place to listen at; write it like 127.0.0.1:9877 or [::1]:9877") from None


def whole(low: int, high: int = INT_MAX) -> Value:
    """A whole number in this range."""
    return Value(lambda text: number(text, low, high))


def real(low: float) -> Value:
    """A number from `low` to INT_MAX, in digits with or without a point."""

    def parse(text: str) -> float:
        if not re.fullmatch(rf"(?:{WHOLE})(?:\.[0-9]{{1,9}})?", text) or not low <= float(text) <= INT_MAX:
            raise ValueError(f"is no number from {low:g} to {INT_MAX}; write it like 2 or 2.5")
        return float(text)

    return Value(parse)


def some_of(known: Sequence[str]) -> Value:
    """One or more of these names, with commas between."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        wrong = [name for name in names if name not in known]
        if wrong:
            raise ValueError(f"has {wrong[0]!r}, which is none of {', '.join(known)}")
        return names

    return Value(parse)


def _network(text: str) -> IPv4Network | IPv6Network:
    with suppress(ValueError):
        if "%" not in text:  # a tuple has no IPv6 scope, and ip_network() would drop it silently
            return ip_network(text, strict=False)
    raise ValueError("is no address or network; write it like 10.0.0.0/8 or 2001:db8::/32")


def _ports(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    with suppress(ValueError):
        ports = number(low, 0, 65535), number(high if dash else low, 0, 65535)
        if ports[0] <= ports[1]:
            return ports
    raise ValueError("is no port or range of ports; write it like 53 or 1024-65535")


def _protocol(text: str) -> int:
    numbers = {name: protonum for protonum, name in PROTOCOLS.items()}
    with suppress(ValueError):
        return numbers[text.lower()] if text.lower() in numbers else number(text, 0, 255)
    raise ValueError(f"is no protocol; name one of {', '.join(sorted(numbers))}, or give its number, 0 to 255")


def _state(text: str) -> str:
    if text.isascii() and text.upper() in STATE_WORDS:  # upper() alone makes an S of the long s, and the like
        return text.upper()
    raise ValueError(f"is no state; name one of {', '.join(STATE_WORDS)}")


def _mark(text: str) -> int:
    with suppress(ValueError):
        return int(text, 16) if re.fullmatch("0x[0-9a-fA-F]{1,8}", text) else number(text, 0, (1 << 32) - 1)
    raise ValueError("is no mark of 32 bits; write it like 7 or 0x10")


def netns_in(view: RecordedView, choice: str) -> int | None:
    """Inode number of a namespace of a recording, None for `all`; raises UsageError where there is no such one."""
    return None if choice == "all" else netns.chosen(choice, view.spaces())


class OfNetns(Value):
    """A network namespace by its name or number, of the recording that --from names, else of this host; None for `all`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Its inode number; raises UsageError where there is no such one."""
        recording = ctx.params.get("recording") if ctx else None
        # What was not given is None, or, from click 8.3 on and until all is parsed, an object of click's own.
        if not isinstance(recording, Path) or not isinstance(value, str):
            return super().convert(value, param, ctx)
        with viewing(recording) as view:
            return netns_in(view, value)


class OneNetns(OfNetns):
    """The same, but for `all`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Its inode number."""
        if value == "all":
            raise UsageError("--netns all: a count and a maximum are of one network namespace; name it, or leave --netns out")
        return super().convert(value, param, ctx)


NETWORK, PORTS, PROTOCOL, STATE, MARK = (Value(parse) for parse in (_network, _ports, _protocol, _state, _mark))
NETNS, ONE_NETNS, PATH, WHEN = OfNetns(netns.resolve), OneNetns(netns.resolve), Value(Path), Value(when.parse)
LISTEN = Value(_listen)
