"""The ready file of --ready-file: how scripts that wait for us learn that everything is attached."""

from __future__ import annotations

from pathlib import Path

from ctobserve.errors import UsageError


def withdraw(path: Path) -> None:
    """Remove what an earlier run left: it would say too early that we are ready. Raises UsageError where none can be created."""
    if path.is_file() and not path.stat().st_size:
        path.unlink()
    elif path.exists():
        raise UsageError(f"--ready-file {path} exists and is not an empty file; give a path where one can be created")
    elif not path.parent.is_dir():
        raise UsageError(f"--ready-file {path}: there is no directory {path.parent}; make it first")


def announce(path: Path) -> None:
    """From now on nothing is missed."""
    path.touch()
