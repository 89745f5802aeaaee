"""The ends of an entry, as evidence and sentences have them."""

from __future__ import annotations

import numpy as np

from ctobserve.analysis.groups import PORTS, key
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.model import protocol_name


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


def end(host: str | None, number: int | None) -> str:
    """One end of a connection: address:port, or the address where there are no ports."""
    named = f"[{host}]" if ":" in str(host) else str(host)
    return str(host) if number is None else f"{named}:{number}"


def service(host: str | None, number: int | None, proto: str | None) -> str:
    """Where a service is: address:port/protocol."""
    return f"{end(host, number)}/{proto}"
