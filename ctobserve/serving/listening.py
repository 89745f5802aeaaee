"""The socket that the server listens on."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from ctobserve.errors import CtobserveError

BACKLOG = 32


class Place(NamedTuple):
    """Where to listen; port 0: one that is free."""

    address: IPv4Address | IPv6Address
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


def listen(place: Place) -> socket.socket:
    """Bound and listening; raises CtobserveError where the place cannot be had."""
    listening = socket.socket(socket.AF_INET6 if place.address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((str(place.address), place.port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        why = (error.strerror or str(error)).lower()
        raise CtobserveError(f"cannot listen on {place}: {why}; give another one by --listen ADDRESS:PORT") from None
    return listening


def listens_on(listening: socket.socket) -> str:
    """Address and port, with the one that was chosen where any would do."""
    address, port = listening.getsockname()[:2]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
