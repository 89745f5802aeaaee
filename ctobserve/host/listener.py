"""A silent listener, so that the kernel reports changes of entries made from now on.

Since 5.19 (net.netfilter.nf_conntrack_events = 2) an entry gets the event extension only if a ctnetlink listener exists when it
is allocated; the flag is one for all namespaces (nf_ctnetlink_has_listener). We join the group of destroyed expectations, which
is nearly silent, and read nothing. It ends with the socket; no sysctl is written. Opening it while nf_conntrack_netlink is not
in the kernel could make the kernel load it, so it is not opened then.
"""

from __future__ import annotations

import socket
import time

from ctobserve.host import netlink

NETLINK_NETFILTER = 12
SOL_NETLINK, ADD_MEMBERSHIP = 270, 1
CONNTRACK_EXP_DESTROY = 6
RENEW_S = 1.0


class Listener:
    """`renew` now and then, because any other listener that leaves takes the kernel's flag with it."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._renewed = 0.0

    @property
    def listening(self) -> bool:
        """Whether the kernel has been told."""
        return self._socket is not None

    def renew(self) -> None:
        """Join afresh and leave the old membership, at most once a second."""
        if time.monotonic() - self._renewed < RENEW_S or not netlink.available():
            return
        self._renewed = time.monotonic()
        fresh = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        try:
            fresh.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, CONNTRACK_EXP_DESTROY)
        except OSError:
            fresh.close()
            return
        stale, self._socket = self._socket, fresh
        if stale:
            stale.close()

    def close(self) -> None:
        """Leave."""
        if self._socket:
            self._socket.close()
