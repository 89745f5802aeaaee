"""Start: nothing that reads the environment is imported before most of it is gone; Ctrl-C ends us quietly meanwhile."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from ctobserve.host import surroundings
from ctobserve_lab.machine import VARIABLE


def main() -> int:
    """Entry point of the `ctobserve-lab` script and of `python -m ctobserve_lab`."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    leave_surroundings()
    from ctobserve_lab import cli  # noqa: PLC0415 -- NumPy and click read the environment

    return cli.main()


def leave_surroundings() -> None:
    """As ctobserve does; and Python programs that we start find modules where we found ours, never in the current directory."""
    # Services of a world that are not root read what we make.
    os.umask(0o022)
    surroundings.leave(VARIABLE)
    modules = Path(surroundings.__file__).resolve().parents[2]
    os.environ.update(PYTHONSAFEPATH="1", PYTHONNOUSERSITE="1", PYTHONPATH=str(modules))


if __name__ == "__main__":
    sys.exit(main())
