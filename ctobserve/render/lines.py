"""Entries and events as lines for people: under 100 columns, same facts as JSON, `-` for unknown. Built column by column."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ctobserve.clock import Clock
from ctobserve.model import (
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_DST_NAT,
    IPS_NAT_CLASH,
    IPS_OFFLOAD,
    IPS_SEEN_REPLY,
    IPS_SRC_NAT,
    UNKNOWN_BUCKET,
    UNKNOWN_CHAIN,
    WITH_ICMP,
    WITH_PORTS,
    Entries,
    protocol_name,
    tcp_state_name,
)
from ctobserve.render.columns import (
    Addresses,
    Mask,
    Numbers,
    Part,
    Texts,
    aligned,
    column,
    glued,
    joined,
    placed,
    texts,
    where,
    written,
)
from ctobserve.render.happenings import INSERTED, Told
from ctobserve.render.rows import Row

BATCH = 1 << 16
WORDS = (
    *((IPS_SRC_NAT, "src_nat"), (IPS_DST_NAT, "dst_nat")),
    *((IPS_NAT_CLASH, "nat_clash"), (IPS_OFFLOAD, "offload")),
)
SHOWN = IPS_SEEN_REPLY | IPS_ASSURED | IPS_SRC_NAT | IPS_DST_NAT | IPS_NAT_CLASH | IPS_OFFLOAD
Labels = Mapping[int, str]


def entry_lines(entries: Entries, clock: Clock, labels: Labels) -> Iterator[str]:
    """A heading, then lines, many at a time; the reply tuple only where it is not the mirror of the original."""
    width = max([5, *(len(_label(inum, labels)) for inum in np.unique(entries["netns"]).tolist())])
    yield f"{'NETNS':<{width}} {'PROTO':<6} {'LEFT':>6} {'BUCKETS':>13} {'CHAINS':>7}  TUPLE, STATE"
    addresses = Addresses()
    for start in range(0, len(entries), BATCH):
        part = entries[start : start + BATCH]
        columns = (
            aligned(_netns(part, labels), width),
            aligned(_protocol(part), 6),
            aligned(_left(part, clock), 6, right=True),
            aligned(_pair(part["bucket"], UNKNOWN_BUCKET), 13, right=True),
            aligned(_pair(part["chain"], UNKNOWN_CHAIN), 7, right=True),
            glued(" ", *_tuples(part, 0, addresses), *_nat(part, addresses)),
            _flags(part),
        )
        yield joined(columns, " ")


def described(entries: Entries, labels: Labels) -> list[str]:
    """Each entry in short: namespace, protocol, tuple, state."""
    if not len(entries):
        return []
    addresses = Addresses()
    where_from = glued(*_tuples(entries, 0, addresses), *_nat(entries, addresses))
    return joined((_netns(entries, labels), _protocol(entries), where_from, _flags(entries)), " ").split("\n")


class EventLines:
    """One line per event: time of day, what, where, which tuple, and what else is known of it. Remembers addresses it wrote."""

    def __init__(self) -> None:
        self._addresses = Addresses()

    def of(self, told: Told, clock: Clock, labels: Labels) -> str:
        """All in order, the last without its line end; there must be one."""
        entries, facts = told.entries, told.facts
        plain = all(fact is INSERTED for fact in facts)
        stated = entries["has_ct"] == 1
        if not plain:
            stated &= np.array([fact["event"] != "drop" for fact in facts])
        columns: list[Part] = [
            _times(entries["seen_ns"], clock),
            " insert  " if plain else column([f" {fact['event']:<7} " for fact in facts]),
            aligned(_netns(entries, labels), 8),
            " ",
            aligned(_protocol(entries), 5),
            " ",
            *_tuples(entries, 0, self._addresses),
            *_nat(entries, self._addresses),
            "" if plain else column([_middle(fact) for fact in facts]),
            where(stated, glued(" ", _flags(entries))),
            *_known(entries["bucket"], UNKNOWN_BUCKET, " bucket="),
            *_known(entries["chain"], UNKNOWN_CHAIN, " chain="),
            "" if plain else column([_end(fact) for fact in facts]),
        ]
        return joined(columns)


def _middle(facts: Row) -> str:
    text = "".join(f" {name}={facts[name]}" for name in ("reason", "verdict") if facts.get(name))
    return text + (" changes=" + ",".join(facts["changes"]) if facts.get("changes") else "")


def _end(facts: Row) -> str:
    words = [""]
    if facts.get("age_s") is not None:
        words.append(f"age={facts['age_s']:.1f}s")
    words += [f"{name}={facts[name]['original']}/{facts[name]['reply']}" for name in ("packets", "bytes") if facts.get(name)]
    if facts.get("process"):
        words.append(f"by {facts['process']['comm']}[{facts['process']['pid']}]")
    if facts.get("interface"):
        words.append(f"on {facts['interface']}")
    words += [f"{word} {side(facts[name])}" for name, word in (("made_room_for", "for"), ("master", "master")) if facts.get(name)]
    words += [f"({facts[name]})" for name in ("text", "detail") if facts.get(name)]
    if facts.get("looked_at"):
        looked = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in facts["looked_at"].items())
        words.append(f"(looked at: {looked})")
    return " ".join(words)


def side(tuple_: Mapping[str, Any]) -> str:
    """One direction's tuple of the JSON contract as src:port > dst:port."""
    src, dst = tuple_["src"], tuple_["dst"]
    if "type" in tuple_:
        return f"{src} > {dst} type {tuple_['type']} id {tuple_['id']}"
    if tuple_["sport"] is None:
        return f"{src} > {dst}"
    src, dst = (f"[{host}]" if ":" in host else host for host in (src, dst))
    return f"{src}:{tuple_['sport']} > {dst}:{tuple_['dport']}"


