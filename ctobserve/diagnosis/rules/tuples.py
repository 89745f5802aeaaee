"""The ends of an entry, as evidence and sentences have them."""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.groups import PORTS, key
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.model import WITH_PORTS, protocol_name

CONNECTION = ("netns", "src", "sport", "dst", "dport", "proto")  # what is alike in packets of one connection


def address(entry: np.void, column: str) -> str:
    """One of its four, by its column in groups.ADDRESSES."""
    return str(key(entry, column))


def port(entry: np.void, column: str) -> int:
    """One of its four, by its column in groups.PORTS."""
    return int(entry["port"][PORTS[column]])


def protocol(entry: np.void) -> str:
    """Its protocol's name."""
    return protocol_name(int(entry["protonum"]))


def original(entry: np.void) -> VerdictEvidence:
    """Its original tuple."""
    return {
        "src": address(entry, "src"),
        "sport": port(entry, "sport"),
        "dst": address(entry, "dst"),
        "dport": port(entry, "dport"),
    }


def connection(entry: np.void) -> str:
    """Its original tuple in words: source > destination/protocol."""
    ports = [port(entry, side) if entry["protonum"] in WITH_PORTS else None for side in ("sport", "dport")]
    return f"{end(address(entry, 'src'), ports[0])} > {service(address(entry, 'dst'), ports[1], protocol(entry))}"


def end(host: str | None, number: int | None) -> str:
    """One end of a connection: address:port, or the address where there are no ports."""
    named = f"[{host}]" if ":" in str(host) else str(host)
    return str(host) if number is None else f"{named}:{number}"


def service(host: str | None, number: int | None, proto: str | None) -> str:
    """Where a service is: address:port/protocol."""
    return f"{end(host, number)}/{proto}"
