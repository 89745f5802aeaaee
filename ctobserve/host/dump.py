"""Entries of our network namespace as `conntrack -L` gets them: a netlink dump, decoded in arrays for a million of them.

pyroute2 decodes the same in a hundred times the instructions and memory. The kernel's side is ctnetlink_dump_table and
ctnetlink_fill_info (net/netfilter/nf_conntrack_netlink.c), attributes are those of include/uapi/linux/netfilter/
nfnetlink_conntrack.h. Messages of which all attribute headers are the same have every value at the same place.

A request can make the kernel load nf_conntrack_netlink, which an observer must not cause: netlink.available() first.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ctobserve.model import NDArray

NETLINK_NETFILTER = 12
CONNTRACK_GET = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
ERROR, DONE = 2, 3
HEADERS = 20  # struct nlmsghdr and struct nfgenmsg, whose first byte is the address family
FAMILY_AT = 16
TYPE_MASK, NESTED = 0x3FFF, 0x8000
RECEIVED = 1 << 16  # the kernel fills at most 32 KiB at a time
BATCH = 4 << 20
NO_STATE = 255

# `left_s`: seconds until it expires; `state`: of a TCP entry, else NO_STATE; places of `addr` and `port` as in model.ENTRY.
DUMPED = np.dtype(
    [
        ("addr", "u1", (4, 16)),
        ("port", ">u2", (4,)),
        ("status", ">u4"),
        ("left_s", ">u4"),
        ("zone", ">u2"),
        ("l3num", "u1"),
        ("protonum", "u1"),
        ("state", "u1"),
    ]
)
Dumped = NDArray[np.void]
Bytes = NDArray[np.uint8]
Path = tuple[int, ...]

# Attribute types from the outermost inwards -> where in DUMPED its value goes, as (offset, length).
TUPLES = ((1,), (2,))  # CTA_TUPLE_ORIG, CTA_TUPLE_REPLY
IP, PROTO = (1,), (2,)  # CTA_TUPLE_IP, CTA_TUPLE_PROTO


def _targets() -> dict[Path, tuple[int, int]]:
    fields = DUMPED.fields
    assert fields
    at = {name: fields[name][1] for name in fields}
    found = {(3,): (at["status"], 4), (7,): (at["left_s"], 4), (18,): (at["zone"], 2), (4, 1, 1): (at["state"], 1)}
    for direction, outer in enumerate(TUPLES):
        src, dst = (at["addr"] + 16 * (2 * direction + end) for end in (0, 1))
        one, other = (at["port"] + 2 * (2 * direction + end) for end in (0, 1))
        found |= {outer + IP + (1,): (src, 4), outer + IP + (2,): (dst, 4)}
        found |= {outer + IP + (3,): (src, 16), outer + IP + (4,): (dst, 16)}
        # CTA_PROTO_SRC_PORT, DST_PORT; ICMP and ICMPv6: id, type, code.
        found |= {outer + PROTO + (2,): (one, 2), outer + PROTO + (3,): (other, 2)}
        for first in (4, 7):
            found |= {outer + PROTO + (first,): (one, 2)}
            found |= {outer + PROTO + (first + 1,): (other, 1), outer + PROTO + (first + 2,): (other + 1, 1)}
    return found | {TUPLES[0] + PROTO + (1,): (at["protonum"], 1)}


TARGETS = _targets()


class _Form(NamedTuple):
    """Where a message has its attribute headers (every byte of them), and of each value (place in it, in DUMPED, length)."""

    headers: list[int]
    values: list[tuple[int, int, int]]


def dump() -> Dumped:
    """All of them, as DUMPED. Raises OSError where the kernel refuses, or breaks off: part of a table is none."""
    parts = [decode(batch) for batch in _batches()]
    return np.concatenate(parts) if parts else np.empty(0, DUMPED)


def _batches() -> Iterator[bytes]:
    """Whole messages, some megabytes at a time."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as asked:
        asked.send(struct.pack("=IHHIIBBH", HEADERS, CONNTRACK_GET, REQUEST_DUMP, 0, 0, socket.AF_UNSPEC, 0, 0))
        held: list[bytes] = []
        size = 0
        done = False
        while not done:
            data = asked.recv(RECEIVED)
            done = ends(data)
            held.append(data)
            size += len(data)
            if size > BATCH or done:
                yield b"".join(held)
                held, size = [], 0


def ends(data: bytes) -> bool:
    """Whether the dump ends with these messages; raises OSError with what an error, or its last message, says went wrong."""
    if not (_says_end(data, 0) or _says_end(data, len(data) - HEADERS)):
        return False
    for at, length, kind in _headers(data):
        if kind not in (ERROR, DONE):
            continue
        # struct nlmsgerr.error; netlink_dump_done() puts the dump's result there too.
        number = -struct.unpack_from("=i", data, at + 16)[0] if length >= HEADERS else 0
        if number > 0:
            raise OSError(number, os.strerror(number))
        return True
    return False


def _says_end(data: bytes, at: int) -> bool:
    """As a quick look: what lies there may also be a part of an entry."""
    return 0 <= at <= len(data) - 16 and struct.unpack_from("=H", data, at + 4)[0] in (ERROR, DONE)


def decode(data: bytes) -> Dumped:
    """Entries of these messages (IPCTNL_MSG_CT_NEW), in order."""
    starts, lengths = _messages(data)
    entries = np.zeros(len(starts), DUMPED)
    entries["state"] = NO_STATE
    target = entries.view(np.uint8).reshape(len(entries), DUMPED.itemsize)
    whole = np.frombuffer(data, np.uint8)
    for length in np.unique(lengths).tolist():
        which = np.flatnonzero(lengths == length)
        rows = whole[starts[which][:, None] + np.arange(length)]
        while len(which):
            form = _form(rows[0].tobytes())
            alike = (rows[:, form.headers] == rows[0, form.headers]).all(1)
            for at, to, size in form.values:
                target[which[alike], to : to + size] = rows[alike, at : at + size]
            which, rows = which[~alike], rows[~alike]
    entries["l3num"] = whole[starts + FAMILY_AT]
    return entries


def _messages(data: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each begins, and its length; the end of the dump, which may come with the last ones, is none."""
    found = [(at, length) for at, length, kind in _headers(data) if kind not in (ERROR, DONE)]
    starts, lengths = ([pair[which] for pair in found] for which in (0, 1))
    return np.array(starts, np.int64), np.array(lengths, np.int64)


def _headers(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Place, length and type of each message (struct nlmsghdr)."""
    at = 0
    while at < len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if length < 16:
            raise OSError(errno.EBADMSG, "a netlink message shorter than its header")
        yield at, length, kind
        at += length + 3 & ~3


def _form(message: bytes) -> _Form:
    form = _Form([], [])
    _attributes(message, HEADERS, len(message), (), form)
    return form


def _attributes(message: bytes, at: int, end: int, path: Path, form: _Form) -> None:
    while at + 4 <= end:
        length, kind = struct.unpack_from("=HH", message, at)
        form.headers.extend(range(at, at + 4))
        here = (*path, kind & TYPE_MASK)
        if kind & NESTED:
            _attributes(message, at + 4, at + length, here, form)
        elif here in TARGETS:
            form.values.append((at + 4, *TARGETS[here]))
        at += max(length + 3 & ~3, 4)