def _tuples(entries: Entries, direction: int, addresses: Addresses) -> list[Texts]:
    """One direction as `side` writes it: a column for each way to write it, of which each row has one."""
    src, dst = (addresses.column(entries, 2 * direction + at) for at in (0, 1))
    one, other = (texts(entries["port"][:, 2 * direction + at]) for at in (0, 1))
    ports, icmp = (np.isin(entries["protonum"], list(protocols)) for protocols in (WITH_PORTS, WITH_ICMP))
    six = entries["l3num"] == socket.AF_INET6
    ways: tuple[tuple[Mask, tuple[Part, ...]], ...] = (
        (ports & ~six, (src, ":", one, " > ", dst, ":", other)),
        (ports & six, ("[", src, "]:", one, " > [", dst, "]:", other)),
        (icmp, (src, " > ", dst, " type ", texts(entries["port"][:, 2 * direction + 1] >> 8), " id ", one)),
        (~(ports | icmp), (src, " > ", dst)),
    )
    return [
        placed(mask, glued(*(part if isinstance(part, str) else part[mask] for part in parts)))
        for mask, parts in ways
        if mask.any()
    ]


def _nat(entries: Entries, addresses: Addresses) -> list[Texts]:
    """The reply tuple, where NAT made it another than the reverse of the original."""
    changed: Mask = (entries["has_ct"] == 1) & (entries["status"] & (IPS_SRC_NAT | IPS_DST_NAT) != 0)
    if changed.any():
        addr, port = entries["addr"], entries["port"]
        moved = (addr[:, 0] != addr[:, 3]).any(1) | (addr[:, 1] != addr[:, 2]).any(1)
        other = (port[:, 0] != port[:, 3]) | (port[:, 1] != port[:, 2])
        changed &= moved | other & np.isin(entries["protonum"], list(WITH_PORTS))
    if not changed.any():
        return []
    return [placed(changed, glued(" reply ", *_tuples(entries[changed], 1, addresses)))]


def _flags(entries: Entries) -> Texts:
    """TCP state and the status an operator asks for first; empty where only the tuple is known."""
    whole = entries["has_ct"] == 1
    both = whole.astype(np.uint64) << 40 | entries["protonum"].astype(np.uint64) << 32
    return written(both | entries["tcp_state"].astype(np.uint64) << 24 | entries["status"] & SHOWN, _flag_words)


def _flag_words(key: int) -> str:
    status = key & 0xFFFFFF
    if not key >> 40:
        return ""
    words = [tcp_state_name(key >> 32 & 255, key >> 24 & 255) or ""]
    words.append("" if status & IPS_SEEN_REPLY else "UNREPLIED")
    words.append("ASSURED" if status & IPS_ASSURED else "")
    words += [word for bit, word in WORDS if status & bit]
    return ",".join(filter(None, words)) or "-"


def _netns(entries: Entries, labels: Labels) -> Texts:
    return written(entries["netns"], lambda inum: _label(inum, labels))


def _label(inum: int, labels: Labels) -> str:
    return labels.get(inum, str(inum)) if inum else "-"


def _protocol(entries: Entries) -> Texts:
    return written(entries["protonum"], protocol_name)


def _times(seen_ns: Numbers, clock: Clock) -> Texts:
    """Time of day, UTC, to the millisecond."""
    wall_ms = (seen_ns.astype(np.int64) + (clock.wall_ns - clock.monotonic_ns)) // 1_000_000
    return written(wall_ms, lambda ms: clock.iso(ms * 1_000_000 - clock.wall_ns + clock.monotonic_ns)[11:23])


def _left(entries: Entries, clock: Clock) -> Texts:
    """Seconds until they expire; of an unconfirmed one those it will be given."""
    status = entries["status"]
    seconds = np.where(
        status & IPS_CONFIRMED != 0, clock.remaining_s(entries["timeout"], entries["seen_ns"]), entries["timeout"] // clock.hz
    )
    return _unless((entries["has_ct"] == 1) & (status & IPS_OFFLOAD == 0), seconds)


def _unless(known: Mask, values: Numbers) -> Texts:
    return texts(values) if known.all() else glued(where(known, texts(np.where(known, values, 0))), where(~known, "-"))


def _pair(values: Numbers, unknown: int) -> Texts:
    """Original and reply."""
    original, reply = (_unless(values[:, at] != unknown, values[:, at]) for at in (0, 1))
    return glued(original, "/", reply)


def _known(values: Numbers, unknown: int, name: str) -> list[Part]:
    """Pairs of which at least one side is known, others nothing."""
    known = (values != unknown).any(1)
    return [where(known, glued(name, _pair(values, unknown)))] if known.any() else []
