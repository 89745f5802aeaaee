"""The kernel's table read once: its entries into a SnapshotBuilder, or the lengths of its chains alone.

A reader calls `drain` between its steps, so that the ring has room for events; a listing also finds its entries there.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ctobserve.capture.read_via import ReadVia
from ctobserve.capture.records import RecordKind
from ctobserve.capture.snapshot_builder import REPLY, SnapshotBuilder
from ctobserve.capture.table import Lengths
from ctobserve.errors import CtobserveError
from ctobserve.host import dump, kernel, netns
from ctobserve.host.layout import Layout
from ctobserve.host.listing import PROC
from ctobserve.host.threads import elsewhere
from ctobserve.model import NDArray
from ctobserve.programs import syscalls
from ctobserve.programs.constants import (
    LENGTHS_AGAIN,
    RESIZED,
    SLOTS,
    STEPS,
    WALK_AGAIN,
    WALK_EVERY,
    WALK_EXTENSIONS,
    WINDOW,
)
from ctobserve.programs.loader import Programs

GATHERED = np.dtype([("records", "<u8"), ("replies", "<u8"), ("reply", REPLY, (SLOTS,))])
BUCKET_TRIES = 8
LISTING_TRIES = 3
DRAIN_S = 0.005
OURS = "/proc/thread-self/ns/net"
LENGTHS = np.dtype([("originals", "<u8"), ("length", "<u2", (WINDOW,))])
Drain = Callable[..., object]


def mapped(fd: int, record: np.dtype[Any], count: int) -> NDArray[Any]:
    """An array map's values as the kernel writes them; unmapped when nobody looks at them any more."""
    return np.frombuffer(mmap.mmap(fd, record.itemsize * count), record)


class HashReader:
    """Walks the hash by BPF_PROG_TEST_RUN: bpf/walk.c, bpf/lengths.c."""

    via = ReadVia.WALK

    def __init__(self, programs: Programs, layout: Layout, record: np.dtype[np.void]) -> None:
        self._programs = programs
        self._layout = layout
        self._record = record
        self.buckets = 0

    def entries(self, found: SnapshotBuilder, drain: Drain, extensions: bool) -> int | None:
        """All entries, one pass; buckets that could not be read to their end, None after a resize under way."""
        batch = _Batch(self._programs, self._record, found)

        def step() -> None:
            if batch.full:
                batch.take()
                drain()

        unread = self._pass(self._walk(), 0, step, wants=WALK_EXTENSIONS if extensions else 0)
        batch.take()
        drain()
        return unread

    def chain(self, bucket: int, found: SnapshotBuilder) -> None:
        """Every node of one bucket as an entry; quietly none when the hash was resized."""
        fd = self._walk()
        batch = _Batch(self._programs, self._record, found)
        for _ in range(BUCKET_TRIES):
            if syscalls.test_run(fd, struct.pack("<4Q", bucket, bucket + 1, self.buckets, WALK_EVERY)) != bucket:
                break
            batch.take()
        batch.take()

    def locate(self, ct: int, direction: int) -> int:
        """Bucket of an entry's original (0) or reply (1) node, read from the end of its chain."""
        node = ct + self._layout.tuplehash + direction * self._layout.tuplehash_bytes
        return syscalls.test_run(self._programs.load_runnable("locate"), struct.pack("<Q", node))

    def lengths(self) -> Lengths | None:
        """The lengths of all chains, one pass without copying any entry; None after a resize under way."""
        window = mapped(self._programs.map("window"), LENGTHS, 1)[0]
        counted: list[NDArray[np.uint16]] = []
        before = int(window["originals"])

        def keep(first: int, end: int) -> None:
            counted.append(window["length"][: end - first].copy())

        unread = self._pass(self._programs.load_run("lengths", LENGTHS_AGAIN), WINDOW, lambda: None, keep)
        return None if unread is None else Lengths(np.concatenate(counted), int(window["originals"]) - before, unread)

    def _walk(self) -> int:
        return self._programs.load_run("walk", WALK_AGAIN)

    def _pass(
        self,
        program: int,
        window: int,
        step: Callable[[], object],
        full: Callable[[int, int], None] = lambda *_: None,
        wants: int = 0,
    ) -> int | None:
        """Run a program over all buckets, `window` of them at a time (0: all).

        `step` is called after each run, `full` after each window.
        """
        self.buckets = kernel.htable_size()
        unread = 0
        for first in range(0, self.buckets, window or self.buckets):
            end = min(first + (window or self.buckets), self.buckets)
            bucket, tries = first, 0
            while bucket < end:
                following = syscalls.test_run(program, struct.pack("<4Q", bucket, end, self.buckets, wants))
                if following == RESIZED:
                    return None
                step()
                tries = tries + 1 if following == bucket else 0
                if tries == BUCKET_TRIES:
                    following, unread, tries = bucket + 1, unread + 1, 0
                bucket = following
            full(first, end)
        return unread


