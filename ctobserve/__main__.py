"""Start: Ctrl-C and SIGTERM end us quietly from our first line on, also while the rest is still being imported.

No KeyboardInterrupt then: raised in a callback of the import system it would be printed, and lost.
"""

import gc
import os
import signal
import sys


def start() -> int:
    """Entry point of the `ctobserve` script and of `python -m ctobserve`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    os.umask(0o077)
    gc.disable()  # until the command is imported (cli.py): none of that is garbage, and looking for it takes a tenth of the time
    from ctobserve.host import surroundings

    surroundings.leave()
    from ctobserve.commands.cli import main

    status = main()
    gc.freeze()  # the process ends: nobody need look for garbage in what is left
    return status


if __name__ == "__main__":
    sys.exit(start())
