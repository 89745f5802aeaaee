"""A namespace in which every datagram is a new entry, and a sender that costs little and always the same."""

from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path

import numpy as np

from ctobserve_lab.world import Space

BATCH = 1024
PORTS = 50_000
FIRST_PORT = 1024
SOCKADDR = np.dtype([("family", "<u2"), ("port", ">u2"), ("address", ">u4"), ("zero", "<u8")])
# struct mmsghdr: struct msghdr (56 bytes) and the number of bytes sent
MMSGHDR = np.dtype(
    [
        ("name", "<u8"),
        ("namelen", "<u8"),
        ("iov", "<u8"),
        ("iovlen", "<u8"),
        ("control", "<u8", 2),
        ("flags", "<u8"),
        ("sent", "<u8"),
    ]
)
SYSCTL = Path("/proc/sys/net/netfilter")
LEAST_BUCKETS = 65_536  # what the kernel takes by itself with a gigabyte of memory or more
_libc = ctypes.CDLL(None, use_errno=True)


def make_room(entries: int) -> None:
    """As many buckets as entries, as the kernel itself sizes a table that may be full; only in a guest, for it is everybody's."""
    buckets = max(LEAST_BUCKETS, 1 << (entries - 1).bit_length())
    SYSCTL.joinpath("nf_conntrack_buckets").write_text(str(buckets))
    SYSCTL.joinpath("nf_conntrack_max").write_text(str(2 * buckets))


class Flood:
    """Datagrams to a device that throws them away: no reply, no ICMP error, no receiver is in the numbers."""

    def __init__(self, space: Space, entries: int) -> None:
        """Addresses and headers of all datagrams are made here, so that sending is one system call per BATCH of them."""
        space.run("ip", "link", "add", "sink", "type", "dummy")
        space.run("ip", "addr", "add", "10.77.0.1/16", "dev", "sink")
        space.run("ip", "link", "set", "sink", "up")
        self._socket = space.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._socket.bind(("10.77.0.1", 1000))
        space.sockets.append(self._socket)
        self.entries = entries
        number = np.arange(entries, dtype=np.uint32)
        self._names = np.zeros(entries, SOCKADDR)
        self._names["family"] = socket.AF_INET
        self._names["port"] = FIRST_PORT + number % PORTS
        self._names["address"] = int.from_bytes(socket.inet_aton("10.77.1.1"), "big") + number // PORTS
        self._payload = np.full(1, ord("x"), np.uint8)
        self._iov = np.array([self._payload.ctypes.data, 1], np.uint64)
        self._headers = np.zeros(entries, MMSGHDR)
        self._headers["name"] = self._names.ctypes.data + np.arange(entries, dtype=np.uint64) * SOCKADDR.itemsize
        self._headers["namelen"] = SOCKADDR.itemsize
        self._headers["iov"], self._headers["iovlen"] = self._iov.ctypes.data, 1

    def send(self, first: int = 0, count: int | None = None) -> None:
        """All of them, or so many from this one on."""
        at, end = first, self.entries if count is None else first + count
        while at < end:
            headers = self._headers.ctypes.data + at * MMSGHDR.itemsize
            sent = _libc.sendmmsg(self._socket.fileno(), ctypes.c_void_p(headers), min(BATCH, end - at), 0)
            if sent <= 0:
                raise OSError(ctypes.get_errno(), f"sendmmsg: {os.strerror(ctypes.get_errno())}")
            at += sent
