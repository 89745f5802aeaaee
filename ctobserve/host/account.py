"""What a namespace says beside its entries: how many it counts, what IP packets pass, which wait in queues, which are bridged."""

from __future__ import annotations

from typing import NamedTuple

from ctobserve.host import bridges, ip_packets, kernel, queues
from ctobserve.host.bridges import Bridge
from ctobserve.host.ip_packets import IpPackets
from ctobserve.host.netns import discover, inside_each
from ctobserve.host.queues import Queue


class Account(NamedTuple):
    """Of one namespace, at one instant; None is what could not be read.

    `counted` is nf_conntrack_count: entries in the hash, and those in no chain that packets hold. `bridges` are those whose
    packets pass through IP hooks.
    """

    counted: int | None = None
    packets: IpPackets | None = None
    queues: tuple[Queue, ...] = ()
    bridges: tuple[Bridge, ...] = ()


def read(only: int | None = None) -> dict[int, Account]:
    """Of all namespaces that can be entered, or `only` of one, by inode number."""
    return inside_each((space for inum, space in discover().items() if only in (None, inum)), lambda _: read_here())[0]


def read_here() -> Account:
    """Of the namespace of the calling thread; never raises."""
    return Account(kernel.sysctl("nf_conntrack_count"), ip_packets.read(), queues.read(), bridges.read())
