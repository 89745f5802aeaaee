"""What is typed as TUPLE: any part of a connection."""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import ip_address

from ctobserve.analysis.sought import End, Sought
from ctobserve.commands.values import Value, number
from ctobserve.model import PROTOCOLS

# Between the two ends; the second is how a tuple is printed, so that it can be pasted.
BETWEEN = re.compile(r"-| ?> ?")
# An address in brackets or without a colon, then a port; an IPv6 address alone needs no brackets.
END = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<four>[^:\[\]]*))(?::(?P<port>.*))?")
RIGHT = "write it like 10.0.0.5, :53/udp, [2001:db8::1]:53 or 10.0.0.5:40000-10.0.0.9:443/tcp"


def _end(text: str) -> End:
    """Raises ValueError."""
    with suppress(ValueError):
        return End(_address(text, 6))
    found = END.fullmatch(text)
    if not found:
        raise ValueError(f"has no address and port in {text!r}; {RIGHT}")
    six, four, port = found["six"], found["four"], found["port"]
    address = _address(six, 6) if six is not None else _address(four, 4) if four else None
    if address is None and port is None:
        raise ValueError(f"names neither an address nor a port at one end; {RIGHT}")
    return End(address, None if port is None else _port(port))


def _address(text: str, version: int) -> bytes:
    with suppress(ValueError):
        found = ip_address(text)
        if found.version == version and "%" not in text:  # a tuple has no IPv6 scope
            return found.packed
    raise ValueError(f"has no IPv{version} address in {text!r}; {RIGHT}")


def _port(text: str) -> int:
    with suppress(ValueError):
        return number(text, 0, 65535)
    raise ValueError(f"has no port in {text!r}, which is a number from 0 to 65535; {RIGHT}")


def parse(text: str) -> Sought:
    """Raises ValueError with what is wrong and what would be right."""
    ends, slash, proto = text.partition("/")
    numbers = {name: protonum for protonum, name in PROTOCOLS.items()}
    # A number would be taken for a protocol where somebody means a network.
    if slash and not (proto.isascii() and proto.lower() in numbers):
        raise ValueError(f"has no protocol in {proto!r}, which is one of {', '.join(sorted(numbers))}; {RIGHT}")
    parts = BETWEEN.split(ends)
    if len(parts) > 2:
        raise ValueError(f"has more than two ends; {RIGHT}")
    one, *rest = map(_end, parts)
    other = rest[0] if rest else End()
    if one.address and other.address and len(one.address) != len(other.address):
        raise ValueError(f"has an IPv4 and an IPv6 address, which no tuple has; {RIGHT}")
    return Sought(text, one, other, numbers[proto.lower()] if slash else None)


SOUGHT = Value(parse)
