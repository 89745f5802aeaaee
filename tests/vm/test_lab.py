"""The VM runner itself: exit codes pass, time limits hold, nothing is left running."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

LAB = Path(__file__).with_name("lab.py")


def labs_running() -> list[str]:
    """Command lines of QEMUs that boot one of our guests."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "qemu-system" in words and "ctobserve-lab-" in words:
            found.append(words)
    return found


@pytest.mark.parametrize(
    ("command", "limit", "code", "says"),
    [("echo hello; uname -r >&2; exit 7", "60", 7, "hello"), ("echo begun; sleep 600", "5", 124, "begun")],
)
def test_exit_code_output_and_time_limit(command, limit, code, says):
    others = set(labs_running())
    arguments = [sys.executable, str(LAB), "--timeout", limit, "--", "sh", "-c", command]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == code, result.stderr
    assert says in result.stdout
    end = time.monotonic() + 10
    while set(labs_running()) - others and time.monotonic() < end:
        time.sleep(0.2)
    assert set(labs_running()) <= others


def test_a_kernel_that_cannot_boot_is_said(tmp_path):
    broken = tmp_path / "vmlinuz"
    broken.write_bytes(b"not a kernel")
    arguments = [sys.executable, str(LAB), "--kernel", str(broken), "--", "true"]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 125
    assert "lab: the VM" in result.stderr
