"""The ready file of --ready-file: how scripts that wait for us learn that everything is attached."""

from __future__ import annotations

import os
from pathlib import Path

from ctobserve.errors import CtobserveError, UsageError
from ctobserve.host import files
from ctobserve.model import printable

SHOWN_CHARACTERS = 200


def withdraw(path: Path) -> None:
    """Remove what an earlier run left: it would say too early that we are ready. Raises UsageError where none can be created."""
    try:
        with files.directory(path.parent) as directory:
            files.remove_empty(_name(path), directory)
            files.require_room(directory)
    except FileExistsError:
        raise UsageError(f"{_said(path)} exists and is not an empty file; give a path where one can be created") from None
    except (OSError, ValueError) as error:
        if not os.path.isdir(path.parent):
            raise UsageError(f"{_said(path)}: there is no directory {_shown(path.parent)}; make it first") from None
        raise UsageError(f"{_said(path)}: {_why(error)}; give a path where a file can be created") from None


def announce(path: Path) -> None:
    """From now on nothing is missed. Raises CtobserveError where the file cannot be made any more; nothing is overwritten."""
    try:
        with files.directory(path.parent) as directory:
            files.create(_name(path), directory)
    except FileExistsError:
        raise CtobserveError(f"{_said(path)}: somebody made it while we attached; give a path where only you can") from None
    except OSError as error:
        raise CtobserveError(f"{_said(path)} could be made when we began, not now: {_why(error)}") from None


def _name(path: Path) -> str:
    """`/` and `.` have none: they are directories."""
    return path.name or "."


def _said(path: Path) -> str:
    return f"--ready-file {_shown(path)}"


def _shown(path: Path) -> str:
    return printable(str(path), SHOWN_CHARACTERS)


def _why(error: OSError | ValueError) -> str:
    """In the kernel's words, or Python's for what the kernel was not asked (a NUL)."""
    return ((error.strerror if isinstance(error, OSError) else None) or str(error)).lower()
