"""Addresses as columns of text, group by group: nothing is formatted per row, and nothing is remembered."""

from __future__ import annotations

import socket
from functools import cache

import numpy as np

from ctobserve.model import Mask, NDArray
from ctobserve.render.columns import Bytes, Part, Texts, column, glued, placed, same, where

GROUPS = 8
FEW = 16  # rows for which columns cost more than they spare
EMBEDDED = 5  # so many groups of zeros at the start: inet_ntop may write the rest as an IPv4 address


def addresses(packed: Bytes, six: Mask, full: bool = False) -> Part:
    """Of 16 bytes each, IPv6 where `six`, else IPv4 in the first four; `full` writes IPv6 without shortening, as %pI6."""
    if not full and same(six) and all(same(half) for half in packed.view(np.uint64).T):
        return _by_c_library(packed[0].tobytes(), bool(six[0]))
    if len(packed) <= FEW and not full:
        return column([_by_c_library(one.tobytes(), long) for one, long in zip(packed, six.tolist(), strict=True)])
    if not six.any():
        return _four(packed)
    write = _full if full else _short
    if six.all():
        return write(packed)
    return glued(placed(~six, _four(packed[~six])), placed(six, write(packed[six])))


@cache
def _bytes_in_decimal() -> tuple[Texts, Texts]:
    """Before a dot, and the last."""
    return column([f"{byte}." for byte in range(256)]), column([str(byte) for byte in range(256)])


def _four(packed: Bytes) -> Part:
    dotted, last = _bytes_in_decimal()
    return glued(*(dotted.take(packed[:, place]) for place in range(3)), last.take(packed[:, 3]))


@cache
def _groups_in_hex(form: str) -> Texts:
    return column([f"{group:{form}}" for group in range(1 << 16)])


def _groups(packed: Bytes) -> NDArray[np.uint16]:
    groups: NDArray[np.uint16] = np.ascontiguousarray(packed).view(">u2").astype(np.uint16)
    return groups


def _full(packed: Bytes) -> Part:
    groups, words = _groups(packed), _groups_in_hex("04x")
    return glued(words[groups[:, 0]], *(part for at in range(1, GROUPS) for part in (":", words[groups[:, at]])))


def _short(packed: Bytes) -> Part:
    """As inet_ntop: of the runs of two zero groups and more, the first of the longest is left out."""
    groups, words = _groups(packed), _groups_in_hex("x")
    zeros = np.packbits(groups == 0, axis=1)[:, 0]
    before, shown = _shortening()
    text = glued(*(part for at in range(GROUPS) for part in (before[zeros, at], where(shown[zeros, at], words[groups[:, at]]))))
    odd: Mask = (groups[:, :EMBEDDED] == 0).all(1)
    return glued(where(~odd, text), placed(odd, _one_by_one(packed[odd]))) if odd.any() else text


@cache
def _shortening() -> tuple[Texts, Mask]:
    """By which groups are zero (a bit each, the first the highest) and by group: what stands before it, and if it is shown."""
    before, shown = [], []
    for zeros in range(256):
        run = _left_out(f"{zeros:08b}")
        shown.append([at not in run for at in range(GROUPS)])
        before.append(
            ["::" if run and at == run[0] else ":" if at and at not in run and at - 1 not in run else "" for at in range(GROUPS)]
        )
    return np.array(before, "S2"), np.array(shown)


def _left_out(zeros: str) -> range:
    for length in range(GROUPS, 1, -1):
        at = zeros.find("1" * length)
        if at >= 0:
            return range(at, at + length)
    return range(0)


def _one_by_one(packed: Bytes) -> Texts:
    """Loopback, unspecified, and IPv4 in IPv6: few, so each distinct one is formatted by the C library."""
    kinds, of = np.unique(np.ascontiguousarray(packed).view("V16")[:, 0], return_inverse=True)
    return column([_by_c_library(one, True) for one in kinds.tolist()])[of]


def _by_c_library(packed: bytes, six: bool) -> str:
    return socket.inet_ntop(socket.AF_INET6, packed) if six else socket.inet_ntop(socket.AF_INET, packed[:4])
