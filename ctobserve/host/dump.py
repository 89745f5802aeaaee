"""Entries of our network namespace as `conntrack -L` gets them: a netlink dump, decoded in arrays for a million of them.

Expectations (host/expectations.py) come in messages of the same kind, and are decoded by the same code.

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
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ctobserve.model import IPS_EXPECTED, IPS_HELPER, NDArray, join, pick

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
HELPED = np.dtype([*DUMPED.descr, ("helper", "S16")])  # NF_CT_HELPER_NAME_LEN
Dumped = NDArray[np.void]
Bytes = NDArray[np.uint8]
Path = tuple[int, ...]
# Attribute types from the outermost inwards -> where in a row its value goes, as (offset, length).
Targets = Mapping[Path, tuple[int, int]]

IP, PROTO = (1,), (2,)  # CTA_TUPLE_IP, CTA_TUPLE_PROTO
STATUS, STATUS_MASK = 3, 26  # CTA_STATUS, CTA_STATUS_MASK


class Rows(NamedTuple):
    """What a message becomes: a row of this dtype, which has an `l3num`, with values from these attributes."""

    dtype: np.dtype[np.void]
    targets: Targets


def offsets(dtype: np.dtype[np.void]) -> dict[str, int]:
    """Where each field of a row begins."""
    assert dtype.fields
    return {name: found[1] for name, found in dtype.fields.items()}


def of_tuples(at: Mapping[str, int], *outer: Path) -> dict[Path, tuple[int, int]]:
    """Where addresses and ports of these tuples go: one after the other, into `addr` and `port`."""
    found: dict[Path, tuple[int, int]] = {}
    for place, path in enumerate(outer):
        src, dst = (at["addr"] + 16 * (2 * place + end) for end in (0, 1))
        one, other = (at["port"] + 2 * (2 * place + end) for end in (0, 1))
        found |= {path + IP + (1,): (src, 4), path + IP + (2,): (dst, 4)}
        found |= {path + IP + (3,): (src, 16), path + IP + (4,): (dst, 16)}
        # CTA_PROTO_SRC_PORT, DST_PORT; ICMP and ICMPv6: id, type, code.
        found |= {path + PROTO + (2,): (one, 2), path + PROTO + (3,): (other, 2)}
        for first in (4, 7):
            found |= {path + PROTO + (first,): (one, 2)}
            found |= {path + PROTO + (first + 1,): (other, 1), path + PROTO + (first + 2,): (other + 1, 1)}
    return found


def _targets(dtype: np.dtype[np.void]) -> Targets:
    at = offsets(dtype)
    found = of_tuples(at, (1,), (2,))  # CTA_TUPLE_ORIG, CTA_TUPLE_REPLY
    found |= {(1, *PROTO, 1): (at["protonum"], 1), (STATUS,): (at["status"], 4), (7,): (at["left_s"], 4)}
    found |= {(18,): (at["zone"], 2), (4, 1, 1): (at["state"], 1)}
    return found | ({(5, 1): (at["helper"], 16)} if "helper" in at else {})  # CTA_HELP, CTA_HELP_NAME


ENTRIES, WITH_HELPER = (Rows(dtype, _targets(dtype)) for dtype in (DUMPED, HELPED))


class _Form(NamedTuple):
    """Where a message has its attribute headers (every byte of them), and of each value (place in it, in the row, length)."""

    headers: list[int]
    values: list[tuple[int, int, int]]


def dump() -> Dumped:
    """All of them, as DUMPED. Raises OSError where the kernel refuses, or breaks off: part of a table is none."""
    return dumped(CONNTRACK_GET, ENTRIES)


def dump_helped() -> Dumped:
    """Those with a helper, as HELPED: given by a rule or by netlink (IPS_HELPER), or by an expectation. Raises as `dump`.

    Kernels before 5.18 list all entries, whatever their status, at the first request: among them those that were given a helper
    without a rule (nf_conntrack_helper). What has no helper is left out here.
    """
    found = dumped(CONNTRACK_GET, WITH_HELPER, _having(IPS_HELPER))
    if (found["status"] & IPS_HELPER).all():
        expected = dumped(CONNTRACK_GET, WITH_HELPER, _having(IPS_EXPECTED))
        found = join([found, pick(expected, expected["status"] & IPS_HELPER == 0)])  # the others came before
    return pick(found, found["helper"] != b"")


def _having(bit: int) -> bytes:
    """The attributes that ask for entries with this bit of their status (ctnetlink_filter_match)."""
    return b"".join(struct.pack("=HH", 8, kind) + struct.pack(">I", bit) for kind in (STATUS, STATUS_MASK))


def dumped(kind: int, rows: Rows, asked: bytes = b"") -> Dumped:
    """What the kernel answers to a request for a dump of this kind, with these attributes; raises as `dump`."""
    parts = [decode(batch, rows) for batch in _batches(kind, asked)]
    return join(parts) if parts else np.empty(0, rows.dtype)


def _batches(kind: int, attributes: bytes) -> Iterator[bytes]:
    """Whole messages, some megabytes at a time."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as asked:
        length = HEADERS + len(attributes)
        asked.send(struct.pack("=IHHIIBBH", length, kind, REQUEST_DUMP, 0, 0, socket.AF_UNSPEC, 0, 0) + attributes)
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
    for at, length, kind in headers(data):
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


