"""docs/lab.md with every session in it made anew, on stdout; to be run in a lab machine (make lab-doc).

A session is a fenced block below a line `<!-- NAME -->`: what `ctobserve-lab guide NAME` prints.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "lab.md"
SESSION = re.compile(r"(?<=<!-- )(\w+) -->\n```\n(.*?)```\n", re.DOTALL)


def sessions() -> dict[str, str]:
    """What the page has, by the scenario's name."""
    return dict(SESSION.findall(PAGE.read_text()))


def told(name: str) -> str:
    """The session as it goes now."""
    command = [sys.executable, "-m", "ctobserve_lab", "guide", name]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def main() -> None:
    """Every session from its first line to its last."""
    sys.stdout.write(SESSION.sub(lambda found: f"{found[1]} -->\n```\n{told(found[1]).strip()}\n```\n", PAGE.read_text()))


if __name__ == "__main__":
    main()
