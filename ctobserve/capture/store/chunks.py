"""Rows as bytes and back: turned by columns, cut into planes of bytes, those that never change left out, the rest compressed.

A body is, before zlib: the first row; the second row as it is turned; a bit for each byte of a row, least significant first,
which says whether that byte differs among the rows after the first; and of each that does its plane, the bytes of the
second row to the last. What does not differ is that of the second row. Rows are turned thus:

- `delta`: the difference to the row before, modulo the size of the number, zigzag: 0, -1, 1, -2 ... as 0, 1, 2, 3 ...
- `mirrored`: of four (source and destination of original, of reply) the third is XORed with the second, the fourth with the
  first: zero where reply is the mirror of original. This holds for the first row too.
- `walked`: first the numbers are put in the order of the walk that found the rows, then it is as `delta`. That is by the bucket
  of the original node, and in one bucket the later row first: a new node is put in front of its chain.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ctobserve.capture.store.columns import DELTA, MIRRORED, ROWS, WALKED, columns_of
from ctobserve.model import NDArray, as_bytes

BLOCK = 32  # a multiple of eight
SAMPLE = 256
ZLIB_HEAD = b"\x78\x01"  # deflate, a window of 32 KiB, no dictionary (RFC 1950)
MOST_ROWS = 4096  # of a chunk: its planes lie within the 32 KiB that zlib looks back
Bytes = NDArray[np.uint8]
Rows = NDArray[np.void]


class Damaged(ValueError):
    """Bytes that are no chunk."""


class _Turned(NamedTuple):
    """Where the turned columns of a row begin, and the bytes of one number."""

    deltas: tuple[tuple[int, int], ...]
    mirrored: tuple[tuple[int, int], ...]
    walked: tuple[tuple[int, int], ...]  # of the deltas


@cache
def _turned(kind: str) -> _Turned:
    at, deltas, mirrored, walked = 0, [], [], []
    for column in columns_of(kind):
        size = np.dtype(column.form).itemsize
        count = int(np.prod([int(part) for part in column.shape.split(",") if part]))
        if column.how in (DELTA, WALKED):
            deltas.append((at, size))
        if column.how == WALKED:
            walked.append((at, size))
        if column.how == MIRRORED:
            mirrored.append((at, size * count // 4))
        at += size * count
    assert at == ROWS[kind].itemsize, "rows of a recording have no gaps"
    return _Turned(tuple(deltas), tuple(mirrored), tuple(walked))


def pack(kind: str, rows: Rows, level: int) -> bytes:
    """One to MOST_ROWS rows of this kind; `level` of zlib, 0 to 9."""
    size, turned = ROWS[kind].itemsize, _turned(kind)
    made = as_bytes(rows).copy().view(np.uint8).reshape(len(rows), size)
    _mirror(made, turned)
    for at, width in turned.walked:
        made[:, at : at + width] = made[_walk(rows), at : at + width]
    first = made[0].copy()
    for at, width in turned.deltas:
        numbers = _numbers(made, at, width)
        steps = np.diff(numbers).view(f"<i{width}")
        numbers[1:] = ((steps << 1) ^ (steps >> (8 * width - 1))).view(f"<u{width}")
    later = made[1:]
    second = later[0] if len(later) else first
    differs = _combined(np.bitwise_or, later) != _combined(np.bitwise_and, later) if len(later) else np.zeros(size, np.bool_)
    head = b"".join(part.tobytes() for part in (first, second, np.packbits(differs, bitorder="little")))
    return compressed(head, np.ascontiguousarray(later[:, differs].T), level)


def _numbers(made: Bytes, at: int, width: int) -> NDArray[Any]:
    """The column that begins at this byte, as unsigned numbers in their place."""
    numbers: NDArray[Any] = made[:, at : at + width].view(f"<u{width}")[:, 0]
    return numbers


def _mirror(made: Bytes, turned: _Turned) -> None:
    """Once makes it mirrored, twice is as before."""
    for at, width in turned.mirrored:
        step = min(width, 8)
        for lane in range(at, at + width, step):
            four = [_numbers(made, lane + part * width, step) for part in range(4)]
            four[2] ^= four[1]
            four[3] ^= four[0]


def _combined(operation: np.ufunc, rows: Bytes) -> Bytes:
    """Of all rows, byte by byte; BLOCK rows as one row of large numbers: NumPy's steps are few and long then."""
    whole, size = len(rows) // BLOCK * BLOCK, rows.shape[1]
    found = operation.reduce(rows[:whole].reshape(-1, BLOCK * size).view(np.uint64), axis=0).view(np.uint8).reshape(BLOCK, size)
    combined: Bytes = operation.reduce(np.concatenate([found, rows[whole:]]), axis=0)
    return combined


