"""ctobserve verify: prove the rebuilt table equal to the kernel's."""

from __future__ import annotations

import time
from typing import Any

import click
import numpy as np

from ctobserve import netlink
from ctobserve.analysis.verify import Differences, Key, compare, keys, lasting
from ctobserve.commands.session import Request, Session, common_options, observe, out
from ctobserve.errors import CtobserveError
from ctobserve.hooks import Purpose
from ctobserve.model import Entries
from ctobserve.netns import run_inside
from ctobserve.render.jsonout import document
from ctobserve.render.rows import entry_rows
from ctobserve.render.text import verify_lines

ROUNDS = 5
PAUSE_S = 0.3


class NotEqual(CtobserveError):
    """The tables differ."""


@click.command()
@common_options
def verify(request: Request) -> None:
    """Prove the table rebuilt from events equal to the kernel's: entry by entry with a walk of the hash, and with netlink dumps.

    The table is seeded, followed by events for --duration (default 1 s), then compared. Differences of entries in flux are looked
    at again; those that last are named, and the exit code is 1.
    """
    if request.duration is None:
        request.duration = 1.0
    with observe("verify", request, Purpose.TABLE) as session:
        session.ready()
        for _ in session.watch():
            pass
        compared = _Compared(session)
        found = lasting(compared.look, lambda: time.sleep(PAUSE_S), ROUNDS)
        unlike = _beside_netlink(session) if netlink.available() else None
        report = _report(session, compared, found, unlike)
        if request.json:
            out(document(report))
        else:
            for text in verify_lines(report, session.labels()):
                out(text)
        session.finish(report["meta"])
        if not report["equal"]:
            raise NotEqual("the rebuilt table differs from the kernel's; the differences are named above")


class _Compared:
    """Both tables as of the last look."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.ours = self.kernel = 0

    def look(self) -> Differences:
        """Walk, and compare what no event touched meanwhile."""
        observer = self._session.observer
        walk, touched = observer.walk()
        ours = observer.table.entries()
        self.ours, self.kernel = len(ours), len(walk.entries)
        return compare(_calm(ours, touched), _calm(walk.entries, touched))


def _calm(entries: Entries, touched: Any) -> Entries:
    calm: Entries = entries[~np.isin(entries["ct"], touched)]
    return calm


def _beside_netlink(session: Session) -> tuple[set[Key], set[Key]]:
    """Keys that only we have, and that only the dumps have, again and again; of the namespaces that can be entered."""
    lasting_ours: set[Key] | None = None
    lasting_theirs: set[Key] = set()
    for _ in range(ROUNDS):
        spaces = session.spaces()
        dumped: set[Key] = set()
        for inum, space in spaces.items():
            try:
                dumped |= {(inum, *key) for key in run_inside(space, netlink.dump)}
            except (CtobserveError, OSError):
                continue
        session.observer.poll()
        ours = {key for key in keys(session.observer.table.entries()) if key[0] in spaces}
        mine, theirs = ours - dumped, dumped - ours
        lasting_ours, lasting_theirs = (mine, theirs) if lasting_ours is None else (lasting_ours & mine, lasting_theirs & theirs)
        if not lasting_ours and not lasting_theirs:
            break
        time.sleep(PAUSE_S)
    return lasting_ours or set(), lasting_theirs


def _report(
    session: Session, compared: _Compared, found: Differences, unlike: tuple[set[Key], set[Key]] | None
) -> dict[str, Any]:
    clock = session.observer.clock()
    return {
        "meta": session.meta(),
        "equal": not found.names() and not any(unlike or ()),
        "ours": compared.ours,
        "kernel": compared.kernel,
        "only_ours": entry_rows(found.only_ours, clock),
        "only_kernel": entry_rows(found.only_kernel, clock),
        "field_diffs": [
            {"ct": f"{ct:#x}", "field": name, "ours": mine, "kernel": theirs} for ct, name, mine, theirs in found.fields
        ],
        "netlink": None if unlike is None else {"only_ours": len(unlike[0]), "only_kernel": len(unlike[1])},
    }
