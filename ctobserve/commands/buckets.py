"""ctobserve buckets: how the entries are spread over the hash."""

from __future__ import annotations

from collections.abc import Iterable

import click

from ctobserve.commands.help import OUTPUT, Command, Example, option
from ctobserve.commands.opening import closed, opened, out
from ctobserve.commands.options import AT, FROM, OF_NETNS, OF_TUPLE, SOURCE, chosen_form, common_options, limit_to
from ctobserve.commands.replaying import at_the_end
from ctobserve.documents.buckets import LONGEST, BucketsDocument, collect
from ctobserve.documents.request import Request
from ctobserve.programs.hooks import Purpose
from ctobserve.render.folding import room
from ctobserve.render.spread import bucket_lines


@click.command(
    cls=Command,
    examples=(
        Example("the twenty longest chains, and what 10.0.0.0/8 has in them", "ctobserve buckets --limit 20 --src 10.0.0.0/8"),
        Example("the hash as a picture, for the ticket", "ctobserve buckets --format svg > hash.svg"),
    ),
)
@option(
    OUTPUT, "--format", "form", type=click.Choice(["text", "json", "html", "svg"]), metavar="FORM",
    help="text, json, or the two pictures of the hash: html, one page that stands alone, or svg. Default: text.",
)  # fmt: skip
@common_options(OF_NETNS, OF_TUPLE, limit_to(f"Show the N longest chains. Default: {LONGEST}."), SOURCE, FROM, AT)
def buckets(request: Request, form: str | None) -> None:
    """Chain lengths: how many buckets hold how many nodes, beside what a perfect hash would give, and the longest chains.

    The hash is shared by all network namespaces, so the distribution is always that of all entries; filters choose which
    entries of the longest chains are named.
    """
    form = chosen_form(request, form, "text")
    request = at_the_end(request)
    follows = bool(request.duration)
    with opened(request, Purpose.TABLE if follows else Purpose(0), follows=follows, tells=False) as (capture, stretch):
        found = collect(capture, request, stretch)
        out(bucket_lines(found, room()) if form == "text" else _otherwise(found, form))
        closed(capture, request, found.meta)


def _otherwise(found: BucketsDocument, form: str) -> Iterable[str]:
    """As what most starts need not import."""
    from ctobserve.render.assets import asset
    from ctobserve.render.hash_svg import hash_pictures, standing_alone
    from ctobserve.render.htmlout import buckets_page
    from ctobserve.render.jsonout import document

    if form == "html":
        return buckets_page(found)
    return [document(found)] if form == "json" else standing_alone(hash_pictures(found), asset("hash.css"))
