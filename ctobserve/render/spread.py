"""The distribution for people: bars, the table as a strip, what a lookup costs, the longest chains."""

from __future__ import annotations

from collections.abc import Iterable

from ctobserve.documents.buckets import BucketsDocument
from ctobserve.render.folding import fitted, folded
from ctobserve.render.lines import described

BAR = 40


def bucket_lines(found: BucketsDocument, columns: int | None = None) -> Iterable[str]:
    """The distribution with a bar per chain length, what a lookup costs, and the longest chains with their entries in words.

    `columns`: of the terminal, None: each entry is one line.
    """
    limit = found.chain_limit_from
    yield (
        f"{found.entries} entries, {found.nodes} nodes in {found.buckets} buckets; "
        f"load factor {found.load_factor:.3f}; longest chain {found.max_chain}"
    )
    yield from folded(f"Spread: {found.verdict}")
    yield ""
    yield f"{'LENGTH':>6} {'BUCKETS':>9} {'EXPECTED':>11}  # seen, | expected"
    most = max(found.histogram.values())
    for length, count in found.histogram.items():
        yield f"{length:>6} {count:>9} {found.expected[length]:>11.1f}  {_bar(count, found.expected[length], most)}"
    yield ""
    refused = f" (from {limit} nodes on the kernel refuses new entries)" if limit else ""
    yield f"Longest chain in each {len(found.longest_by_part)}th of the buckets{refused}:"
    yield "  " + "".join(_digit(length) for length in found.longest_by_part)
    yield ""
    yield f"{'BUCKETS':>9} {'NODES/BUCKET':>12} {'KNOWN':>6} {'NEW':>6} {'WORST':>6}  nodes a lookup visits"
    for choice, words in ((found.lookup, "now"), *((choice, "if so many") for choice in found.what_if)):
        known = "-" if choice.known_mean is None else f"{choice.known_mean:.2f}"
        sizes = f"{choice.buckets:>9} {choice.load_factor:>12.3f}"
        yield f"{sizes} {known:>6} {choice.new_mean:>6.2f} {choice.worst:>6}  {words}"
    if found.longest:
        yield ""
        yield "Longest chains:"
    for chain in found.longest:
        yield f"  bucket {chain.bucket}: {chain.length} nodes"
        for entry in described(chain.entries.entries, found.meta.labels):
            yield fitted(f"    {entry}", columns)


def _bar(count: int, expected: float, most: int) -> str:
    """What is seen as a bar, what was expected as a mark on it or beyond."""
    bar = list("#" * max(round(BAR * count / most), 1 if count else 0))
    at = min(round(BAR * expected / most), BAR + 10)
    if expected >= 0.5:
        bar += " " * (at + 1 - len(bar))
        bar[at] = "|"
    return "".join(bar)


def _digit(length: int) -> str:
    """A chain's length in one column: digits, letters from 10 on, + from 36 on."""
    return "." if not length else "0123456789abcdefghijklmnopqrstuvwxyz"[length] if length < 36 else "+"
