"""All that is compared of one instant of a recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.groups import Owners
from ctobserve.capture.filters import Filter
from ctobserve.capture.recorded import RecordedCapture
from ctobserve.capture.table import lengths_of
from ctobserve.clock import NS_PER_S, Clock
from ctobserve.documents.base import doc
from ctobserve.documents.limits import limits
from ctobserve.host.counters import Reading
from ctobserve.model import Entries


@dataclass(frozen=True)
class DiffInstant:
    """The table at one of the two instants."""

    at: str = doc("ISO 8601, UTC, ns")
    file: str = doc("name of the recording")
    kernel: str = doc("uname -r")
    entries: int = doc("in the table, of those that the filter lets pass")
    buckets: int = doc("size of the hash")
    max_chain: int = doc("nodes in the longest chain")
    events_lost: int = doc("records lost in the recording until then, and rows of it that cannot be read")
    table_uncertain_s: float = doc("how long the table was wrong until then because records were lost")


class Taken(NamedTuple):
    """What is needed of an instant when its capture is gone, which has a table that is as large again.

    `shown` are the entries that `only` lets pass. By inode number of the namespace: `names`, `owners`, `entries` (how many,
    whatever the filter), `limits` and `sysctls`, those of the one that was asked for. `counters` of all are those that were read
    last, and `read_ns` is when that was (CLOCK_MONOTONIC).
    """

    clock: Clock
    boot: str | None
    only: Filter
    shown: Entries
    told: DiffInstant
    names: Mapping[int, str]
    owners: Owners
    entries: Mapping[int, int]
    limits: Mapping[int, int | None]
    sysctls: Mapping[int, Mapping[str, int | None]]
    read_ns: int
    counters: Reading


def take(capture: RecordedCapture, only: Filter) -> Taken:
    """Of the instant that the capture begins with."""
    whole = capture.table.entries()
    inums, counts = (column.tolist() for column in np.unique(whole["netns"], return_counts=True))
    max_chain = int(lengths_of(whole, capture.buckets).of_bucket.max(initial=0))
    shown = only.passing(whole)
    whose, states = capture.whose(), capture.namespaces(sysctls=None)
    names = {**{inum: str(inum) for inum in inums}, **{inum: one.label for inum, one in whose.items()}}
    read_ns, counters = capture.last_counters()
    told = capture.fidelity()
    return Taken(
        clock=capture.started,
        boot=capture.host.boot,
        only=only,
        shown=shown,
        told=DiffInstant(
            at=capture.started.iso(capture.now_ns()),
            file=told.recorded_in or "",
            kernel=capture.host.release,
            entries=len(shown),
            buckets=capture.buckets,
            max_chain=max_chain,
            events_lost=sum(told.lost.values()),
            table_uncertain_s=round(told.uncertain_ns / NS_PER_S, 3),
        ),
        names=names,
        owners={inum: one.owner for inum, one in whose.items() if one.owner},
        entries={**dict.fromkeys(whose, 0), **dict(zip(inums, counts, strict=True))},
        limits=limits(names, states),
        sysctls={inum: one.sysctls for inum, one in states.items() if one.sysctls and only.netns in (None, inum)},
        read_ns=read_ns,
        counters=counters,
    )
