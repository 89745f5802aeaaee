"""What can go wrong, as exceptions that carry the exit code of the command."""

from __future__ import annotations

from enum import IntEnum

from ctobserve import __version__


class ExitStatus(IntEnum):
    """Exit codes of every command; other programs rely on them."""

    DONE = 0
    FAILURE = 1
    USAGE = 2
    KERNEL_LACKS = 3
    NOT_PERMITTED = 4
    LOST_RECORDS = 5


class CtobserveError(Exception):
    """A failure that ends the command with one line: what failed, why, what to do."""

    exit_status = ExitStatus.FAILURE


class UsageError(CtobserveError):
    """The command line asks for something that cannot be."""

    exit_status = ExitStatus.USAGE


class KernelLacks(CtobserveError):
    """The running kernel, or a package beside it, does not offer what is needed."""

    exit_status = ExitStatus.KERNEL_LACKS


class NotPermitted(CtobserveError):
    """The kernel refuses us: not root, or a policy against BPF."""

    exit_status = ExitStatus.NOT_PERMITTED


def by_pip(extra: str) -> str:
    """What installs an extra. It names the wheel's file: a name alone would be asked of an index, where anybody may take it."""
    return f"pip install './ctobserve-{__version__}-py3-none-any.whl[{extra}]' in a venv (README.md)"
