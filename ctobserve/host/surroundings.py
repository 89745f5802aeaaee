"""What we take from whoever started us: next to nothing, so that none of it can choose what a process of root runs or reads."""

from __future__ import annotations

import os
import signal
import sys

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# They say how text is shown, and where the cache is. LANG and its like do not belong here: gettext makes a path of the name of a
# language, and click its messages of what lies there. The encoding of our output is settled before our first line.
HARMLESS = frozenset(("TERM", "COLUMNS", "NO_COLOR", "CTOBSERVE_CACHE_DIR"))
STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}


def leave(*harmless: str) -> None:
    """Forget the caller's environment but for `harmless` variables, its relative places of modules, and what it did to our
    standard streams and children. To be called before anything else is imported or run."""
    kept = {name: value for name, value in os.environ.items() if name in HARMLESS.union(harmless)}
    os.environ.clear()
    os.environ.update(kept, PATH=PATH)
    sys.path[:] = [entry for entry in sys.path if os.path.isabs(entry)]
    # Where it is ignored the kernel keeps no exit status of a child, and each seems to have succeeded.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _open_streams()


def _open_streams() -> None:
    """All three are there, lest a file that is opened later becomes one of them, and no locale makes printing raise."""
    for name, mode in STREAMS.items():
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, os.O_RDWR), mode))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
