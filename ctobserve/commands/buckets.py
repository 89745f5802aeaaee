"""ctobserve buckets: how the entries are spread over the hash."""

from __future__ import annotations

import click

from ctobserve.commands.help import Command, Example
from ctobserve.commands.opening import closed, opened, out
from ctobserve.commands.options import AT, FROM, OF_NETNS, OF_TUPLE, SOURCE, common_options, limit_to
from ctobserve.commands.replaying import at_the_end
from ctobserve.documents.buckets import LONGEST, collect
from ctobserve.documents.request import Request
from ctobserve.programs.hooks import Purpose
from ctobserve.render.folding import room
from ctobserve.render.jsonout import document
from ctobserve.render.spread import bucket_lines


@click.command(
    cls=Command,
    examples=(
        Example("how evenly the hash is filled, and who is in the longest chains", "ctobserve buckets"),
        Example("the twenty longest chains, and what 10.0.0.0/8 has in them", "ctobserve buckets --limit 20 --src 10.0.0.0/8"),
    ),
)
@common_options(OF_NETNS, OF_TUPLE, limit_to(f"Show the N longest chains. Default: {LONGEST}."), SOURCE, FROM, AT)
def buckets(request: Request) -> None:
    """Chain lengths: how many buckets hold how many nodes, beside what a perfect hash would give, and the longest chains.

    The hash is shared by all network namespaces, so the distribution is always that of all entries; filters choose which
    entries of the longest chains are named.
    """
    request = at_the_end(request)
    follows = bool(request.duration)
    with opened(request, Purpose.TABLE if follows else Purpose(0), follows=follows, tells=False) as (capture, stretch):
        found = collect(capture, request, stretch)
        out([document(found)] if request.json else bucket_lines(found, room()))
        closed(capture, request, found.meta)
