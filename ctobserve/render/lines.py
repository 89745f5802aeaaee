"""Entries and events as lines for people: under 100 columns, same facts as JSON, `-` for unknown. Built column by column."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
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
from ctobserve.render.columns import Addresses, Mask, Numbers, Texts
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
    """A heading, then one line per entry; the reply tuple only where it is not the mirror of the original."""
    width = max([5, *(len(_label(inum, labels)) for inum in np.unique(entries["netns"]).tolist())])
    yield f"{'NETNS':<{width}} {'PROTO':<6} {'LEFT':>6} {'BUCKETS':>13} {'CHAINS':>7}  TUPLE, STATE"
    addresses = Addresses()
    for start in range(0, len(entries), BATCH):
        part = entries[start : start + BATCH]
        columns = zip(
            _netns(part, labels).tolist(),
            _protocol(part).tolist(),
            _left(part, clock),
            _pairs(part["bucket"], UNKNOWN_BUCKET),
            _pairs(part["chain"], UNKNOWN_CHAIN),
            _tuples(part, 0, addresses).tolist(),
            _nat(part, addresses).tolist(),
            _flags(part).tolist(),
            strict=True,
        )
        for netns, proto, left, buckets, chains, original, reply, flags in columns:
            yield f"{netns:<{width}} {proto:<6} {left:>6} {buckets:>13} {chains:>7}  {original}{reply} {flags}"


def described(entries: Entries, labels: Labels) -> list[str]:
    """Each entry in short: namespace, protocol, tuple, state."""
    addresses = Addresses()
    columns = (_netns(entries, labels), _protocol(entries), _tuples(entries, 0, addresses))
    tails = zip(_nat(entries, addresses).tolist(), _flags(entries).tolist(), strict=True)
    heads = zip(*(column.tolist() for column in columns), strict=True)
    return [" ".join(head) + f"{reply} {flags}" for head, (reply, flags) in zip(heads, tails, strict=True)]


class EventLines:
    """One line per event: time of day, what, where, which tuple, and what else is known of it. Remembers addresses it wrote."""

    def __init__(self) -> None:
        self._addresses = Addresses()

    def of(self, told: Told, clock: Clock, labels: Labels) -> list[str]:
        """In order, without line ends."""
        entries = told.entries
        columns = zip(
            _times(entries["seen_ns"], clock).tolist(),
            told.facts,
            _netns(entries, labels).tolist(),
            _protocol(entries).tolist(),
            _tuples(entries, 0, self._addresses).tolist(),
            _nat(entries, self._addresses).tolist(),
            _flags(entries).tolist(),
            _known(entries["bucket"], UNKNOWN_BUCKET, " bucket="),
            _known(entries["chain"], UNKNOWN_CHAIN, " chain="),
            strict=True,
        )
        lines = []
        for ts, facts, netns, proto, original, reply, flags, bucket, chain in columns:
            if facts is INSERTED:
                lines.append(f"{ts} insert  {netns:<8} {proto:<5} {original}{reply} {flags}{bucket}{chain}")
            else:
                state = f" {flags}" if flags and facts["event"] != "drop" else ""
                middle, end = f"{_middle(facts)}{state}", _end(facts)
                lines.append(f"{ts} {facts['event']:<7} {netns:<8} {proto:<5} {original}{reply}{middle}{bucket}{chain}{end}")
        return lines


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


def _tuples(entries: Entries, direction: int, addresses: Addresses) -> Texts:
    """One direction as `side` writes it."""
    src, dst = (addresses.column(entries, 2 * direction + at) for at in (0, 1))
    one, other = (entries["port"][:, 2 * direction + at] for at in (0, 1))
    ports, icmp = (np.isin(entries["protonum"], list(protocols)) for protocols in (WITH_PORTS, WITH_ICMP))
    six = entries["l3num"] == socket.AF_INET6
    column = np.empty(len(entries), np.object_)
    for mask, form, values in (
        (ports & ~six, "%s:%d > %s:%d", (src, one, dst, other)),
        (ports & six, "[%s]:%d > [%s]:%d", (src, one, dst, other)),
        (icmp, "%s > %s type %d id %d", (src, dst, other >> 8, one)),
        (~(ports | icmp), "%s > %s", (src, dst)),
    ):
        if mask.any():
            column[mask] = [form % row for row in zip(*(value[mask].tolist() for value in values), strict=True)]
    return column


def _nat(entries: Entries, addresses: Addresses) -> Texts:
    """The reply tuple, where NAT made it another than the reverse of the original."""
    column = np.full(len(entries), "", np.object_)
    changed: Mask = (entries["has_ct"] == 1) & (entries["status"] & (IPS_SRC_NAT | IPS_DST_NAT) != 0)
    if changed.any():
        addr, port = entries["addr"], entries["port"]
        moved = (addr[:, 0] != addr[:, 3]).any(1) | (addr[:, 1] != addr[:, 2]).any(1)
        other = (port[:, 0] != port[:, 3]) | (port[:, 1] != port[:, 2])
        changed &= moved | other & np.isin(entries["protonum"], list(WITH_PORTS))
        column[changed] = [f" reply {text}" for text in _tuples(entries[changed], 1, addresses).tolist()]
    return column


def _flags(entries: Entries) -> Texts:
    """TCP state and the status an operator asks for first; empty where only the tuple is known."""
    whole = entries["has_ct"] == 1
    both = whole.astype(np.uint64) << 40 | entries["protonum"].astype(np.uint64) << 32
    return _written(both | entries["tcp_state"].astype(np.uint64) << 24 | entries["status"] & SHOWN, _flag_words)


def _flag_words(key: int) -> str:
    status = key & 0xFFFFFF
    if not key >> 40:
        return ""
    words = [tcp_state_name(key >> 32 & 255, key >> 24 & 255) or ""]
    words.append("" if status & IPS_SEEN_REPLY else "UNREPLIED")
    words.append("ASSURED" if status & IPS_ASSURED else "")
    words += [word for bit, word in WORDS if status & bit]
    return ",".join(filter(None, words)) or "-"


def _written(values: Numbers, write: Any) -> Texts:
    """Each value as text, each distinct one written once."""
    first = values[:1]
    if (values == first).all():
        return np.full(len(values), write(int(first[0])) if len(first) else "", np.object_)
    kinds, of = np.unique(values, return_inverse=True)
    column: Texts = np.array([write(kind) for kind in kinds.tolist()], np.object_)[of]
    return column


def _netns(entries: Entries, labels: Labels) -> Texts:
    return _written(entries["netns"], lambda inum: _label(inum, labels))


def _label(inum: int, labels: Labels) -> str:
    return labels.get(inum, str(inum)) if inum else "-"


def _protocol(entries: Entries) -> Texts:
    return _written(entries["protonum"], protocol_name)


def _times(seen_ns: Numbers, clock: Clock) -> Texts:
    """Time of day, UTC, to the millisecond."""
    wall_ms = (seen_ns.astype(np.int64) + (clock.wall_ns - clock.monotonic_ns)) // 1_000_000
    return _written(wall_ms, lambda ms: clock.iso(ms * 1_000_000 - clock.wall_ns + clock.monotonic_ns)[11:23])


def _left(entries: Entries, clock: Clock) -> list[str]:
    """Seconds until they expire; of an unconfirmed one those it will be given."""
    status = entries["status"]
    seconds = np.where(
        status & IPS_CONFIRMED != 0, clock.remaining_s(entries["timeout"], entries["seen_ns"]), entries["timeout"] // clock.hz
    )
    known = (entries["has_ct"] == 1) & (status & IPS_OFFLOAD == 0)
    return [str(left) if sure else "-" for left, sure in zip(seconds.tolist(), known.tolist(), strict=True)]


def _pairs(values: Numbers, unknown: int) -> list[str]:
    rows: Iterable[list[Any]] = values.tolist()
    if (values == unknown).any():
        rows = [["-" if value == unknown else value for value in row] for row in rows]
    return [f"{original}/{reply}" for original, reply in rows]


def _known(values: Numbers, unknown: int, prefix: str) -> list[str]:
    """Pairs of which at least one side is known, others nothing."""
    blank = f"{prefix}-/-"
    texts = [prefix + pair for pair in _pairs(values, unknown)]
    return ["" if text == blank else text for text in texts] if (values == unknown).any() else texts