def unpack(kind: str, body: bytes, count: int) -> Rows:
    """The `count` rows again. Raises Damaged where these bytes are not so many; never makes more of them than they can be."""
    size, turned = ROWS[kind].itemsize, _turned(kind)
    if not 1 <= count <= MOST_ROWS:
        raise Damaged("no number of rows that a chunk can have")
    head = 2 * size + -(-size // 8)
    found = np.frombuffer(_inflated(body, head + (count - 1) * size), np.uint8)
    if len(found) < head:
        raise Damaged("shorter than its head")
    differs = np.unpackbits(found[2 * size : head], bitorder="little")[:size].astype(np.bool_)
    if len(found) != head + int(differs.sum()) * (count - 1):
        raise Damaged("other planes than its head says")
    made = np.empty((count, size), np.uint8)
    made[0], later = found[:size], made[1:]
    later[:] = found[size : 2 * size]
    later[:, differs] = found[head:].reshape(int(differs.sum()), count - 1).T
    for at, width in turned.deltas:
        numbers = _numbers(made, at, width)
        one = numbers.dtype.type(1)
        numbers[1:] = (numbers[1:] >> one) ^ (~(numbers[1:] & one) + one)
        numbers[:] = np.cumsum(numbers, dtype=numbers.dtype)
    _mirror(made, turned)
    rows: Rows = made.reshape(-1).view(ROWS[kind])
    for at, width in turned.walked:
        made[_walk(rows), at : at + width] = made[:, at : at + width].copy()
    return rows


def _walk(rows: Rows) -> NDArray[np.intp]:
    """Which row comes first in a walk over the buckets, which then and so on."""
    halves = np.ascontiguousarray(rows["bucket"][::-1, 0]).view("<u2").reshape(-1, 2)
    order = np.argsort(halves[:, 0], kind="stable")  # by digits: of 16 bits NumPy sorts them at a fifth of the cost
    return len(rows) - 1 - order[np.argsort(halves[order, 1], kind="stable")]


def compressed(head: bytes, planes: Bytes, level: int) -> bytes:
    """A zlib stream of `head` and all planes; those that are noise are in it as they are, which saves half of the time."""
    parts = [head]
    made, adler, last = [ZLIB_HEAD], 1, False
    for plane in (*planes, None):
        noise = plane is not None and _is_noise(plane)
        if noise != last or plane is None:
            body = b"".join(parts)
            deflater = zlib.compressobj(0 if last else level, zlib.DEFLATED, -zlib.MAX_WBITS)
            made += [deflater.compress(body), deflater.flush(zlib.Z_FINISH if plane is None else zlib.Z_FULL_FLUSH)]
            adler = zlib.adler32(body, adler)
            parts, last = [], noise
        if plane is not None:
            parts.append(plane.tobytes())
    return b"".join([*made, adler.to_bytes(4, "big")])


def _is_noise(plane: Bytes) -> bool:
    """Whether its first bytes have as many values as chance gives to so many: 162 of 256, give or take three times 7."""
    return len(plane) >= SAMPLE and 140 < np.count_nonzero(np.bincount(plane[:SAMPLE], minlength=256)) < 184


def _inflated(body: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        made = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise Damaged(str(error)) from None
    if len(made) > limit or not inflater.eof or inflater.unused_data:
        raise Damaged("longer or shorter than it may be")
    return made
