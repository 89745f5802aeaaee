"""Entries as CSV: the JSON contract's fields, flattened with dots; an empty cell is unknown or not of this protocol."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ctobserve.clock import Clock
from ctobserve.model import (
    GRE,
    L3,
    TCP_STATES,
    UNKNOWN_BUCKET,
    UNKNOWN_CHAIN,
    WITH_ICMP,
    WITH_PORTS,
    Entries,
    protocol_name,
    status_names,
)
from ctobserve.render import known
from ctobserve.render.addresses import addresses
from ctobserve.render.columns import Mask, Numbers, Part, joined, named, texts, where, written

BATCH = 1 << 16
SIDE = ("src", "dst", "sport", "dport", "type", "code", "id", "srckey", "dstkey")
PAIR = ("original", "reply")
HEADER = (
    *("netns", "l3", "proto", "protonum", "zone", "mark"),
    *(f"original.{name}" for name in SIDE),
    *(f"reply.{name}" for name in SIDE),
    *("status", "timeout_s", "tcp_state"),
    *(f"bucket.{side}" for side in PAIR),
    *(f"chain.{side}" for side in PAIR),
    *(f"master.{name}" for name in SIDE),
)


def csv_lines(entries: Entries, masters: Entries, clock: Clock) -> Iterator[str]:
    """The heading, then lines, many at a time. `masters`: those of these entries' masters that are in the table."""
    yield ",".join(HEADER)
    for start in range(0, len(entries), BATCH):
        part = entries[start : start + BATCH]
        yield joined([*_columns(part, clock), *_of_masters(part, masters)], ",")


def _columns(entries: Entries, clock: Clock) -> list[Part]:
    whole = known.whole(entries)
    seconds, timed = known.left_s(entries, clock)
    return [
        where(entries["netns"] != 0, texts(entries["netns"])),
        named(entries["l3num"], [L3.get(number, str(number)) for number in range(256)]),
        named(entries["protonum"], [protocol_name(number) for number in range(256)]),
        texts(entries["protonum"]),
        where(known.zoned(entries), texts(entries["zone"])),
        where(whole, texts(entries["mark"])),
        *_side(entries, 0),
        *(where(whole, part) for part in _side(entries, 1)),
        where(whole, written(entries["status"], lambda status: " ".join(status_names(status)))),
        where(timed, texts(seconds)),
        where(known.tcp(entries), named(entries["tcp_state"], TCP_STATES)),
        *(_unless(entries["bucket"][:, at], UNKNOWN_BUCKET) for at in (0, 1)),
        *(_unless(entries["chain"][:, at], UNKNOWN_CHAIN) for at in (0, 1)),
    ]


def _side(entries: Entries, direction: int) -> list[Part]:
    one, other = entries["port"][:, 2 * direction], entries["port"][:, 2 * direction + 1]
    ports = np.isin(entries["protonum"], list(WITH_PORTS))
    icmp = np.isin(entries["protonum"], list(WITH_ICMP))
    gre = entries["protonum"] == GRE
    return [
        *(addresses(entries, 2 * direction + at) for at in (0, 1)),
        *(_some(ports, value) for value in (one, other)),
        *(_some(icmp, value) for value in (other >> 8, other & 255, one)),
        *(_some(gre, value) for value in (one, other)),
    ]


def _of_masters(entries: Entries, masters: Entries) -> list[Part]:
    at, there = known.masters_of(entries, masters)
    return [where(there, part) for part in _side(masters[at], 0)] if there.any() else [""] * len(SIDE)


def _some(mask: Mask, values: Numbers) -> Part:
    return where(mask, texts(values)) if mask.any() else ""


def _unless(values: Numbers, unknown: int) -> Part:
    return where(values != unknown, texts(values))
