"""Write all pages into a directory, those of the lab into lab/ in it: python -m manual DIRECTORY."""

from __future__ import annotations

import sys
from pathlib import Path

from manual.pages import pages


def main() -> None:
    """Names of files are those of the pages."""
    directory = Path(sys.argv[1])
    for name, text in pages():
        path = directory / ("lab" if name.startswith("ctobserve-lab") else "") / f"{name}.8"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
