"""What was worked out once for this kernel, kept on disk: compiled programs and layouts. Losing it costs only time."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

VARIABLE = "CTOBSERVE_CACHE_DIR"
DEFAULT = "/var/cache/ctobserve"


def _directory() -> Path | None:
    """Ours alone, or none: its content is loaded into the kernel."""
    name = os.environ.get(VARIABLE, DEFAULT)
    if not name:
        return None
    path = Path(name)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except OSError:
        return None
    return path if status.st_uid == os.geteuid() and not status.st_mode & 0o022 else None


def load(key: str) -> Any:
    """The value kept under `key`, or None."""
    directory = _directory()
    if directory is None:
        return None
    try:
        return json.loads(directory.joinpath(key + ".json").read_bytes())
    except (OSError, ValueError):
        return None


def store(key: str, value: Any) -> None:
    """Keep a JSON value; silently not, where the directory cannot be written or is not ours alone."""
    directory = _directory()
    if directory is None:
        return
    final = directory / (key + ".json")
    partial = directory / f".{key}.{os.getpid()}"
    try:
        partial.write_text(json.dumps(value))
        partial.replace(final)
    except OSError:
        partial.unlink(missing_ok=True)
