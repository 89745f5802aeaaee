"""The BPF ring buffer read as an array: no Python call per record.

Layout from kernel/bpf/ringbuf.c: one page with the consumer position (ours to write), one with the producer position, then
the data mapped twice, so that a run of records across the end is contiguous. Each record has an 8-byte header whose first
u32 is the length with a busy and a discard bit.

The kernel releases the producer position (smp_store_release) and each header (xchg), and acquires ours; a reader must acquire
what the kernel released before it looks at a record, and release its own position after it has copied it. NumPy's plain loads
and stores do both on x86-64, where loads are not reordered with loads, nor stores with what came before (total store order).
Elsewhere a record could be read before it was written: there a memory barrier stands between, which Python has only as a system
call. That an aligned position of 8 bytes is read and written at once, and a header of 4, holds on every machine that we know.
"""

from __future__ import annotations

import mmap
from contextlib import suppress

import numpy as np

from ctobserve.errors import KernelLacks
from ctobserve.model import NDArray
from ctobserve.programs import arch
from ctobserve.programs.syscalls import memory_barrier

BUSY, DISCARD = 1 << 31, 1 << 30
RINGBUF_HDR_BYTES = 8
PAGE = mmap.PAGESIZE


class Ring:
    """Reader of a ring whose records all have one size."""

    def __init__(self, fd: int, size: int, record_bytes: int) -> None:
        """`size` is the ring's data size in bytes, a power of two; `record_bytes` without the header, a multiple of 8.

        Raises KernelLacks where memory barriers are needed, and this kernel has none for us.
        """
        self._ordered = arch.here().ordered
        try:
            self._barrier()
        except OSError as error:
            raise KernelLacks(
                f"the ring cannot be read without memory barriers, and membarrier(2) says: {error.strerror}"
            ) from error
        self._size = size
        self._stride = RINGBUF_HDR_BYTES + record_bytes
        self._consumer_map = mmap.mmap(fd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._producer_map = mmap.mmap(fd, PAGE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=PAGE)
        self._consumer = np.frombuffer(self._consumer_map, np.uint64, 1)
        self._producer = np.frombuffer(self._producer_map, np.uint64, 1)
        self._data = np.frombuffer(self._producer_map, np.uint8, 2 * size, PAGE)

    @property
    def pending_bytes(self) -> int:
        """Bytes reserved and not read yet."""
        return int(self._producer[0]) - int(self._consumer[0])

    def peek(self) -> NDArray[np.uint8]:
        """All finished records, shape (n, record_bytes), in the kernel's order, as they lie in the ring until `release`.

        Stops at the first record that is still being written, so that order is kept.
        """
        start, end = int(self._consumer[0]), int(self._producer[0])
        self._barrier()  # acquire: headers are read after the position
        count = (end - start) // self._stride
        offset = start & (self._size - 1)
        window = self._data[offset : offset + count * self._stride].reshape(count, self._stride)
        heads: NDArray[np.uint32] = np.ndarray((count,), np.uint32, self._data, offset, (self._stride,)).copy()
        self._barrier()  # acquire: records are read after their headers
        records = window[:, RINGBUF_HDR_BYTES:]
        if (heads >= DISCARD).any():
            busy = np.flatnonzero(heads & BUSY)
            if busy.size:
                count = int(busy[0])
            records = records[:count][(heads[:count] & DISCARD) == 0]
        self._read = start + count * self._stride
        return records

    def release(self) -> None:
        """Give back what the last peek showed: whoever looked at the records has done so."""
        self._barrier()  # release: what is written over them later is not read in their place
        self._consumer[0] = self._read

    def _barrier(self) -> None:
        if not self._ordered:
            memory_barrier()

    def close(self) -> None:
        """Unmap."""
        del self._consumer, self._producer, self._data
        self._consumer_map.close()
        # Records still looked at, when an error broke off their reading, keep the map until they are gone.
        with suppress(BufferError):
            self._producer_map.close()