def decode(data: bytes, rows_of: Rows = ENTRIES) -> Dumped:
    """Rows of these messages (of entries: IPCTNL_MSG_CT_NEW), in order."""
    starts, lengths = _messages(data)
    entries = np.zeros(len(starts), rows_of.dtype)
    if "state" in (rows_of.dtype.names or ()):
        entries["state"] = NO_STATE
    target = entries.view(np.uint8).reshape(len(entries), rows_of.dtype.itemsize)
    whole = np.frombuffer(data, np.uint8)
    for length in np.unique(lengths).tolist():
        which = np.flatnonzero(lengths == length)
        rows = whole[starts[which][:, None] + np.arange(length)]
        while len(which):
            form = _form(rows[0].tobytes(), rows_of.targets)
            alike = (rows[:, form.headers] == rows[0, form.headers]).all(1)
            for at, to, size in form.values:
                target[which[alike], to : to + size] = rows[alike, at : at + size]
            which, rows = which[~alike], rows[~alike]
    entries["l3num"] = whole[starts + FAMILY_AT]
    return entries


def _messages(data: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each begins, and its length; the end of the dump, which may come with the last ones, is none."""
    found = [(at, length) for at, length, kind in headers(data) if kind not in (ERROR, DONE)]
    starts, lengths = ([pair[which] for pair in found] for which in (0, 1))
    return np.array(starts, np.int64), np.array(lengths, np.int64)


def headers(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Place, length and type of each message (struct nlmsghdr)."""
    at = 0
    while at < len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if length < 16:
            raise OSError(errno.EBADMSG, "a netlink message shorter than its header")
        yield at, length, kind
        at += length + 3 & ~3


def _form(message: bytes, targets: Targets) -> _Form:
    form = _Form([], [])
    _attributes(message, HEADERS, len(message), (), form, targets)
    return form


def _attributes(message: bytes, at: int, end: int, path: Path, form: _Form, targets: Targets) -> None:
    while at + 4 <= end:
        length, kind = struct.unpack_from("=HH", message, at)
        form.headers.extend(range(at, at + 4))
        here = (*path, kind & TYPE_MASK)
        if kind & NESTED:
            _attributes(message, at + 4, at + length, here, form, targets)
        elif here in targets:
            to, size = targets[here]
            form.values.append((at + 4, to, min(size, length - 4)))
        at += max(length + 3 & ~3, 4)
