"""Packets counted by state, for people."""

from __future__ import annotations

from ctobserve.documents.base import Labels
from ctobserve.documents.events import PacketsRow
from ctobserve.render.folding import CLAUSE, fitted


def packet_line(row: PacketsRow, labels: Labels, columns: int | None = None) -> str:
    """Packets of one conntrack state at one hook. `columns`: of the terminal, None: it is one line."""
    where = labels.get(row.netns, str(row.netns)) if row.netns else "-"
    return fitted(f"{row.ts[11:23]} packets {where:<8}{CLAUSE}{row.hook:<11} {row.state:<11} {row.packets}", columns)
