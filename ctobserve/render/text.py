"""Sums and findings for people: what JSON says, in few words, `-` for unknown; docs/json.md has what text leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ctobserve.render.folding import CLAUSE, fitted, folded, width
from ctobserve.render.rows import Row

HANGING = " " * 17


def packet_line(row: Row, netns: Mapping[int, str], columns: int | None = None) -> str:
    """Packets of one conntrack state at one hook. `columns`: of the terminal, None: it is one line."""
    where = netns.get(row["netns"], str(row["netns"])) if row["netns"] else "-"
    return fitted(f"{row['ts'][11:23]} packets {where:<8}{CLAUSE}{row['hook']:<11} {row['state']:<11} {row['packets']}", columns)


def balance_lines(report: Mapping[str, Any], netns: Mapping[int, str]) -> Iterable[str]:
    """Our sums by reason beside the kernel's counters, in total and for each namespace that lost something."""
    hidden = report["meta"]["drops_not_shown"]
    if hidden:
        yield f"... and {hidden} more (--limit)"
    moved = [inum for inum, part in report["by_netns"].items() if part["by_reason"] or any(part["kernel_counters"].values())]
    for inum in moved if len(moved) > 1 or report["meta"]["netns"] == "all" else []:
        part = report["by_netns"][inum]
        kernel = _sums({name: count for name, count in part["kernel_counters"].items() if count})
        rest = f"; unaccounted: {_signed(part['unaccounted'])}" if part["unaccounted"] else ""
        sums = f"{_sums(part['by_reason']) or 'nothing'}; kernel: {kernel or 'none moved'}{rest}"
        yield from folded(f"{netns.get(int(inum), inum)}: {sums}")
    kept = f"; {report['clash_resolved']} clashes resolved, no loss" if report["clash_resolved"] else ""
    kernel = ", ".join(f"{name} +{count}" for name, count in report["kernel_counters"].items() if count)
    yield from folded(f"By reason:       {_sums(report['by_reason']) or 'nothing was lost'}{kept}", HANGING)
    if not report["kernel_counters"]:
        yield "Kernel counters: not readable here, so nothing can be compared"
        return
    yield from folded(f"Kernel counters: {kernel or 'none moved'}", HANGING)
    if report["not_compared"]:
        yield from folded(f"Not compared:    {_sums(report['not_compared'])}, where the counters can no longer be read", HANGING)
    rest = _signed(report["unaccounted"])
    yield from folded(f"Unaccounted:     {rest or 'nothing: our reasons explain every count'}", HANGING)
    if {"invalid", "error"} & set(report["unaccounted"]):
        yield f"{HANGING}(--invalid shows those packets, at the cost of a probe per packet)"


def _sums(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _signed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:+}" for name, count in counts.items())


def check_lines(report: Mapping[str, Any]) -> Iterable[str]:
    """Findings, then the hooks that will be used."""
    marks = {True: "ok", False: "MISSING", None: "partly"}
    yield f"kernel {report['meta']['kernel']} {report['meta']['machine']}"
    for item in report["findings"]:
        *before, last = folded(f"  {marks[item['ok']]:<8} {item['name']:<10} {item['found']}", " " * 22)
        yield from before
        # What to do is pasted: it stays whole.
        whole = f"{last}; {item['do']}" if item["do"] else last
        yield from (whole,) if len(whole) <= width() else (f"{last};", " " * 22 + item["do"])
    for item in report["hooks"]:
        where = item["function"] or "not in this kernel: blind to it"
        # Of a pair the return says it all: it is nothing without the entry.
        form = item["form"].rpartition(" + ")[2] if item["function"] else "-"
        yield from folded(f"  {where:<31} {form:<9} per {item['each']:<13} {item['tells']}", " " * 22)


def summary_line(meta: Mapping[str, Any]) -> str:
    """What every report ends with: how much was seen and lost, how old the table is, and whatever makes it doubtful."""
    lost = f"{meta['events_lost']} lost ({_sums(meta['lost_by_kind'])})" if meta["events_lost"] else "none lost"
    words = [f"{meta['events_seen']} events seen, {lost}, in {meta['duration_s']:.1f} s ({meta['attach']})"]
    if meta["table_age_s"] is not None:
        by = "" if meta["table_source"] == "walk" else f" by {meta['table_source']}"
        words.append(f"table read{by} {meta['table_age_s']:.1f} s ago")
    if meta["table_uncertain_s"]:
        words.append(f"it was wrong for up to {meta['table_uncertain_s']} s, as records were lost")
    if meta["buckets_unread"]:
        what = "buckets" if meta["table_source"] == "walk" else "entries"
        words.append(f"{meta['buckets_unread']} {what} could not be read")
    if meta["not_attached"]:
        words.append(f"not attached, so not seen: {', '.join(meta['not_attached'])}")
    if meta["evictions_unpaired"]:
        words.append(f"{meta['evictions_unpaired']} evictions of which it is not known for whom")
    return "; ".join(words)
