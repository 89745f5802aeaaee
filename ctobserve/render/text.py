"""Sums and findings for people: under 100 columns, same facts as JSON, `-` for unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ctobserve.render.rows import Row


def packet_line(row: Row, netns: Mapping[int, str]) -> str:
    """Packets of one conntrack state at one hook."""
    where = netns.get(row["netns"], row["netns"])
    return f"{row['ts'][11:23]} packets {where:<8} {row['hook']:<11} {row['state']:<11} {row['packets']}"


def balance_lines(report: Mapping[str, Any], netns: Mapping[int, str]) -> Iterable[str]:
    """Our sums by reason beside the kernel's counters, in total and for each namespace that lost something."""
    hidden = report["meta"]["drops_not_shown"]
    if hidden:
        yield f"... and {hidden} more (--limit)"
    moved = [inum for inum, part in report["by_netns"].items() if part["by_reason"] or any(part["kernel_counters"].values())]
    for inum in moved if len(moved) > 1 else []:
        part = report["by_netns"][inum]
        kernel = _sums({name: count for name, count in part["kernel_counters"].items() if count})
        yield f"{netns.get(int(inum), inum)}: {_sums(part['by_reason']) or 'nothing'}; kernel: {kernel or 'none moved'}"
    kept = f"; {report['clash_resolved']} clashes resolved, no loss" if report["clash_resolved"] else ""
    kernel = ", ".join(f"{name} +{count}" for name, count in report["kernel_counters"].items() if count)
    rest = ", ".join(f"{name} {count:+}" for name, count in report["unaccounted"].items())
    yield f"By reason:       {_sums(report['by_reason']) or 'nothing was lost'}{kept}"
    if not report["kernel_counters"]:
        yield "Kernel counters: not readable here, so nothing can be compared"
        return
    yield f"Kernel counters: {kernel or 'none moved'}"
    yield f"Unaccounted:     {rest or 'nothing: our reasons explain every count'}"
    if {"invalid", "error"} & set(report["unaccounted"]):
        yield "                 (--invalid shows those packets, at the cost of a probe per packet)"


def _sums(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def verify_lines(report: Mapping[str, Any], only_ours: Iterable[str], only_kernel: Iterable[str]) -> Iterable[str]:
    """Equal or not, and every lasting difference by name: entries of one side alone as `described` has them."""
    beside = "" if report["netlink"] is None else ", and netlink dumps"
    verdict = "EQUAL" if report["equal"] else "NOT EQUAL"
    yield f"{verdict}: {report['ours']} entries here, {report['kernel']} in a walk of the kernel's table{beside}"
    for entries, words in ((only_ours, "only here"), (only_kernel, "only in the kernel")):
        for entry in entries:
            yield f"  {words}: {entry}"
    for item in report["field_diffs"]:
        yield f"  {item['ct']} {item['field']}: here {item['ours']}, kernel {item['kernel']}"
    if report["netlink"] and any(report["netlink"].values()):
        counts = report["netlink"]
        yield f"  netlink: {counts['only_ours']} entries only here, {counts['only_kernel']} only in the dumps"


def check_lines(report: Mapping[str, Any]) -> Iterable[str]:
    """Findings, then the hooks that will be used."""
    marks = {True: "ok", False: "MISSING", None: "partly"}
    yield f"kernel {report['meta']['kernel']} {report['meta']['machine']}"
    for item in report["findings"]:
        yield f"  {marks[item['ok']]:<8} {item['name']:<10} {item['found']}" + (f"; {item['do']}" if item["do"] else "")
    for item in report["hooks"]:
        where = item["function"] or "not in this kernel: blind to it"
        yield f"  {item['form'] if item['function'] else '-':<18} {where:<32} per {item['each']:<13} {item['tells']}"


def summary_line(meta: Mapping[str, Any]) -> str:
    """What every report ends with: how much was seen, lost, and how old the table is."""
    age = meta["table_age_s"]
    lost = f"{meta['events_lost']} lost" if meta["events_lost"] else "none lost"
    return (
        f"{meta['events_seen']} events seen, {lost}, in {meta['duration_s']:.1f} s ({meta['attach']})"
        f"{'' if age is None else f'; table read {age:.1f} s ago'}"
    )
