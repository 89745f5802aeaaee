"""The sums of `ctobserve drops` for people; the losses themselves are rows of a stream (render/stream.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ctobserve.documents.drops import DropsDocument
from ctobserve.render.folding import folded
from ctobserve.render.owners import with_owner

HANGING = " " * 17


def balance_lines(document: DropsDocument) -> Iterable[str]:
    """Our sums by reason beside the kernel's counters, in total and for each namespace that lost something."""
    meta = document.meta
    if meta.drops_not_shown:
        yield f"... and {meta.drops_not_shown} more (--limit)"
    moved = [inum for inum, part in document.by_netns.items() if part.by_reason or any(part.kernel_counters.values())]
    for inum in moved if len(moved) > 1 or meta.netns == "all" else []:
        part = document.by_netns[inum]
        kernel = _sums({name: count for name, count in part.kernel_counters.items() if count})
        rest = f"; unaccounted: {_signed(part.unaccounted)}" if part.unaccounted else ""
        counted = f"{_sums(part.by_reason) or 'nothing'}; kernel: {kernel or 'none moved'}{rest}"
        label = meta.netns_names.get(inum, inum)
        yield from folded(f"{with_owner(label, meta.owners.get(int(inum)))}: {counted}")
    kept = f"; {document.clash_resolved} clashes resolved, no loss" if document.clash_resolved else ""
    kernel = ", ".join(f"{name} +{count}" for name, count in document.kernel_counters.items() if count)
    yield from folded(f"By reason:       {_sums(document.by_reason) or 'nothing was lost'}{kept}", HANGING)
    if not document.kernel_counters:
        where = "not read at both ends of this stretch of the recording" if meta.from_recording else "not readable here"
        yield f"Kernel counters: {where}, so nothing can be compared"
        return
    yield from folded(f"Kernel counters: {kernel or 'none moved'}", HANGING)
    if document.not_compared:
        yield from folded(f"Not compared:    {_sums(document.not_compared)}, where the counters can no longer be read", HANGING)
    rest = _signed(document.unaccounted)
    yield from folded(f"Unaccounted:     {rest or 'nothing: our reasons explain every count'}", HANGING)
    if {"invalid", "error"} & set(document.unaccounted):
        yield f"{HANGING}(--invalid shows those packets, at the cost of a probe per packet)"


def _sums(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _signed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:+}" for name, count in counts.items())
