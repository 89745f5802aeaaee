"""ctobserve buckets: how the entries are spread over the hash."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from ctobserve.analysis.buckets import Distribution, distribution
from ctobserve.analysis.lookup import KERNEL_LIMIT
from ctobserve.capture.filters import Filter
from ctobserve.capture.table import in_bucket, lengths_of
from ctobserve.clock import Clock
from ctobserve.commands.help import Command, Example
from ctobserve.commands.options import OF_NETNS, OF_TUPLE, SOURCE, common_options, limit_to
from ctobserve.commands.session import Session, observe, out
from ctobserve.documents.request import Request
from ctobserve.host import counters
from ctobserve.programs.hooks import Purpose
from ctobserve.render.folding import room
from ctobserve.render.jsonout import document
from ctobserve.render.lines import described
from ctobserve.render.rows import entry_rows
from ctobserve.render.spread import bucket_lines

LONGEST = 5


@click.command(
    cls=Command,
    examples=(
        Example("how evenly the hash is filled, and who is in the longest chains", "ctobserve buckets"),
        Example("the twenty longest chains, and what 10.0.0.0/8 has in them", "ctobserve buckets --limit 20 --src 10.0.0.0/8"),
    ),
)
@common_options(OF_NETNS, OF_TUPLE, limit_to("Show the N longest chains. Default: 5."), SOURCE)
def buckets(request: Request) -> None:
    """Chain lengths: how many buckets hold how many nodes, beside what a perfect hash would give, and the longest chains.

    The hash is shared by all network namespaces, so the distribution is always that of all entries; filters choose which
    entries of the longest chains are named.
    """
    follow = bool(request.duration)
    with observe("buckets", request, Purpose.TABLE if follow else Purpose(0), table=follow, stream=False) as session:
        session.ready()
        for _ in session.watch() if follow else ():
            pass
        limit = LONGEST if request.limit is None else request.limit
        found = _of_table(session, limit) if follow else distribution(session.observer.lengths(), limit, session.observer.chain)
        report = {"meta": session.meta()} | as_rows(found, session.observer.clock(), request.filter, counters.limits_chains())
        if request.json:
            out([document(report)])
        else:
            labels = session.labels()
            named = [described(request.filter.passing(chain.entries), labels) for chain in found.longest]
            out(bucket_lines(report, named, room()))
        session.finish(report["meta"])


def _of_table(session: Session, limit: int) -> Distribution:
    """Of the table as followed by events."""
    entries = session.observer.table.entries()
    lengths = lengths_of(entries, session.observer.buckets)
    return distribution(lengths, limit, lambda bucket: in_bucket(entries, bucket))


def as_rows(found: Distribution, clock: Clock, only: Filter, limits_chains: bool | None) -> dict[str, Any]:
    """The JSON contract's body of a distribution; `limits_chains`: this kernel refuses entries where a chain is too long."""
    return {
        "buckets": found.buckets,
        "entries": found.entries,
        "nodes": found.nodes,
        "load_factor": found.load_factor,
        "histogram": {str(length): count for length, count in found.histogram.items()},
        "expected": {str(length): round(count, 3) for length, count in found.expected.items()},
        "max_chain": found.max_chain,
        "chain_limit_from": KERNEL_LIMIT if limits_chains else None,
        "verdict": found.verdict,
        "lookup": asdict(found.lookup),
        "what_if": [asdict(choice) for choice in found.what_if],
        "longest_by_part": found.longest_by_part,
        "longest": [
            {
                "bucket": chain.bucket,
                "length": chain.length,
                "entries": entry_rows(only.passing(chain.entries), clock),
            }
            for chain in found.longest
        ],
    }
