"""How the entries are spread over the hash."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ctobserve.analysis.buckets import distribution
from ctobserve.analysis.lookup import KERNEL_LIMIT, Lookup
from ctobserve.capture.capture import Capture
from ctobserve.capture.table import Lengths, in_bucket, lengths_of
from ctobserve.capture.watch import Stretch, wait_out
from ctobserve.documents.base import EntryRows, doc
from ctobserve.documents.chains import HashCells, cells_of
from ctobserve.documents.meta import Meta, meta_of
from ctobserve.documents.request import Request
from ctobserve.model import Entries, in_order

LONGEST = 5


@dataclass(frozen=True)
class LookupCost:
    """Nodes that a lookup visits with so many buckets."""

    buckets: int = doc("size of the hash")
    load_factor: float = doc("nodes per bucket")
    known_mean: float | None = doc("nodes visited to find a tuple that is there, in the mean; null without nodes")
    new_mean: float = doc("nodes visited to find that a tuple is not there, in the mean")
    worst: int = doc("nodes in the longest chain; in `what_if` in the longest to be expected")


@dataclass(frozen=True)
class LongChain:
    """One of the longest chains."""

    bucket: int = doc("its number")
    length: int = doc("nodes in it")
    entries: EntryRows = doc("those with a node in it that the filter lets pass")


@dataclass(frozen=True)
class BucketsDocument:
    """Chain lengths over all buckets, which all network namespaces share."""

    meta: Meta = doc("who says it, and what makes it doubtful")
    buckets: int = doc("size of the hash")
    entries: int = doc("in the table")
    nodes: int = doc("in all chains: an entry has one per direction")
    load_factor: float = doc("nodes per bucket")
    histogram: Mapping[str, int] = doc("nodes -> buckets with so many; sums to `buckets` and, weighted by length, to `nodes`")
    expected: Mapping[str, float] = doc("the same as a perfect hash would give it")
    max_chain: int = doc("nodes in the longest chain")
    chain_limit_from: int | None = doc("from so many nodes on the kernel may refuse new entries; null: it never does")
    verdict: str = doc("the spread in one sentence")
    lookup: LookupCost = doc("what a lookup costs now")
    what_if: tuple[LookupCost, ...] = doc("what it would cost with half, twice and four times the buckets")
    longest_by_part: tuple[int, ...] = doc("nodes in the longest chain of each of 64 equal parts of the hash, in order")
    longest: tuple[LongChain, ...] = doc("the longest chains, longest first; no more than `--limit`")
    cells: HashCells = doc("the hash as a picture")


def collect(capture: Capture, request: Request, stretch: Stretch) -> BucketsDocument:
    """Of the chains as they are at the end; with a duration, of the table as events have made it."""
    wait_out(capture, stretch)
    limit = LONGEST if request.limit is None else request.limit
    lengths, chain = _of_table(capture) if request.duration else (capture.lengths(), capture.chain)
    found = distribution(lengths, limit, chain)
    clock = capture.clock()
    return BucketsDocument(
        meta=meta_of("buckets", capture, request),
        buckets=found.buckets,
        entries=found.entries,
        nodes=found.nodes,
        load_factor=found.load_factor,
        histogram={str(length): count for length, count in found.histogram.items()},
        expected={str(length): round(count, 3) for length, count in found.expected.items()},
        max_chain=found.max_chain,
        chain_limit_from=KERNEL_LIMIT if capture.host.limits_chains else None,
        verdict=found.verdict,
        lookup=_cost(found.lookup),
        what_if=tuple(map(_cost, found.what_if)),
        longest_by_part=tuple(found.longest_by_part),
        longest=tuple(
            LongChain(chain.bucket, chain.length, EntryRows(in_order(request.filter.passing(chain.entries)), clock))
            for chain in found.longest
        ),
        cells=cells_of(lengths.of_bucket),
    )


def _of_table(capture: Capture) -> tuple[Lengths, Callable[[int], Entries]]:
    entries = capture.table.entries()
    return lengths_of(entries, capture.buckets), lambda bucket: in_bucket(entries, bucket)


def _cost(found: Lookup) -> LookupCost:
    return LookupCost(found.buckets, found.load_factor, found.known_mean, found.new_mean, found.worst)
