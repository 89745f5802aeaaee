"""The addresses of this thread's network namespace and the networks that its devices are in: what `ip address` lists.

A dump by RTM_GETADDR (rtnetlink(7); inet_dump_ifaddr, inet6_dump_ifaddr), which loads no module.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import NamedTuple

from ctobserve.host.dump import RECEIVED, REQUEST_DUMP, ends, headers

NETLINK_ROUTE, RTM_NEWADDR, RTM_GETADDR = 0, 20, 22
IFA_ADDRESS, IFA_LOCAL = 1, 2
REQUEST = struct.Struct("=IHHIIBBBBi")  # struct nlmsghdr and struct ifaddrmsg
NLMSGHDR, IFADDRMSG = 16, struct.Struct("=BBBBi")
MOST = 20_000  # a load balancer may have an address for each of its services
Interface = IPv4Interface | IPv6Interface


class Address(NamedTuple):
    """One address of ours with the network that it is in, and its device by the name that the kernel has for it."""

    device: str
    interface: Interface


def read() -> tuple[Address, ...] | None:
    """All of them; None where the kernel does not tell, or there are more than MOST."""
    found: list[Address] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE) as asked:
            asked.send(REQUEST.pack(REQUEST.size, RTM_GETADDR, REQUEST_DUMP, 0, 0, socket.AF_UNSPEC, 0, 0, 0, 0))
            names = dict(socket.if_nameindex())
            done = False
            while not done and len(found) <= MOST:
                data = asked.recv(RECEIVED)
                done = ends(data)
                found += (Address(names.get(index, ""), interface) for index, interface in _addresses(data))
    except OSError:
        return None
    return tuple(found) if len(found) <= MOST else None


def _addresses(data: bytes) -> Iterator[tuple[int, Interface]]:
    """Index of its device, and the address."""
    for at, length, kind in headers(data):
        if kind != RTM_NEWADDR:
            continue
        family, bits, _, _, index = IFADDRMSG.unpack_from(data, at + NLMSGHDR)
        if family not in (socket.AF_INET, socket.AF_INET6):
            continue
        values = dict(_attributes(data[at + NLMSGHDR + IFADDRMSG.size : at + length]))
        # Of a tunnel IFA_ADDRESS is the peer's.
        packed = values.get(IFA_LOCAL) or values.get(IFA_ADDRESS)
        if packed:
            yield index, ip_interface((packed, bits))


def _attributes(payload: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(payload):
        length, kind = struct.unpack_from("=HH", payload, at)
        yield kind, payload[at + 4 : at + length]
        at += max(length + 3 & ~3, 4)
