"""The fields of an entry (docs/json.md), and the one rule for each by which it is null.

A kernel record may hold a whole entry, its original tuple with the zone, or that tuple alone (`has_ct` 1, 2, 0).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ctobserve.clock import Clock
from ctobserve.documents.base import Labels
from ctobserve.event import TUPLE
from ctobserve.model import (
    GRE,
    IPS_CONFIRMED,
    IPS_OFFLOAD,
    L3,
    STATUS,
    TCP,
    TCP_STATES,
    UNKNOWN_BUCKET,
    UNKNOWN_CHAIN,
    WITH_ICMP,
    WITH_PORTS,
    Entries,
    Mask,
    NDArray,
    having,
    pick,
    protocol_name,
    somewhere,
)
from ctobserve.render.addresses import addresses
from ctobserve.render.columns import Bytes, Numbers, written
from ctobserve.render.fields import NUMBER, Field, Member, Object, Rule, Type, V, bits_of, foreign, names_of, strings

IPV4, ONE = np.uint8(socket.AF_INET), np.uint8(1)
HAS_PORTS, HAS_TYPE = (np.isin(np.arange(256), list(protocols)) for protocols in (WITH_PORTS, WITH_ICMP))  # by protocol number


class TupleView:
    """One direction's tuple of each row: source and destination side by side. `l3num` 0: there is none."""

    def __init__(self, addr: Bytes, port: Numbers, l3num: Numbers, protonum: Numbers) -> None:
        self.addr, self.port, self.l3num, self.protonum = addr, port, l3num, protonum

    def __len__(self) -> int:
        return len(self.port)

    def only(self, which: Mask) -> TupleView:
        """Those rows alone."""
        return TupleView(self.addr[which], self.port[which], self.l3num[which], self.protonum[which])

    @cached_property
    def six(self) -> Mask:
        """IPv6."""
        six: Mask = self.l3num != IPV4
        return six

    @cached_property
    def ports(self) -> Mask:
        """Of a protocol with ports."""
        ports: Mask = HAS_PORTS[self.protonum]
        return ports

    @cached_property
    def icmp(self) -> Mask:
        """ICMP, ICMPv6."""
        icmp: Mask = HAS_TYPE[self.protonum]
        return icmp

    @cached_property
    def gre(self) -> Mask:
        """GRE."""
        gre: Mask = self.protonum == GRE
        return gre


class PairView:
    """A number for each direction, original and reply; it may be the one that stands for unknown."""

    def __init__(self, numbers: Numbers, unknown: int | None = None) -> None:
        self.numbers, self.unknown = numbers, unknown

    def __len__(self) -> int:
        return len(self.numbers)

    def only(self, which: Mask) -> PairView:
        """Those rows alone."""
        return PairView(self.numbers[which], self.unknown)

    def known(self, direction: int) -> Mask:
        """Which rows have that number."""
        if self.unknown is None:
            return np.ones(len(self), np.bool_)
        known: Mask = self.numbers[:, direction] != self.numbers.dtype.type(self.unknown)
        return known


class EntryView:
    """Entries on their way out. `master`: the original tuple of each one's master, where it is known; `helpers`: its helper;
    `owners` of namespaces, by inode number, None where nobody asked.

    Without a clock nobody knows when they expire.
    """

    def __init__(
        self,
        entries: Entries,
        clock: Clock | None = None,
        master: TupleView | None = None,
        helpers: NDArray[np.bytes_] | None = None,
        owners: Labels | None = None,
    ) -> None:
        self.entries, self.clock, self.owners = entries, clock, owners
        self._master, self._helpers = master, helpers

    def __len__(self) -> int:
        return len(self.entries)

    def only(self, which: Mask) -> EntryView:
        """Those rows alone."""
        helpers = None if self._helpers is None else self._helpers[which]
        return EntryView(pick(self.entries, which), self.clock, self._master and self._master.only(which), helpers, self.owners)

    def tuples(self, direction: int) -> TupleView:
        """Of one direction."""
        places = slice(2 * direction, 2 * direction + 2)
        entries = self.entries
        return TupleView(entries["addr"][:, places], entries["port"][:, places], entries["l3num"], entries["protonum"])

    @cached_property
    def original(self) -> TupleView:
        """What the first packet had."""
        return self.tuples(0)

    @cached_property
    def reply(self) -> TupleView:
        """What an answer has."""
        return self.tuples(1)

    @cached_property
    def whole(self) -> Mask:
        """All is known that an nf_conn says."""
        whole: Mask = self.entries["has_ct"] == ONE
        return whole

    @property
    def master(self) -> TupleView:
        """Of what `expected` says."""
        return self.tuples(0) if self._master is None else self._master

    @property
    def helpers(self) -> NDArray[np.bytes_]:
        """Name of each one's helper, empty where it has none or nobody asked."""
        return np.zeros(len(self), "S1") if self._helpers is None else self._helpers

    @property
    def owned(self) -> Mask:
        """Who owns their namespace is known."""
        return np.isin(self.entries["netns"], np.array(list(self.owners or ()), np.uint32))

    @property
    def expected(self) -> Mask:
        """Their master is known."""
        return np.zeros(len(self), np.bool_) if self._master is None else self._master.l3num != 0

    @property
    def left_s(self) -> Numbers:
        """Seconds until they expire; of an unconfirmed one those it will be given."""
        entries, clock = self.entries, self.clock
        if clock is None:
            return np.zeros(len(self), np.int64)
        seconds = clock.remaining_s(entries["timeout"], entries["seen_ns"])
        fresh = ~having(entries["status"], IPS_CONFIRMED)
        if somewhere(fresh):
            seconds[fresh] = entries["timeout"][fresh] // clock.hz
        return seconds

    @property
    def expiring(self) -> Mask:
        """It is known when. The timeout of an offloaded one says nothing: the gc worker puts it off (nf_ct_offload_timeout)."""
        if self.clock is None:
            return np.zeros(len(self), np.bool_)
        return self.whole & ~having(self.entries["status"], IPS_OFFLOAD)


