"""Tuples in words: src:port > dst:port."""

from __future__ import annotations

from functools import partial

import numpy as np

from ctobserve.model import GRE, ICMP, ICMPV6, Entries, Mask, somewhere
from ctobserve.render.columns import Numbers, Part, same
from ctobserve.render.entry_fields import (
    CODE,
    DPORT,
    DST,
    DSTKEY,
    HAS_PORTS,
    HAS_TYPE,
    ID,
    SPORT,
    SRC,
    SRCKEY,
    TYPE,
    EntryView,
    TupleView,
)
from ctobserve.render.fields import Field, some

# What answers an ICMP type: invmap of nf_conntrack_proto_icmp.c and nf_conntrack_proto_icmpv6.c, and of both back again.
ANSWERS = {ICMP: ((8, 0), (13, 14), (15, 16), (17, 18)), ICMPV6: ((128, 129), (139, 140))}

WAYS: tuple[tuple[str | Field[TupleView], ...], ...] = (
    (SRC, ":", SPORT, " > ", DST, ":", DPORT),
    ("[", SRC, "]:", SPORT, " > [", DST, "]:", DPORT),
    (SRC, " > ", DST, " type ", TYPE, " code ", CODE, " id ", ID),
    (SRC, " > ", DST, " srckey ", SRCKEY, " dstkey ", DSTKEY),
    (SRC, " > ", DST),
)
# Which of these, by IPv6 or not, and protocol number.
WAY = np.full((2, 256), 4, np.uint8)
WAY[:, HAS_PORTS] = [[0], [1]]
WAY[:, HAS_TYPE], WAY[:, GRE] = 2, 3


def sides(tuples: TupleView) -> list[Part]:
    """Parts of each row, one for each way to write a tuple; each row has one."""
    if same(tuples.protonum) and same(tuples.six):
        return _written(WAYS[WAY[int(tuples.six[0]), tuples.protonum[0]]], tuples)
    ways = WAY[tuples.six.view(np.uint8), tuples.protonum]
    return [part for way, words in enumerate(WAYS) for part in some(ways == way, tuples, partial(_written, words))]


def _written(words: tuple[str | Field[TupleView], ...], tuples: TupleView) -> list[Part]:
    return [word if isinstance(word, str) else word.texts(tuples) for word in words]


def replies(view: EntryView, before: str) -> list[Part]:
    """The reply tuple, where it is known and not the mirror of the original: NAT, or netlink, made it another."""
    return some(view.whole & ~_mirrored(view.entries), view.reply, lambda tuples: [before, *sides(tuples)])


def _mirrored(entries: Entries) -> Mask:
    # In our own byte order, and eight bytes at once: it is only asked which are equal.
    halves, port = entries["addr"].view(np.uint64), entries["port"].view(np.uint16)
    mirrored: Mask = port[:, 0] == port[:, 3]
    mirrored &= port[:, 1] == port[:, 2]
    icmp = HAS_TYPE[entries["protonum"]]
    if somewhere(icmp):
        mirrored[icmp] = _answered(entries["protonum"][icmp], entries["port"][icmp])
    for half in (0, 1):
        mirrored &= halves[:, 0, half] == halves[:, 3, half]
        mirrored &= halves[:, 1, half] == halves[:, 2, half]
    return mirrored


def _answered(protonum: Numbers, port: Numbers) -> Mask:
    """ICMP: the same id and code, and the type that answers."""
    kinds, codes = port[:, 1::2] >> 8, port[:, 1::2] & 255
    wanted = kinds[:, 0].copy()
    for number, pairs in ANSWERS.items():
        for one, other in (*pairs, *(pair[::-1] for pair in pairs)):
            wanted[(protonum == number) & (kinds[:, 0] == one)] = other
    same: Mask = (port[:, 0] == port[:, 2]) & (kinds[:, 1] == wanted) & (codes[:, 0] == codes[:, 1])
    return same
