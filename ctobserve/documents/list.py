"""The table now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.chains import with_chains
from ctobserve.analysis.helped import names_of, worth_asking
from ctobserve.analysis.printed import printed
from ctobserve.capture.capture import Capture, Host
from ctobserve.capture.extensions import Extensions
from ctobserve.capture.table import lengths_of
from ctobserve.capture.watch import Stretch, wait_out
from ctobserve.clock import Clock
from ctobserve.documents.base import EntryRows, doc
from ctobserve.documents.meta import Meta, meta_of
from ctobserve.documents.request import Request
from ctobserve.model import Entries


@dataclass(frozen=True)
class ListDocument:
    """Every entry that the filter lets pass."""

    meta: Meta = doc("who says it, and what makes it doubtful")
    entries: EntryRows = doc("in no particular order; no more than `--limit`")


class Listing(NamedTuple):
    """What the kernel's own listing would print: no JSON. `extensions` has a row for each of `entries`.

    `left_out` counts those of the whole table that the kernel would not print.
    """

    host: Host
    clock: Clock
    entries: Entries
    extensions: Extensions
    left_out: int

    @property
    def unnamed(self) -> bool:
        """Some have a security id of which only the kernel knows the name."""
        return bool(set(self.extensions["secmark"].tolist()) - {0, *self.host.security_contexts})


def collect(capture: Capture, request: Request, stretch: Stretch) -> ListDocument:
    """After a stretch of time in which events were followed the table is read anew."""
    wait_out(capture, stretch)
    if request.duration:
        capture.follow()
    whole = capture.table.entries()
    shown = with_chains(request.filter.passing(whole)[: request.limit], lengths_of(whole, capture.buckets))
    if request.duration:
        # Rows that stayed have the time of their insert, and the timeout that was read just now.
        shown["seen_ns"] = np.maximum(shown["seen_ns"], np.uint64(capture.fidelity().read_ns))
    masters = capture.table.find(shown["master"][shown["master"] != 0])
    clock = capture.clock()
    where = worth_asking(shown)
    helped = capture.helped(where) if where else None
    helpers = None if helped is None else names_of(shown, helped)
    meta = meta_of("list", capture, request)
    return ListDocument(meta, EntryRows(shown, clock, masters, helpers, meta.owners))


def collect_listing(capture: Capture, request: Request, stretch: Stretch) -> Listing:
    """By one reading with extensions; its instant is that of the times in it."""
    wait_out(capture, stretch)
    whole, clock = capture.snapshot(extensions=True), capture.clock()
    shown = printed(whole.entries, clock)
    keep = (shown & request.filter.mask(whole.entries)).nonzero()[0][: request.limit]
    left_out = len(shown) - int(shown.sum())
    return Listing(capture.host, clock, whole.entries[keep], whole.extensions[keep], left_out)
