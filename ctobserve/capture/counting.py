"""Counts of this host: per-CPU maps that bpf/counts.c keeps, read and summed now and then."""

from __future__ import annotations

import mmap
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack

import numpy as np

from ctobserve.capture.counts import Count
from ctobserve.capture.destroy_reasons import DestroyReasons
from ctobserve.capture.follower import READ_TRIES, RESIZING
from ctobserve.capture.live import LiveView
from ctobserve.capture.records import FLAG_KILLED, record_dtype
from ctobserve.capture.table import Lengths
from ctobserve.capture.table_reader import HashReader
from ctobserve.errors import CtobserveError
from ctobserve.event import Kind, destroy_name, drop_name
from ctobserve.host import capabilities
from ctobserve.host.symbols import HASH, Symbols
from ctobserve.model import NDArray
from ctobserve.programs.attachment import Attachment
from ctobserve.programs.hooks import Purpose

# struct counted of bpf/counts.c
COUNTED = np.dtype(
    [
        ("caller", "<u8"),
        ("iterator", "<u8"),
        ("netns", "<u4"),
        ("kind", "u1"),
        ("reason", "u1"),
        ("flags", "u1"),
        ("asked", "u1"),
    ]
)
BY_REASON = ("counts", "folded")
TALLY = np.dtype([("count", "<u8"), ("netns", "<u4"), ("pad", "<u4")])  # struct tally


class LiveCounting(LiveView):
    """A Counting of this host, and a context manager; nothing but the maps is left to read when somebody asks."""

    def __init__(self, attach: str) -> None:
        """Plan only; `attach` is auto, fentry or kprobe. Raises NotPermitted or KernelLacks where nothing can be counted here."""
        capabilities.require()
        self._attachment = Attachment(Purpose.COUNTS, attach, Symbols.read())
        self._callers: frozenset[int] = frozenset()
        self._forgotten: Counter[int] = Counter()  # of what stands in tallies, by namespace
        self._off = 0

    def __enter__(self) -> LiveCounting:
        """Compile, load, attach."""
        attachment = self._attachment
        with ExitStack() as opened:
            attachment.load(attachment.choices(chains=False, netns=None), mmap.PAGESIZE)
            opened.callback(attachment.close)
            programs, layout = attachment.programs, attachment.build.layout
            programs.make_room("inserts", bytes(4))
            hidden = attachment.symbols.lacks(*HASH)
            self._reader = None if hidden else HashReader(programs, layout, record_dtype(layout))
            self._reasons = DestroyReasons(attachment.symbols)
            attachment.attach()
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @property
    def attach(self) -> str:
        """The form of the programs."""
        return "fentry" if self._attachment.trampolines else "kprobe"

    @property
    def not_attached(self) -> tuple[str, ...]:
        """Functions that this kernel lacks."""
        return self._attachment.not_attached

    def now_ns(self) -> int:
        """Now, CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def counts(self) -> list[Count]:
        """As Counting has it; what different callers did for one reason is one."""
        summed: Counter[tuple[int, Kind, str]] = Counter()
        for key, count in self._attachment.programs.counts("inserts").items():
            summed[int.from_bytes(key, "little"), Kind.INSERT, ""] += count
        for netns, count in self._tallied().items():
            summed[netns, Kind.INSERT, ""] += count - self._forgotten[netns]
        for name in BY_REASON:
            summed.update(self._by_reason(self._attachment.programs.counts(name)))
        return [Count(*place, count) for place, count in summed.items() if count]

    def _tallied(self) -> Counter[int]:
        """Inserts by namespace, of those that have a slot on some CPU: what it holds stays, also of those that were forgotten."""
        tallies = np.frombuffer(self._attachment.programs.per_cpu_values("tallies"), TALLY)
        used = tallies[tallies["netns"] != 0]
        found: Counter[int] = Counter()
        for netns, count in zip(used["netns"].tolist(), used["count"].tolist(), strict=True):
            found[netns] += count
        return found

    def _by_reason(self, found: dict[bytes, int]) -> Counter[tuple[int, Kind, str]]:
        keys = np.frombuffer(b"".join(found), COUNTED)
        words = self._words(keys)
        summed: Counter[tuple[int, Kind, str]] = Counter()
        for netns, kind, word, count in zip(keys["netns"].tolist(), keys["kind"].tolist(), words, found.values(), strict=True):
            summed[netns, Kind(kind), word] += count
        return summed

    def _words(self, keys: NDArray[np.void]) -> Iterator[str]:
        left = keys["kind"] == Kind.DESTROY
        callers = frozenset(keys["caller"][left].tolist())
        if callers - self._callers:
            # Perhaps of a module that was loaded since.
            self._callers |= callers
            self._reasons = DestroyReasons(Symbols.read())
        caller, iterator = (np.ascontiguousarray(keys[name]) for name in ("caller", "iterator"))
        reasons, _ = self._reasons.of(caller, iterator, keys["asked"] != 0, keys["flags"] & FLAG_KILLED != 0)
        for is_left, why, reason, kind in zip(
            left.tolist(), reasons.tolist(), keys["reason"].tolist(), keys["kind"].tolist(), strict=True
        ):
            yield destroy_name(why) if is_left else drop_name(reason) if kind == Kind.DROP else ""

    def missed(self) -> int:
        """Calls that a program missed (Linux >= 5.12; 0 before), what found no room in a map, and looks that found probes off."""
        programs = self._attachment.programs
        self._off += self._attachment.switched_off() is not None
        return programs.missed_by_any() + sum(programs.per_cpu("uncounted", 0)) + self._off

    def lengths(self) -> Lengths | None:
        """By the pass that copies no entry; raises as Counting has it, and KernelLacks where nf_conntrack was unloaded."""
        if self._reader is None:
            return None
        for _ in range(READ_TRIES):
            found = self._reader.lengths()
            if found is not None:
                return found
        raise CtobserveError(RESIZING)

    def forget(self, gone: Collection[int]) -> None:
        """Make room of what was counted in these namespaces."""
        if not gone:
            return
        programs = self._attachment.programs
        programs.forget("inserts", [inum.to_bytes(4, "little") for inum in gone])
        self._forgotten.update({inum: count - self._forgotten[inum] for inum, count in self._tallied().items() if inum in gone})
        keys = list(programs.counts("counts"))
        of_gone = np.isin(np.frombuffer(b"".join(keys), COUNTED)["netns"], list(gone))
        programs.forget("counts", [key for key, there in zip(keys, of_gone.tolist(), strict=True) if there])
