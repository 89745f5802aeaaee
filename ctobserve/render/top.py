"""One frame of `ctobserve top` for people."""

from __future__ import annotations

from collections.abc import Iterable

from ctobserve.documents.base import Labels
from ctobserve.documents.top import Frame
from ctobserve.render.folding import folded
from ctobserve.render.groups import group_words
from ctobserve.render.owners import with_owner

GAUGE, GAUGES = 30, 3
SOON_S = 3600.0  # what is further off depends on too much else


def frame_lines(frame: Frame, labels: Labels) -> Iterable[str]:
    """Rates, fill level of the fullest namespaces, losses, then the groups."""
    offloaded = f" ({frame.entries_offloaded} offloaded)" if frame.entries_offloaded else ""
    yield (
        f"{frame.ts[11:19]}  {frame.entries} entries{offloaded}, new {frame.new_per_s}/s, gone {frame.gone_per_s}/s, "
        f"lost {frame.lost_per_s}/s; longest chain {frame.max_chain}{_at(frame)} in {frame.buckets} buckets"
    )
    counts, limits = frame.entries_by_netns, frame.max_by_netns
    shares = {inum: count / limit if (limit := limits[inum]) else 0 for inum, count in counts.items()}
    fullest = sorted(counts, key=lambda inum: (-shares[inum], -counts[inum]))
    for inum in fullest[:GAUGES]:
        limit, share = limits[inum], shares[inum]
        gauge = ("#" * round(GAUGE * min(share, 1))).ljust(GAUGE)
        level = f"{100 * share:5.1f} % of {limit}" if limit else "    - % of -"
        left = frame.full_in_s_by_netns.get(inum)
        where = with_owner(labels.get(int(inum), inum), frame.owner_by_netns.get(inum))
        yield from folded(f"  [{gauge}] {level}: {counts[inum]} in {where}{full_in(left)}", " " * (GAUGE + 5))
    others = fullest[GAUGES:]
    if others:
        yield f"  and {sum(counts[inum] for inum in others)} in {len(others)} other namespaces"
    if frame.lost_by_reason:
        yield "  lost: " + ", ".join(f"{reason} {count}" for reason, count in frame.lost_by_reason.items())
    if frame.events_lost:
        yield f"  {frame.events_lost} records lost so far, so numbers may be too low; try a larger --ring-mib"
    if frame.not_grouped:
        yield f"  {frame.not_grouped} new or lost are in no group below: there were too many groups"
    yield f"{'ENTRIES':>9} {'NEW/s':>9} {'LOST':>7}  {', '.join(name.upper() for name in frame.by)}"
    for group in frame.groups:
        words = group_words(frame.by, group.values, labels)
        yield f"{group.entries:>9} {group.new_per_s:>9} {group.lost:>7}  {words}"
    yield ""


def _at(frame: Frame) -> str:
    """Where the longest chain is, unless every chain is as short as can be."""
    return f" (bucket {frame.longest_bucket})" if frame.max_chain > 1 else ""


def full_in(left_s: float | None) -> str:
    """When a namespace will be full, if that is soon; of one that is, its gauge says so."""
    return f", full in {lasting(left_s)}" if left_s and left_s <= SOON_S else ""


def lasting(seconds: float) -> str:
    """How long something takes or is ago, in two digits or so: `0.9 s`, `12 min`, `3 h`, `9 d`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for unit, size, until in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < until:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
