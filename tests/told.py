"""What every command says of five incidents that were recorded, as a session in text: `make recordings` writes them anew."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path
from unittest.mock import patch

from ctobserve.commands.cli import main as ctobserve
from ctobserve_lab.recordings import recording

SESSIONS = Path(__file__).parent / "unit" / "told"
INCIDENTS = ("table_full", "udp_race", "long_chains", "asymmetric_routing", "old_udp_mapping")
COMMANDS = (
    "report",
    "report --json",
    "why 10.1.0.1 --limit 2",
    "why 127.0.0.1/udp --limit 3",
    "why 127.0.0.1 --json --limit 1",
    "drops --limit 30",
    "drops --json --limit 2",
    "events --limit 40",
    "events --json --limit 3",
    "list --limit 20",
    "list --json --limit 2",
    "list --format csv --limit 5",
    "list --format kernel --limit 5",
    "list --expect",
    "list --at -0.2s --limit 5",
    "buckets --limit 5",
    "buckets --json --limit 1",
    "top --by src,dport",
    "size",
    "verify",
    "diff",
    "diff --since -0.5s --by dst,dport,state --limit 5",
    "diff --json --limit 2",
)


def session(name: str) -> str:
    """Of one incident: each command as it is typed beside the recording, with what it prints and its exit code."""
    path = recording(name)
    return "\n".join(f"$ ctobserve {' '.join(words(typed, path))}\n{said(typed, path)}" for typed in COMMANDS)


def words(typed: str, path: Path) -> list[str]:
    """What names the recording too, which diff has no option for."""
    command, *options = typed.split()
    return [command, path.name, *options] if command == "diff" else [command, *options, "--from", path.name]


# A series of numbers has hundreds: in a session it is one line.
SERIES = re.compile(r"\[\s+-?[\d.]+(?:,\s+-?[\d.]+)*\s+\]")


def said(typed: str, path: Path) -> str:
    """Both streams of one command, as it is run where the recording lies, each list of numbers on one line."""
    out, before = io.StringIO(), Path.cwd()
    arguments = ["ctobserve", *words(typed, path)]
    with patch.object(sys, "argv", arguments), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        os.chdir(path.parent)
        try:
            code = ctobserve()
        finally:
            os.chdir(before)
    told = SERIES.sub(lambda found: " ".join(found[0].split()), out.getvalue())
    return f"{told}exit code {code}\n" if code else told


def main() -> None:
    """Write all sessions."""
    SESSIONS.mkdir(exist_ok=True)
    for name in INCIDENTS:
        SESSIONS.joinpath(f"{name}.txt").write_text(session(name))


if __name__ == "__main__":
    main()
