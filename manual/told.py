"""What our other pages say, to be said in the manual too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
SESSION = CHECKOUT / "tests/unit/told/table_full.txt"
MOST_LINES = 40  # of an output


def paragraph(page: str, begin: str) -> str:
    """The one that begins so, without that, on one line; raises LookupError."""
    for some in re.split(r"\n\n+|\n(?=Blind to:)", (CHECKOUT / page).read_text()):
        if some.startswith(begin):
            return " ".join(some.removeprefix(begin).split())
    raise LookupError(f"{page} has no paragraph that begins with {begin!r}")


def table(page: str, head: str) -> Iterator[tuple[str, ...]]:
    """Rows of the Markdown table whose first line is this; raises LookupError."""
    _, there, rest = (CHECKOUT / page).read_text().partition(f"{head}\n")
    if not there:
        raise LookupError(f"{page} has no table {head!r}")
    for line in rest.splitlines()[1:]:
        if not line.startswith("|"):
            return
        yield tuple(cell.strip() for cell in line.strip().strip("|").split("|"))


def session(command: str) -> list[str]:
    """The first that was told of this command as text, as it is typed and what it printed; a long one is cut. None: empty."""
    for some in re.split(r"^(?=\$ )", SESSION.read_text(), flags=re.M):
        typed, *lines = some.splitlines() or [""]
        if typed.startswith(f"$ ctobserve {command} ") and "--json" not in typed and len(lines) > 5:
            lines = lines[:-1] if not lines[-1] else lines
            more = len(lines) - MOST_LINES
            return [typed, *(lines if more <= 1 else [*lines[:MOST_LINES], f"... ({more} more lines)"])]
    return []


def released() -> str:
    """Date of the last version in the change log."""
    found = re.search(r"^## \S+ \((\d{4}-\d\d-\d\d)\)$", (CHECKOUT / "CHANGELOG.md").read_text(), re.M)
    if found is None:
        raise LookupError("CHANGELOG.md has no version with its date")
    return found[1]
