"""The table in the forms of `list` that are no JSON."""

from __future__ import annotations

from collections.abc import Iterator

from ctobserve.documents.list import ListDocument, Listing
from ctobserve.render.csvout import csv_lines
from ctobserve.render.kernel_lines import kernel_lines
from ctobserve.render.lines import entry_lines


def table_lines(found: ListDocument, columns: int | None = None) -> Iterator[str]:
    """For people. `columns`: of the terminal, None: each entry is one line."""
    shown = found.entries
    return entry_lines(shown.entries, shown.clock, found.meta.labels, shown.masters, columns, shown.helpers, shown.owners)


def csv(found: ListDocument) -> Iterator[str]:
    """With every column."""
    shown = found.entries
    return csv_lines(shown.entries, shown.masters, shown.clock, shown.helpers, shown.owners)


def listing_lines(found: Listing) -> Iterator[str]:
    """The kernel's own."""
    return kernel_lines(found.entries, found.extensions, found.clock, found.host)


def listing_notes(found: Listing) -> Iterator[str]:
    """What the lines do not say."""
    if found.left_out:
        yield f"left out, as the kernel would: {found.left_out} entries, expired or hashed by their reply alone"
    if found.unnamed:
        yield "secctx= is missing where an entry has a security id that only the kernel can name"
