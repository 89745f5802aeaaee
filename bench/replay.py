"""How many events per second does one core bring from the ring into the table, and how many does bcc's way manage?

Native, without kernel or VM: a ring recorded in the lab is read again and again, in batches of a size that 20 ms of a busy host
would bring. Beside it bcc's way on the same bytes: a C loop that calls a Python function per record through ctypes. The
C loop is libc's lfind(3), which calls its comparison for every element until one returns 0, as libbpf's ring_buffer__poll calls
its callback for every record. Once the callback only copies the bytes, as bcc's wrapper leaves the user to do; once it also does
what we do with them: decode the record as bcc's `event()` would, a ctypes structure, and keep a table.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

from bench.image import Image, Replay
from bench.measured import Measured
from ctobserve.capture.correlator import Correlator
from ctobserve.capture.decoder import Decoder
from ctobserve.capture.records import RecordKind, record_dtype, row_dtype
from ctobserve.capture.ring_consumer import RingConsumer
from ctobserve.capture.table import Table
from ctobserve.host.symbols import Symbols
from ctobserve.model import Entries
from ctobserve.programs.ring import RINGBUF_HDR_BYTES, Ring

BATCH = 10_000
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_libc = ctypes.CDLL(None)


TABLE, EVENTS = "to table", "to events"
COPIED, DECODED = "bcc callback, bytes kept", "bcc callback, decoding"


def measure(image: Image, repeats: int) -> dict[str, Measured]:
    """Events per second of each way. They take turns, so that a host that is slower for a while is so for all."""
    replay = Replay(image)
    ways: dict[str, Callable[[], float]] = {
        TABLE: lambda: _ours(image, replay, told=False),
        EVENTS: lambda: _ours(image, replay, told=True),
        COPIED: lambda: _called(replay, _copying(replay)),
        DECODED: lambda: _called(replay, _decoding(image)),
    }
    for work in ways.values():
        work()
    rounds = [{way: replay.count / work() for way, work in ways.items()} for _ in range(repeats)]
    return {way: Measured.of(found[way] for found in rounds) for way in ways}


def _ours(image: Image, replay: Replay, told: bool) -> float:
    """Seconds of CPU for the whole image; `told`: not into a table, but to whoever wants the events, with their stories."""
    dtype = record_dtype(image.layout)
    ring = Ring(replay.fd, 32 << 20, dtype.itemsize)
    correlator = Correlator(lives=True)
    consumer = RingConsumer(ring, dtype, None if told else Table(row_dtype(dtype)), Decoder(Symbols({})) if told else None)
    begun = time.process_time()
    for first in range(0, replay.count, BATCH):
        replay.rewind(first, min(BATCH, replay.count - first))
        if told:
            correlator.complete(consumer.decoded())
        else:
            consumer.take()
    spent = time.process_time() - begun
    ring.close()
    return spent


def _called(replay: Replay, callback: Callable[[int | None, int], int]) -> float:
    def guarded(key: int | None, data: int) -> int:
        # As bcc's own wrapper: an exception must not reach C.
        try:
            return int(callback(key, data))
        except Exception:  # noqa: BLE001, RUF100
            return 1

    function = CALLBACK(guarded)
    begun = time.process_time()
    for first in range(0, replay.count, BATCH):
        count = ctypes.c_size_t(min(BATCH, replay.count - first))
        at = ctypes.c_void_p(replay.data.ctypes.data + first * replay.stride)
        _libc.lfind(None, at, ctypes.byref(count), ctypes.c_size_t(replay.stride), function)
    return time.process_time() - begun


def _copying(replay: Replay) -> Callable[[int | None, int], int]:
    size = replay.stride - RINGBUF_HDR_BYTES
    batch: list[bytes] = []

    def take(_key: int | None, data: int) -> int:
        batch.append(ctypes.string_at(data + RINGBUF_HDR_BYTES, size))
        if len(batch) == BATCH:
            batch.clear()
        return 1

    return take


def _decoding(image: Image) -> Callable[[int | None, int], int]:
    table: dict[int, Entries | bytes] = {}
    structure = _structure(image)
    size = image.records.dtype.itemsize

    def take(_key: int | None, data: int) -> int:
        event = ctypes.cast(data + RINGBUF_HDR_BYTES, ctypes.POINTER(structure)).contents
        if event.kind == RecordKind.INSERT:
            table[event.ct] = ctypes.string_at(data + RINGBUF_HDR_BYTES, size)
        elif event.kind == RecordKind.DESTROY:
            table.pop(event.ct, None)
        return 1

    return take


def _structure(image: Image) -> type[ctypes.Structure]:
    """The two members that keeping a table takes, at their places."""
    fields = image.records.dtype.fields
    assert fields
    kind, ct = fields["kind"][1], fields["ct"][1]

    class Event(ctypes.Structure):
        _pack_ = 1
        _fields_ = [
            ("before_ct", ctypes.c_uint8 * ct),
            ("ct", ctypes.c_uint64),
            ("before_kind", ctypes.c_uint8 * (kind - ct - 8)),
            ("kind", ctypes.c_uint8),
        ]

    return Event
