"""The pictures of README.md, `top` and the page of `report` on an incident that ships: `make pictures` draws them anew."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from ctobserve.commands.cli import main as ctobserve
from ctobserve_lab.recordings import recording
from tests.browser import browsing
from tests.unit.terminals import incident

PLACE = Path(__file__).parents[1] / "docs" / "pictures"
INCIDENT = "table_full"
MOST_BYTES = 150_000


class Drawn(NamedTuple):
    """A file that a browser shows, and how large the window is."""

    text: str
    kind: str
    width: int
    height: int


def top() -> Drawn:
    """The first screen on a terminal of 100 x 30, without the fonts that Textual would have from elsewhere."""

    async def seen() -> str:
        async with incident(INCIDENT, (100, 30)) as on:
            return on.app.export_screenshot(title="ctobserve top --from table_full.ctobserve")

    svg = re.sub(r"@font-face \{.*?\}", "", asyncio.run(seen()), flags=re.DOTALL).replace("Fira Code", "DejaVu Sans Mono")
    width, height = (round(float(number)) for number in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
    return Drawn(svg, "svg", width, height)


def page() -> Drawn:
    """Of a report: what is seen of it at first."""
    typed = ["ctobserve", "report", "--from", str(recording(INCIDENT)), "--format", "html"]
    with (
        patch.object(sys, "argv", typed),
        contextlib.redirect_stdout(io.StringIO()) as told,
        contextlib.redirect_stderr(io.StringIO()),
    ):
        assert ctobserve() == 0
    return Drawn(told.getvalue(), "html", 1100, 480)


def pictures() -> Iterator[tuple[str, bytes]]:
    """Name and PNG of each."""
    with browsing() as tab, tempfile.TemporaryDirectory() as directory:
        for name, drawn in (("top", top()), ("report", page())):
            path = Path(directory) / f"{name}.{drawn.kind}"
            path.write_text(drawn.text)
            tab.open(path, drawn.width, drawn.height)
            tab.tell("Emulation.setScrollbarsHidden", hidden=True)
            tab.settle()
            yield f"{name}.png", tab.picture()


def main() -> None:
    """Write them."""
    PLACE.mkdir(exist_ok=True)
    for name, png in pictures():
        (PLACE / name).write_bytes(png)


if __name__ == "__main__":
    main()
