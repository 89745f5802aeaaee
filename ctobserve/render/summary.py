"""The line that every command ends with."""

from __future__ import annotations

from ctobserve.documents.meta import Meta


def summary_line(meta: Meta) -> str:
    """How much was seen and lost, how old the table is, and whatever makes it doubtful."""
    kinds = ", ".join(f"{kind} {count}" for kind, count in meta.lost_by_kind.items())
    lost = f"{meta.events_lost} lost ({kinds})" if meta.events_lost else "none lost"
    seen = meta.events_seen if meta.events_seen_in_netns is None else meta.events_seen_in_netns
    words = [f"{seen} events seen, {lost}, in {meta.duration_s:.1f} s ({meta.attach})"]
    if meta.from_recording is not None:
        words.append(f"from {meta.from_recording}")
    if meta.table_age_s is not None:
        by = "" if meta.table_source == "walk" else f" by {meta.table_source}"
        words.append(f"table read{by} {meta.table_age_s:.1f} s ago")
    if meta.table_uncertain_s:
        words.append(f"it was wrong for up to {meta.table_uncertain_s} s, as records were lost")
    if meta.buckets_unread:
        what = "buckets" if meta.table_source == "walk" else "entries"
        words.append(f"{meta.buckets_unread} {what} could not be read")
    if meta.not_attached:
        words.append(f"not attached, so not seen: {', '.join(meta.not_attached)}")
    if meta.evictions_unpaired:
        words.append(f"{meta.evictions_unpaired} evictions of which it is not known for whom")
    return "; ".join(words)
