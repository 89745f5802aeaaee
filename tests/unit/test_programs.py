"""Programs of others: bounded in time, memory and output, whatever they do with their streams."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest

from ctobserve.host import executables

SH, PYTHON = Path("/bin/sh"), Path("/usr/bin/python3")
MANY = 300_000  # bytes: more than a pipe holds


def test_what_is_given_and_said_goes_through_whole_in_both_directions_at_once():
    result = executables.run(SH, "-c", f"head -c {MANY} /dev/zero >&2; cat; exit 3", given=b"x" * MANY)
    assert (result.returncode, result.stdout, result.stderr) == (3, b"x" * MANY, b"\0" * MANY)


def test_who_does_not_read_what_is_given_may_end():
    assert executables.run(SH, "-c", "echo said", given=b"x" * MANY).stdout == b"said\n"


@pytest.mark.parametrize("endless", ["yes", "yes >&2", "yes & wait"])
def test_output_without_end_is_cut_and_its_program_killed(endless):
    result = executables.run(SH, "-c", f"{endless}; true", output_bytes=MANY)
    assert result.returncode == -9
    assert MANY <= max(len(result.stdout), len(result.stderr)) < MANY + executables.READ_BYTES


def test_what_fits_is_not_cut():
    result = executables.run(SH, "-c", "echo said", output_bytes=6)
    assert (result.returncode, result.stdout) == (0, b"said\n")


def test_memory_is_bounded_before_anything_is_given():
    asks = "import resource, sys; sys.stdin.read(); print(*map(resource.getrlimit, (resource.RLIMIT_AS, resource.RLIMIT_CORE)))"
    before = resource.getrlimit(resource.RLIMIT_AS)
    bounded = executables.run(PYTHON, "-c", f"{asks}; bytearray(1 << 29)", memory_bytes=1 << 28)
    assert (bounded.returncode, bounded.stdout) == (1, f"({1 << 28}, {1 << 28}) (0, 0)\n".encode())
    assert b"MemoryError" in bounded.stderr
    assert executables.run(PYTHON, "-c", "bytearray(1 << 29)").returncode == 0
    assert resource.getrlimit(resource.RLIMIT_AS) == before, "ours is what it was"


@pytest.mark.parametrize("slow", ["sleep 60", "exec sleep 60", "exec >&- 2>&-; exec sleep 60", "while echo; do sleep 0.01; done"])
def test_who_takes_too_long_is_killed_and_nobody_waits_for_its_children(slow):
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"/bin/sh took longer than 0\.2 s"):
        executables.run(SH, "-c", f"{slow}; true", timeout_s=0.2)
    assert time.monotonic() - began < 30
