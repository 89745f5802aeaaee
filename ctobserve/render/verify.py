"""A proof for people: equal or not, and every difference that lasted."""

from __future__ import annotations

from collections.abc import Iterable

from ctobserve.documents.verify import VerifyDocument
from ctobserve.render.folding import CLAUSE, fitted, folded
from ctobserve.render.jsonout import plain
from ctobserve.render.lines import described


def verify_lines(found: VerifyDocument, columns: int | None = None) -> Iterable[str]:
    """Equal or not, and every lasting difference by name.

    `columns`: of the terminal, None: each difference is one line.
    """
    which = " of those that could be entered" if found.not_dumped else ""
    beside = "" if found.netlink is None else f", and netlink dumps{which}"
    verdict = "EQUAL" if found.equal else "NOT EQUAL"
    reading = "walk" if found.meta.table_source == "walk" else "listing"
    yield f"{verdict}: {found.ours} entries here, {found.kernel} in a {reading} of the kernel's table{beside}"
    for side, words in ((found.only_ours, "only here"), (found.only_kernel, "only in the kernel")):
        for entry in described(side.entries, found.meta.labels):
            yield fitted(f"  {words}: {entry}", columns)
    for one in found.field_diffs:
        yield fitted(f"  {one.ct} {one.field}:{CLAUSE}here {plain(one.ours)},{CLAUSE}kernel {plain(one.kernel)}", columns)
    counts = found.differences
    shown = len(found.only_ours) + len(found.only_kernel) + len(found.field_diffs)
    hidden = counts.only_ours + counts.only_kernel + counts.field_diffs - shown
    if hidden:
        yield f"  ... and {hidden} more (--limit)"
    if found.netlink and (found.netlink.only_ours or found.netlink.only_kernel):
        yield f"  netlink: {found.netlink.only_ours} entries only here, {found.netlink.only_kernel} only in the dumps"
    if found.not_dumped:
        inums = ", ".join(map(str, found.not_dumped))
        yield from folded(f"  netlink: no dump of network namespaces {inums}, which could not be entered")
