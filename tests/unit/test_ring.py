"""The ring's reader on a ring made by hand in a memory file: same layout, same bits."""

from __future__ import annotations

import errno
import mmap
import os
import struct

import numpy as np
import pytest

from ctobserve.capture.records import RecordKind
from ctobserve.capture.ring_consumer import RingConsumer
from ctobserve.errors import KernelLacks
from ctobserve.programs import arch
from ctobserve.programs.ring import BUSY, DISCARD, PAGE, RINGBUF_HDR_BYTES, Ring
from tests.unit.csource import compiled
from tests.unit.samples import DTYPE, record

SIZE = 8 * PAGE
PAYLOAD = 24
STRIDE = RINGBUF_HDR_BYTES + PAYLOAD


class Producer:
    """Writes records into the file the way the kernel does; the data pages are written twice instead of mapped twice."""

    def __init__(self, payload_bytes: int = PAYLOAD) -> None:
        self.stride = RINGBUF_HDR_BYTES + (payload_bytes + 7 & ~7)
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * SIZE)
        self.map = mmap.mmap(self.fd, 2 * PAGE + 2 * SIZE)
        self.position = 0

    def put(self, payload: bytes, bits: int = 0) -> None:
        data = struct.pack("<II", len(payload) | bits, 0) + payload
        for i, byte in enumerate(data):
            at = (self.position + i) % SIZE
            self.map[2 * PAGE + at] = self.map[2 * PAGE + SIZE + at] = byte
        self.position += self.stride
        self.map[PAGE : PAGE + 8] = struct.pack("<Q", self.position)

    def free_busy(self, index: int) -> None:
        at = index * STRIDE
        self.map[2 * PAGE + at : 2 * PAGE + at + 4] = struct.pack("<I", PAYLOAD)


@pytest.fixture
def producer():
    made = Producer()
    yield made
    made.map.close()
    os.close(made.fd)


def payload(n: int) -> bytes:
    return bytes([n % 256]) * PAYLOAD


def firsts(ring: Ring) -> list[int]:
    found = ring.peek()[:, 0].tolist()
    ring.release()
    return found


@pytest.mark.parametrize(("only", "counted"), [(None, 0), (7, 2), (8, 1), (9, 0)])
def test_records_of_the_one_namespace_that_is_asked_for_are_counted_apart(only, counted):
    made = Producer(DTYPE.itemsize)
    ring = Ring(made.fd, SIZE, DTYPE.itemsize)
    consumer = RingConsumer(ring, DTYPE, None, None, only)
    for kind, netns in ((RecordKind.INSERT, 7), (RecordKind.WALK, 7), (RecordKind.DESTROY, 8), (RecordKind.DROP, 7)):
        made.put(record(kind, 1, netns=netns).tobytes())
    consumer.take()
    assert (consumer.seen, consumer.seen_of) == (3, counted), "what is read of the table is no event"
    consumer.begin()
    assert (consumer.seen, consumer.seen_of) == (0, 0)
    ring.close()
    made.map.close()
    os.close(made.fd)


def test_empty_then_some(producer):
    ring = Ring(producer.fd, SIZE, PAYLOAD)
    assert firsts(ring) == []
    for n in range(3):
        producer.put(payload(n))
    assert ring.pending_bytes == 3 * STRIDE
    assert firsts(ring) == [0, 1, 2]
    assert firsts(ring) == []
    ring.close()


def test_discarded_are_skipped_and_busy_stops(producer):
    ring = Ring(producer.fd, SIZE, PAYLOAD)
    producer.put(payload(1))
    producer.put(payload(2), DISCARD)
    producer.put(payload(3), BUSY)
    producer.put(payload(4))
    assert firsts(ring) == [1]
    assert firsts(ring) == []
    producer.free_busy(2)
    assert firsts(ring) == [3, 4]
    ring.close()


def test_round_and_round(producer):
    ring = Ring(producer.fd, SIZE, PAYLOAD)
    expected, seen = [], []
    for n in range(5 * SIZE // STRIDE):
        producer.put(payload(n))
        expected.append(n % 256)
        if n % 97 == 0:
            seen += firsts(ring)
    seen += firsts(ring)
    assert seen == expected
    ring.close()


@pytest.fixture
def weak(monkeypatch) -> None:
    """A machine that keeps no order by itself."""
    here = arch.here()._replace(ordered=False)
    monkeypatch.setattr(arch, "here", lambda: here)


class Watched:
    """In place of one of the ring's arrays: says when it is looked at."""

    def __init__(self, of: np.ndarray, name: str, order: list[str]) -> None:
        self._of, self._name, self._order = of, name, order

    def __getitem__(self, at: int) -> object:
        self._order.append(f"load {self._name}")
        return self._of[at]

    def __setitem__(self, at: int, value: int) -> None:
        self._order.append(f"store {self._name}")
        self._of[at] = value


@pytest.mark.usefixtures("weak")
def test_without_total_store_order_barriers_stand_between(producer, monkeypatch):
    """The position, headers, records: each is loaded before what the next one tells; ours is stored after all of them."""
    ring, order = Ring(producer.fd, SIZE, PAYLOAD), []
    monkeypatch.setattr("ctobserve.programs.ring.memory_barrier", lambda: order.append("barrier"))
    ring._producer, ring._consumer = Watched(ring._producer, "theirs", order), Watched(ring._consumer, "ours", order)
    producer.put(payload(1))
    ring.peek()
    assert order == ["load ours", "load theirs", "barrier", "barrier"]
    order.clear()
    ring.release()
    assert order == ["barrier", "store ours"]
    ring.close()


@pytest.mark.usefixtures("weak")
def test_what_the_kernel_has_no_barrier_for_is_not_read(producer, monkeypatch):
    def none() -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("ctobserve.programs.ring.memory_barrier", none)
    with pytest.raises(
        KernelLacks, match=r"^the ring cannot be read without memory barriers, and membarrier\(2\) says: Function not"
    ):
        Ring(producer.fd, SIZE, PAYLOAD)


def test_with_total_store_order_no_barrier_costs_anything(producer, monkeypatch):
    ordered = arch.MACHINES["x86_64"]
    monkeypatch.setattr(arch, "here", lambda: ordered)
    monkeypatch.setattr("ctobserve.programs.ring.memory_barrier", lambda: pytest.fail("a system call"))
    ring = Ring(producer.fd, SIZE, PAYLOAD)
    producer.put(payload(1))
    assert firsts(ring) == [1]
    ring.close()


def test_bits_and_size_of_a_records_header_are_the_kernels():
    theirs = compiled("#include <linux/bpf.h>", ["BPF_RINGBUF_BUSY_BIT", "BPF_RINGBUF_DISCARD_BIT", "BPF_RINGBUF_HDR_SZ"])
    assert list(theirs.values()) == [BUSY, DISCARD, RINGBUF_HDR_BYTES]
