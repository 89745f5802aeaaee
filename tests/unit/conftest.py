"""What several files of tests need: a network namespace of the test's own."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from ctobserve.host.netns import CLONE_NEWNET


@pytest.fixture
def own_rules() -> Iterator[Callable[[str], None]]:
    """Runs nft with these lines on its stdin, in a network namespace of this thread's own."""
    assert os.geteuid() == 0, "only root can make network namespaces: run the tests as root"
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(CLONE_NEWNET) == 0
    yield lambda lines: subprocess.run(["nft", "-f", "-"], input=lines, text=True, check=True)
    assert libc.setns(before, CLONE_NEWNET) == 0
    os.close(before)
