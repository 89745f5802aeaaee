"""Sums and findings for people: what JSON says, in few words, `-` for unknown; docs/json.md has what text leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ctobserve.render.folding import folded, width


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
