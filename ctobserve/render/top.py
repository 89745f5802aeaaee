"""One frame of `ctobserve top` for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

GAUGE = 30


def frame_lines(frame: Mapping[str, Any], netns: Mapping[int, str]) -> Iterable[str]:
    """Fill level of the fullest namespace, rates, losses, then the groups."""
    yield (
        f"{frame['ts'][11:19]}  {frame['entries']} entries, new {frame['new_per_s']}/s, gone {frame['gone_per_s']}/s, "
        f"lost {frame['lost_per_s']}/s; longest chain {frame['max_chain']} in {frame['buckets']} buckets"
    )
    limit, spaces = frame["max"], frame["entries_by_netns"]
    for inum in sorted(spaces, key=lambda inum: -spaces[inum])[:3]:
        share = spaces[inum] / limit if limit else 0
        gauge = ("#" * round(GAUGE * min(share, 1))).ljust(GAUGE)
        yield f"  [{gauge}] {100 * share:5.1f} % of {limit or '-'}: {spaces[inum]} in {netns.get(int(inum), inum)}"
    if frame["lost_by_reason"]:
        yield "  lost: " + ", ".join(f"{reason} {count}" for reason, count in frame["lost_by_reason"].items())
    if frame["events_lost"]:
        yield f"  {frame['events_lost']} records lost so far: the ring was full; try a larger --ring-mib"
    yield f"{'ENTRIES':>9} {'NEW/s':>9} {'LOST':>7}  {', '.join(name.upper() for name in frame['by'])}"
    for group in frame["groups"]:
        words = [_word(name, value, netns) for name, value in zip(frame["by"], group["values"], strict=True)]
        yield f"{group['entries']:>9} {group['new_per_s']:>9} {group['lost']:>7}  {' '.join(words)}"
    yield ""


def _word(name: str, value: object, netns: Mapping[int, str]) -> str:
    if name == "netns" and isinstance(value, int):
        return netns.get(value, str(value))
    if isinstance(value, bool):
        return name if value else f"not {name}"
    return "-" if value is None else str(value)
