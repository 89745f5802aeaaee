"""How a command ends that makes files of a recording: whole, or with a line that says that they are not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ctobserve.capture.store.container import shown
from ctobserve.errors import CtobserveError


@contextmanager
def making(made: Path) -> Iterator[None]:
    """Raises CtobserveError where Ctrl-C or a full disk ends it before: what looks like a whole file would be taken for one."""
    try:
        yield
    except (KeyboardInterrupt, OSError) as error:
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else (error.strerror or str(error)).lower()
        raise CtobserveError(f"{shown(made)} is not whole: {why}; remove it, and try again") from None
