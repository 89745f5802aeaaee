"""Start: Ctrl-C and SIGTERM end us quietly from our first line on, also while the rest is still being imported."""

import os
import signal
import sys


def start() -> int:
    """Entry point of the `ctobserve` script and of `python -m ctobserve`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    os.umask(0o077)
    from ctobserve.host import surroundings

    surroundings.leave()
    from ctobserve.commands.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    return main()


if __name__ == "__main__":
    sys.exit(start())
