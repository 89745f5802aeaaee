"""ctobserve verify: prove the rebuilt table equal to the kernel's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from ctobserve.commands.help import Command, Example
from ctobserve.commands.options import OF_NETNS, SOURCE, common_options, limit_to
from ctobserve.commands.session import Session, observe, out
from ctobserve.diagnosis.proof import Proof, prove
from ctobserve.documents.request import Request
from ctobserve.errors import CtobserveError
from ctobserve.programs.hooks import Purpose
from ctobserve.render.folding import room
from ctobserve.render.jsonout import document
from ctobserve.render.lines import described
from ctobserve.render.rows import entry_rows
from ctobserve.render.text import verify_lines


class NotEqual(CtobserveError):
    """The tables differ."""


@click.command(
    cls=Command,
    examples=(
        Example("follow the table for ten seconds, then compare", "ctobserve verify --duration 10"),
        Example("for a script: exit 1 where the tables differ, 5 where records were lost", "ctobserve verify --fail-on-loss"),
    ),
)
@common_options(OF_NETNS, limit_to("Name at most N differences of each kind."), SOURCE)
def verify(request: Request) -> None:
    """Prove the table rebuilt from events equal to the kernel's: entry by entry with a walk of the hash, and with netlink dumps.

    The table is seeded, followed by events for --duration (default 1 s), then compared. Differences of entries in flux are looked
    at again; those that last are named, and the exit code is 1.
    """
    if request.duration is None:
        request = replace(request, duration=1.0)
    with observe("verify", request, Purpose.TABLE) as session:
        session.ready()
        for _ in session.watch():
            pass
        proof = prove(session.observer, request.filter.netns)
        report = _report(session, proof)
        if request.json:
            out([document(report)])
        else:
            labels, found, limit = session.labels(), proof.differences, request.limit
            ours, kernel = (described(side[:limit], labels) for side in (found.only_ours, found.only_kernel))
            out(verify_lines(report, ours, kernel, room()))
        session.finish(report["meta"])
        if not report["equal"]:
            raise NotEqual("the rebuilt table differs from the kernel's; the differences are named above")


def _report(session: Session, proof: Proof) -> dict[str, Any]:
    clock, limit = session.observer.clock(), session.request.limit
    found = proof.differences
    return {
        "meta": session.meta(),
        "equal": proof.equal,
        "ours": proof.ours,
        "kernel": proof.kernel,
        "only_ours": entry_rows(found.only_ours[:limit], clock),
        "only_kernel": entry_rows(found.only_kernel[:limit], clock),
        "field_diffs": [
            {"ct": f"{ct:#x}", "field": name, "ours": mine, "kernel": theirs} for ct, name, mine, theirs in found.fields[:limit]
        ],
        "differences": {
            "only_ours": len(found.only_ours),
            "only_kernel": len(found.only_kernel),
            "field_diffs": len(found.fields),
        },
        "netlink": None if proof.unlike is None else dict(zip(("only_ours", "only_kernel"), map(len, proof.unlike), strict=True)),
        "not_dumped": list(proof.not_dumped),
    }
