"""Which entries a command shows: the common filters, as a mask over entry rows."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctobserve.errors import UsageError
from ctobserve.events import take
from ctobserve.model import IPS_ASSURED, IPS_SEEN_REPLY, PROTOCOLS, TCP, TCP_STATES, Entries

Mask = npt.NDArray[np.bool_]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
STATUS_FILTERS = {"ASSURED": (IPS_ASSURED, True), "UNREPLIED": (IPS_SEEN_REPLY, False), "REPLIED": (IPS_SEEN_REPLY, True)}


@dataclass(frozen=True)
class Filter:
    """All given conditions must hold. Addresses and ports are those of the original direction."""

    netns: int | None = None
    src: Network | None = None
    dst: Network | None = None
    sport: tuple[int, int] | None = None
    dport: tuple[int, int] | None = None
    proto: int | None = None
    state: str | None = None
    zone: int | None = None
    mark: int | None = None

    def mask(self, entries: Entries) -> Mask:
        """True for the entries that pass."""
        keep = np.ones(len(entries), np.bool_)
        for name in ("netns", "zone", "mark"):
            wanted = getattr(self, name)
            if wanted is not None:
                keep &= entries[name] == wanted
        if self.proto is not None:
            keep &= entries["protonum"] == self.proto
        for at, network in enumerate((self.src, self.dst)):
            if network is not None:
                keep &= _in_network(entries, at, network)
        for at, ports in enumerate((self.sport, self.dport)):
            if ports is not None:
                value = entries["port"][:, at]
                keep &= (value >= ports[0]) & (value <= ports[1])
        if self.state is not None:
            keep &= _in_state(entries, self.state)
        return keep

    def passing(self, entries: Entries) -> Entries:
        """Those that pass; the same array, not a copy, when all do."""
        keep = self.mask(entries)
        return entries if keep.all() else take(entries, keep)


def _in_network(entries: Entries, at: int, network: Network) -> Mask:
    size = network.max_prefixlen // 8
    mask = np.frombuffer(network.netmask.packed, np.uint8)
    wanted = np.frombuffer(network.network_address.packed, np.uint8)
    same: Mask = ((entries["addr"][:, at, :size] & mask) == wanted).all(axis=1)
    same &= entries["l3num"] == (2 if size == 4 else 10)
    return same


def _in_state(entries: Entries, state: str) -> Mask:
    found: Mask
    if state in STATUS_FILTERS:
        bit, wanted = STATUS_FILTERS[state]
        found = ((entries["status"] & bit) != 0) == wanted
    else:
        found = (entries["protonum"] == TCP) & (entries["tcp_state"] == TCP_STATES.index(state))
    return found


def parse_network(option: str, text: str | None) -> Network | None:
    """An address or CIDR; raises UsageError."""
    if text is None:
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise UsageError(f"{option} {text!r} is no address or network; write it like 10.0.0.0/8 or 2001:db8::/32") from None


def parse_ports(option: str, text: str | None) -> tuple[int, int] | None:
    """A port or a range LOW-HIGH; raises UsageError."""
    if text is None:
        return None
    low, _, high = text.partition("-")
    try:
        ports = int(low), int(high or low)
    except ValueError:
        ports = 1, 0
    if not 0 <= ports[0] <= ports[1] <= 65535:
        raise UsageError(f"{option} {text!r} is no port or range of ports; write it like 53 or 1024-65535")
    return ports


def parse_proto(text: str | None) -> int | None:
    """A protocol's name or number; raises UsageError."""
    if text is None:
        return None
    numbers = {name: number for number, name in PROTOCOLS.items()}
    if text.lower() in numbers:
        return numbers[text.lower()]
    if text.isdigit() and int(text) < 256:
        return int(text)
    raise UsageError(f"--proto {text!r} is unknown; name one of {', '.join(sorted(numbers))}, or give its number")


def parse_state(text: str | None) -> str | None:
    """A TCP state, or ASSURED, REPLIED, UNREPLIED; raises UsageError."""
    if text is None or text.upper() in STATUS_FILTERS or text.upper() in TCP_STATES:
        return text.upper() if text else None
    raise UsageError(f"--state {text!r} is unknown; name one of {', '.join([*TCP_STATES, *STATUS_FILTERS])}")


def parse_mark(text: str | None) -> int | None:
    """A 32-bit mark; raises UsageError."""
    if text is None:
        return None
    try:
        mark = int(text, 0)
    except ValueError:
        mark = -1
    if not 0 <= mark < 1 << 32:
        raise UsageError(f"--mark {text!r} is no 32-bit number; write it like 7 or 0x10")
    return mark
