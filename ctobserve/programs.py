"""Programs of others that we run: a trusted file, in /, with none of our environment. The only module that starts any."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

from ctobserve.surroundings import PATH

DIRECTORIES = tuple(map(Path, PATH.split(":")))


def trusted(name: str, directories: tuple[Path, ...] = DIRECTORIES) -> Path | None:
    """The first file of this name that only root can have put there, or None."""
    return next((directory / name for directory in directories if _of_root(directory) and _of_root(directory / name)), None)


def _of_root(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def run(
    program: Path, *arguments: str, given: bytes = b"", timeout_s: float | None = None, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Its output and exit status, with `given` on its stdin; `environment` is all it has besides PATH.

    `program` is an absolute path. Raises OSError, and TimeoutError when it took longer; it is killed then.
    """
    try:
        return subprocess.run(
            [program, *arguments],
            input=given,
            capture_output=True,
            cwd="/",
            env={"PATH": PATH, **environment},
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{os.fspath(program)} took longer than {timeout_s:g} s") from None