def masters_of(entries: Entries, masters: Entries) -> TupleView | None:
    """Of each entry the original tuple of its master, where that is among `masters`."""
    order = np.argsort(masters["ct"], kind="stable")
    ranked = np.append(masters["ct"][order], np.uint64(0))
    at = np.searchsorted(ranked[:-1], entries["master"])
    there = (ranked[at] == entries["master"]) & (entries["master"] != 0)
    if not there.any():
        return None
    found = EntryView(pick(masters, np.append(order, 0)[at])).original
    return TupleView(found.addr, found.port, np.where(there, found.l3num, 0), found.protonum)


def tuples_of(rows: Any) -> TupleView:
    """Of TUPLE rows."""
    assert rows.dtype == TUPLE
    return TupleView(rows["addr"], rows["port"], rows["l3num"], rows["protonum"])


def _addresses(place: int) -> Callable[[TupleView], tuple[Bytes, Mask]]:
    return lambda view: (view.addr[:, place], view.six)


# Values: 16 bytes each, and which of them are IPv6.
ADDRESS = Type(str, lambda of: addresses(*of), lambda of: strings(addresses(*of), len(of[0])))
NOT_ICMP: Rule[TupleView] = Rule("protocols other than ICMP", lambda view: ~view.icmp)
ICMP: Rule[TupleView] = Rule("ICMP and ICMPv6", lambda view: view.icmp)
WITH_KEYS: Rule[TupleView] = Rule("GRE", lambda view: view.gre)
PORTS: Rule[TupleView] = Rule("the protocol has ports", lambda view: view.ports)
SRC = Field("src", "source address", ADDRESS, _addresses(0))
DST = Field("dst", "destination address", ADDRESS, _addresses(1))
SPORT = Field("sport", "source port", NUMBER, lambda view: view.port[:, 0], PORTS, NOT_ICMP)
DPORT = Field("dport", "destination port", NUMBER, lambda view: view.port[:, 1], PORTS, NOT_ICMP)
TYPE = Field("type", "type", NUMBER, lambda view: view.port[:, 1] >> 8, has=ICMP)
CODE = Field("code", "code", NUMBER, lambda view: view.port[:, 1] & 255, has=ICMP)
ID = Field("id", "what tells queries apart", NUMBER, lambda view: view.port[:, 0], has=ICMP)
SRCKEY = Field("srckey", "key of the source", NUMBER, lambda view: view.port[:, 0], has=WITH_KEYS)
DSTKEY = Field("dstkey", "key of the destination", NUMBER, lambda view: view.port[:, 1], has=WITH_KEYS)
TUPLE_FIELDS: tuple[Member[TupleView], ...] = (SRC, DST, SPORT, DPORT, TYPE, CODE, ID, SRCKEY, DSTKEY)

PAIR = (("original", "of the original direction"), ("reply", "of the reply direction"))


def _of_direction(direction: int, known: bool) -> Field[PairView]:
    name, says = PAIR[direction]
    rule: Rule[PairView] = Rule("it is known", lambda view: view.known(direction))
    return Field(name, says, NUMBER, lambda view: view.numbers[:, direction], None if known else rule)


PAIR_FIELDS = (_of_direction(0, False), _of_direction(1, False))
COUNT_FIELDS = (_of_direction(0, True), _of_direction(1, True))


def _column(name: str) -> Callable[[EntryView], Numbers]:
    return lambda view: view.entries[name]


