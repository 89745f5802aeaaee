"""What `check` found, for people."""

from __future__ import annotations

from collections.abc import Iterable

from ctobserve.documents.check import CheckDocument
from ctobserve.render.folding import folded, width

MARKS = {True: "ok", False: "MISSING", None: "partly"}
HANGING = " " * 22


def check_lines(document: CheckDocument) -> Iterable[str]:
    """Findings, then the hooks that will be used."""
    yield f"kernel {document.meta.kernel} {document.meta.machine}"
    for item in document.findings:
        *before, last = folded(f"  {MARKS[item.ok]:<8} {item.name:<10} {item.found}", HANGING)
        yield from before
        # What to do is pasted: it stays whole.
        whole = f"{last}; {item.do}" if item.do else last
        yield from (whole,) if len(whole) <= width() else (f"{last};", HANGING + item.do)
    for row in document.hooks:
        where = row.function or "nothing to attach to: blind to it"
        # Of a pair the return says it all: it is nothing without the entry.
        form = row.form.rpartition(" + ")[2] if row.function else "-"
        yield from folded(f"  {where:<31} {form:<9} per {row.each:<13} {row.tells}", HANGING)
