"""A ring as the kernel filled it, kept on disk: recorded in the lab VM, read anywhere."""

from __future__ import annotations

import base64
import json
import mmap
import os
import zlib
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from bench.flood import Flood
from bench.instructions import wait_quiet
from ctobserve.capture.records import Records, record_dtype
from ctobserve.host.layout import Layout
from ctobserve.host.symbols import Symbols
from ctobserve.programs.attachment import Attachment
from ctobserve.programs.hooks import Purpose
from ctobserve.programs.ring import PAGE, RINGBUF_HDR_BYTES, Ring
from ctobserve_lab.world import Net

RING_BYTES = 32 << 20


@dataclass(frozen=True)
class Image:
    """Records in the ring's order, and the layout of the kernel that wrote them."""

    layout: Layout
    records: Records

    def dumps(self) -> str:
        """One line of text: it leaves the guest on its output."""
        packed = base64.b64encode(zlib.compress(self.records.tobytes(), 1)).decode()
        return json.dumps({"layout": self.layout.as_dict(), "records": packed})

    @classmethod
    def loads(cls, text: str) -> Image:
        """The opposite."""
        found = json.loads(text)
        layout = Layout(**found["layout"])
        return cls(layout, np.frombuffer(zlib.decompress(base64.b64decode(found["records"])), record_dtype(layout)))


def record(entries: int) -> Image:
    """Inserts of a flood, then the destroys of the same entries."""
    attachment = Attachment(Purpose.TABLE, "auto", Symbols.read())
    layout = attachment.build.layout
    dtype = record_dtype(layout)
    with Net() as net, ExitStack() as opened:
        attachment.load(attachment.choices(chains=False, netns=None), RING_BYTES)
        opened.callback(attachment.close)
        ring = Ring(attachment.programs.map("ring"), RING_BYTES, dtype.itemsize)
        opened.callback(ring.close)
        attachment.attach()
        space = net.space("record")
        flood = Flood(space, entries)
        _drained(ring)
        flood.send()
        parts = [_drained(ring)]
        space.run("conntrack", "-F")
        wait_quiet()
        parts.append(_drained(ring))
    return Image(layout, np.frombuffer(b"".join(parts), dtype))


def _drained(ring: Ring) -> bytes:
    """All records that are in it."""
    found = ring.peek().tobytes()
    ring.release()
    return found


class Replay:
    """A file that looks like the ring's pages; `rewind` makes all records unread again."""

    def __init__(self, image: Image) -> None:
        self.stride = RINGBUF_HDR_BYTES + image.records.dtype.itemsize
        self.count = min(len(image.records), RING_BYTES // self.stride)
        heads = np.zeros((self.count, 8), np.uint8)
        heads[:, :4] = np.frombuffer(np.uint32(image.records.dtype.itemsize).tobytes(), np.uint8)
        body = image.records[: self.count].view(np.uint8).reshape(self.count, -1)
        self.data = np.hstack([heads, body])
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * RING_BYTES)
        self._map = mmap.mmap(self.fd, 2 * PAGE + 2 * RING_BYTES)
        self._map[2 * PAGE : 2 * PAGE + self.data.nbytes] = self.data.tobytes()
        self._positions = np.frombuffer(self._map, np.uint64, PAGE // 4)

    def rewind(self, first: int, count: int) -> None:
        """Unread: `count` records from the one with this index."""
        self._positions[0] = first * self.stride
        self._positions[PAGE // 8] = (first + count) * self.stride