def protocol_fields(column: Callable[[str], Callable[[V], Numbers]]) -> tuple[Field[V], Field[V], Field[V]]:
    """Of what family and protocol something is; `column` gives the values of one of its columns."""
    families = names_of([L3.get(number, str(number)) for number in range(256)])
    protocols = names_of([protocol_name(number) for number in range(256)])
    return (
        Field("l3", "`ipv4`, `ipv6`; another family by its number", families, column("l3num")),
        Field("proto", "protocol as its tracker is called; `unknown`: it has none", protocols, column("protonum")),
        Field("protonum", "the protocol's number", NUMBER, column("protonum")),
    )


WHOLE: Rule[EntryView] = Rule("there is an entry", lambda view: view.whole)
NETNS = Field(
    "netns", "inode number of the network namespace", NUMBER, _column("netns"),
    Rule("the kernel told it", lambda view: view.entries["netns"].astype(np.bool_)),
)  # fmt: skip
FAMILY, PROTO, PROTONUM = protocol_fields(_column)
ZONE = Field(
    "zone", "conntrack zone", NUMBER, _column("zone"),
    Rule("more than the tuple is known", lambda view: view.entries["has_ct"].astype(np.bool_)),
)  # fmt: skip
ZONE_DIR = Field(
    "zone_dir", "whose tuple is in that zone: `original`, `reply`, `both`; the other one is in zone 0",
    names_of(("0", "original", "reply", "both")), _column("zone_dir"),
    Rule("there is an entry of which it was told", lambda view: view.whole & (view.entries["zone_dir"] != 0)),
)  # fmt: skip
MARK = Field("mark", "connmark", NUMBER, _column("mark"), WHOLE)
ORIGINAL: Object[EntryView] = Object("original", "tuple of the original direction", TUPLE_FIELDS, lambda view: view.original)
REPLY: Object[EntryView] = Object("reply", "tuple of the reply direction", TUPLE_FIELDS, lambda view: view.reply, WHOLE)
STATUS_BITS = Field("status", "the IPS_* bits that are set", bits_of(STATUS, " "), _column("status"), WHOLE)
TIMEOUT_S: Field[EntryView] = Field(
    "timeout_s", "s until it expires; of one that is not confirmed, what it will be given", NUMBER, lambda view: view.left_s,
    Rule("there is an entry that is not offloaded: the kernel keeps putting off the end of those", lambda view: view.expiring),
)  # fmt: skip
TCP_STATE = Field(
    "tcp_state", "state of the TCP tracker", names_of(TCP_STATES), _column("tcp_state"),
    Rule("there is an entry of TCP", lambda view: view.whole & (view.entries["protonum"] == TCP)),
)  # fmt: skip
BUCKET: Object[EntryView] = Object(
    "bucket",
    "number of the bucket in which its node is",
    PAIR_FIELDS,
    lambda view: PairView(view.entries["bucket"], UNKNOWN_BUCKET),
)
CHAIN: Object[EntryView] = Object(
    "chain", "nodes in that bucket, its own included", PAIR_FIELDS, lambda view: PairView(view.entries["chain"], UNKNOWN_CHAIN)
)
MASTER: Object[EntryView] = Object(
    "master", "original tuple of the entry whose helper expected this one", TUPLE_FIELDS, lambda view: view.master,
    Rule("it was expected, and that entry is known", lambda view: view.expected),
)  # fmt: skip
HELPER: Field[EntryView] = Field(
    "helper", "name of its helper", foreign(), lambda view: view.helpers,
    Rule("it has one: `list` asks nf_conntrack_netlink, where that is loaded", lambda view: view.helpers != b""),
)  # fmt: skip
# Values: inode numbers, and what owners are called by these.
OWNER_NAMES = Type(
    str,
    lambda of: written(of[0], lambda inum: of[1].get(inum, "")),
    lambda of: [of[1].get(inum, "") for inum in of[0].tolist()],
)
OWNER: Field[EntryView] = Field(
    "owner", "who owns its network namespace (docs/owner.md)", OWNER_NAMES,
    lambda view: (view.entries["netns"], view.owners or {}),
    Rule("that is known: `list`, `drops` and `convert` look", lambda view: view.owned),
)  # fmt: skip
ENTRY_FIELDS: tuple[Member[EntryView], ...] = (
    *(NETNS, FAMILY, PROTO, PROTONUM, ZONE, MARK, ORIGINAL, REPLY),
    *(STATUS_BITS, TIMEOUT_S, TCP_STATE, BUCKET, CHAIN, MASTER, ZONE_DIR),
)
# Of events nobody asks it.
LISTED_FIELDS: tuple[Member[EntryView], ...] = (*ENTRY_FIELDS, HELPER, OWNER)
