"""ctobserve check: what this kernel and host offer, and what stays blind."""

from __future__ import annotations

import click

from ctobserve.capture.prospect import LiveProspect
from ctobserve.commands.help import OBSERVE, OUTPUT, Command, Example, option
from ctobserve.commands.opening import out
from ctobserve.documents.check import collect
from ctobserve.render.check import check_lines
from ctobserve.render.jsonout import document


@click.command(
    cls=Command,
    examples=(
        Example("why it does not work here, or what it cannot see", "ctobserve check"),
        Example("what would be hooked with kprobes alone", "ctobserve check --attach kprobe"),
    ),
)
@option(
    OBSERVE, "--attach", type=click.Choice(["auto", "fentry", "kprobe"]), default="auto", metavar="FORM",
    help="Form of the probes to plan for: fentry, kprobe or auto. Default: auto.",
)  # fmt: skip
@option(OUTPUT, "--json", "as_json", is_flag=True, help="As JSON (docs/json.md).")
def check(as_json: bool, attach: str) -> None:
    """What this kernel and host offer, which hooks will be used, what stays blind, and why. Changes nothing."""
    found = collect(LiveProspect(), attach)
    out([document(found)] if as_json else check_lines(found))
    refusal = found.refusal()
    if refusal:
        raise refusal