class _Batch:
    """What bpf/walk.c has put into its maps and nobody has taken yet."""

    def __init__(self, programs: Programs, record: np.dtype[np.void], found: SnapshotBuilder) -> None:
        self._records = mapped(programs.map("walked"), record, SLOTS)
        self._gathered = mapped(programs.map("gathered"), GATHERED, 1)
        self._counts = self._gathered.view(np.uint64)[:2]
        self._counts[:] = 0
        self._found = found

    @property
    def full(self) -> bool:
        """Whether one more run might not find room."""
        return int(self._counts.max()) > SLOTS - STEPS

    def take(self) -> None:
        """Into the snapshot; the maps are empty again."""
        records, replies = self._counts.tolist()
        self._found.add(self._records[:records])
        self._found.add_replies(self._gathered["reply"][0, :replies])
        self._counts[:] = 0


class Lister:
    """Has the kernel list its table to us while a probe on the listing function sends each entry: bpf/listing.c."""

    def __init__(self, programs: Programs, via: ReadVia) -> None:
        self._programs = programs
        self.via = via
        self.buckets = 0

    def entries(self, found: SnapshotBuilder, drain: Drain, _extensions: bool) -> int | None:
        """All entries; how many found it full in the best listing, None after a resize under way.

        Raises OSError or CtobserveError where the kernel does not list: half a table is none.
        """
        self.buckets = kernel.htable_size()
        unread = 0
        for _ in range(LISTING_TRIES):
            before = self._refused()
            self._list(found, lambda: drain(found))
            unread = self._refused() - before
            if not unread:
                break
        return unread if kernel.htable_size() == self.buckets else None

    def _refused(self) -> int:
        return sum(self._programs.per_cpu("lost", RecordKind.WALK))

    def _list(self, found: SnapshotBuilder, drain: Callable[[], object]) -> None:
        self._programs.list_to(syscalls.test_run(self._programs.load_runnable("whoami"), bytes(8)))
        try:
            for listing in self._files(found) if self.via is ReadVia.PROC else map(_dump_of, netns.discover().values()):
                elsewhere(listing, drain, DRAIN_S)
                drain()
        finally:
            self._programs.list_to(0)

    def _files(self, found: SnapshotBuilder) -> Iterator[Callable[[], object]]:
        """Up to Linux 7.1 any namespace's file lists the entries of all, from 7.2 on its own: then each is read.

        Which of them this kernel does is seen by what came: an entry of another namespace than the reader's.
        """
        reader, known = os.stat(OURS).st_ino, found.batches
        yield _read_file
        for space in netns.discover().values():
            if found.namespaces(known) - {reader}:
                return
            if space.inum != os.stat(OURS).st_ino:
                reader, known = space.inum, found.batches
                yield _inside(space, _read_file)


def _read_file() -> None:
    """This thread's namespace's; one without an entry has nothing to list."""
    if kernel.sysctl("nf_conntrack_count") == 0:
        return
    with PROC.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def _dump_of(space: netns.Namespace) -> Callable[[], object]:
    return _inside(space, dump.dump)


def _inside(space: netns.Namespace, function: Callable[[], object]) -> Callable[[], None]:
    def listing() -> None:
        try:
            netns.run_inside(space, function)
        except (CtobserveError, OSError):
            # One that has ended took its entries with it; of any other a part of the table would be missing.
            if space.inum in netns.discover():
                raise

    return listing
