"""Tuples in words: src:port > dst:port, from columns and from rows of the JSON contract alike."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ctobserve.model import GRE, ICMP, ICMPV6, WITH_ICMP, WITH_PORTS, Entries
from ctobserve.render import known
from ctobserve.render.addresses import addresses
from ctobserve.render.columns import Mask, Numbers, Part, Texts, glued, placed, texts

# What answers an ICMP type: invmap of nf_conntrack_proto_icmp.c and nf_conntrack_proto_icmpv6.c, and of both back again.
ANSWERS = {ICMP: ((8, 0), (13, 14), (15, 16), (17, 18)), ICMPV6: ((128, 129), (139, 140))}
HAS_PORTS, HAS_TYPE = (np.isin(np.arange(256), list(protocols)) for protocols in (WITH_PORTS, WITH_ICMP))  # by protocol number
Way = Callable[..., tuple[Part, ...]]


def side(tuple_: Mapping[str, Any]) -> str:
    """One direction's tuple of the JSON contract."""
    src, dst = tuple_["src"], tuple_["dst"]
    names = [name for name in ("type", "code", "id", "srckey", "dstkey") if name in tuple_]
    if names or tuple_["sport"] is None:
        return " ".join([src, ">", dst, *(f"{name} {tuple_[name]}" for name in names)])
    src, dst = (f"[{host}]" if ":" in host else host for host in (src, dst))
    return f"{src}:{tuple_['sport']} > {dst}:{tuple_['dport']}"


def sides(entries: Entries, direction: int) -> list[Texts]:
    """One direction of each as `side` writes it: a column for each way to write it, of which each row has one."""
    src, dst = (addresses(entries, 2 * direction + at) for at in (0, 1))
    one, other = (entries["port"][:, 2 * direction + at] for at in (0, 1))
    ports, icmp = HAS_PORTS[entries["protonum"]], HAS_TYPE[entries["protonum"]]
    six, gre = entries["l3num"] != socket.AF_INET, entries["protonum"] == GRE
    ways: tuple[tuple[Mask, Way], ...] = (
        (ports & ~six, lambda src, dst, sport, dport: (src, ":", texts(sport), " > ", dst, ":", texts(dport))),
        (ports & six, lambda src, dst, sport, dport: ("[", src, "]:", texts(sport), " > [", dst, "]:", texts(dport))),
        (icmp, lambda src, dst, id_, kind: (src, " > ", dst, *_icmp(id_, kind))),
        (gre, lambda src, dst, one, other: (src, " > ", dst, texts(one, " srckey %d"), texts(other, " dstkey %d"))),
        (~(ports | icmp | gre), lambda src, dst, *_: (src, " > ", dst)),
    )
    return [
        placed(mask, glued(*write(*(values if mask.all() else values[mask] for values in (src, dst, one, other)))))
        for mask, write in ways
        if mask.any()
    ]


def _icmp(id_: Numbers, kind: Numbers) -> tuple[Texts, ...]:
    return texts(kind >> 8, " type %d"), texts(kind & 255, " code %d"), texts(id_, " id %d")


def replies(entries: Entries, before: str) -> list[Texts]:
    """The reply tuple, where it is known and not the mirror of the original: NAT, or netlink, made it another."""
    shown = known.whole(entries) & ~_mirrored(entries)
    return [placed(shown, glued(before, *sides(entries[shown], 1)))] if shown.any() else []


def _mirrored(entries: Entries) -> Mask:
    halves, port = entries["addr"].view("<u8"), entries["port"]
    same: Mask = (port[:, 0] == port[:, 3]) & (port[:, 1] == port[:, 2])
    icmp = HAS_TYPE[entries["protonum"]]
    if icmp.any():
        same[icmp] = _answered(entries["protonum"][icmp], port[icmp])
    for half in (0, 1):
        same &= (halves[:, 0, half] == halves[:, 3, half]) & (halves[:, 1, half] == halves[:, 2, half])
    return same


def _answered(protonum: Numbers, port: Numbers) -> Mask:
    """ICMP: the same id and code, and the type that answers."""
    kinds, codes = port[:, 1::2] >> 8, port[:, 1::2] & 255
    wanted = kinds[:, 0].copy()
    for number, pairs in ANSWERS.items():
        for one, other in (*pairs, *(pair[::-1] for pair in pairs)):
            wanted[(protonum == number) & (kinds[:, 0] == one)] = other
    same: Mask = (port[:, 0] == port[:, 2]) & (kinds[:, 1] == wanted) & (codes[:, 0] == codes[:, 1])
    return same
