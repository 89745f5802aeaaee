"""What was worked out once for this kernel, kept on disk: compiled programs and layouts. Losing it costs only time.

What is kept is loaded into the kernel: it is taken only from where nobody else can have put it, and only as it was written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from ctobserve.host import files
from ctobserve.host.kernel import digest

VARIABLE = "CTOBSERVE_CACHE_DIR"
DEFAULT = "/var/cache/ctobserve"
FORMAT = 1  # of the first line, and of how what follows is written
LIMIT_BYTES = 16 << 20

T = TypeVar("T")


def kept(key: str, make: Callable[[], Any], decode: Callable[[Any], T]) -> T:
    """What `decode` makes of the JSON value under `key`; where there is none that it takes, `make` gives one, which is kept.

    `decode` refuses a value by ValueError, TypeError, AttributeError or LookupError. Raises what `make` raises.
    """
    with suppress(OSError, ValueError, TypeError, AttributeError, LookupError):
        return decode(_load(key))
    value = make()
    with suppress(OSError):
        _store(key, value)
    return decode(value)


def _directory() -> Path:
    """Raises FileNotFoundError where none is wanted; a relative one would be another in every current directory."""
    path = Path(os.environ.get(VARIABLE, DEFAULT))
    if not path.is_absolute():
        raise FileNotFoundError(path)
    return path


def _load(key: str) -> Any:
    with files.own_directory(_directory()) as directory:
        text = files.read(key, directory, LIMIT_BYTES).decode("utf-8", "replace")
    first, _, body = text.partition("\n")
    if first != _seal(key, body):
        raise ValueError(f"{key} is not as it was written")
    return json.loads(body)


def _store(key: str, value: Any) -> None:
    body = json.dumps(value)
    with files.own_directory(_directory()) as directory:
        files.replace(key, directory, f"{_seal(key, body)}\n{body}".encode())


def _seal(key: str, body: str) -> str:
    """Tells what was cut short, altered, renamed, or written by another ctobserve; not what root has forged."""
    return f"ctobserve {FORMAT} {digest(key, body)}"
