"""Start: Ctrl-C ends us quietly from the first moment, also while the rest is still being imported."""

import os
import signal
import sys


def start() -> int:
    """Entry point of the `ctobserve` script and of `python -m ctobserve`."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    from ctobserve.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    return main()


if __name__ == "__main__":
    sys.exit(start())
