"""The VM runner itself: exit codes pass, time limits hold, nothing is left running."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ctobserve_lab.scenarios import SCENARIOS

ESCAPES = re.compile(r"\x1b\[[?0-9;]*[a-zA-Z]")
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
    [
        ("echo hello; uname -r >&2; exit 7", "60", 7, "hello"),
        ("echo begun; sleep 600", "5", 124, "begun"),
        ("echo begun; echo c > /proc/sysrq-trigger; sleep 600", "120", 125, "begun"),
    ],
)
def test_exit_code_output_and_time_limit(command, limit, code, says):
    others = set(labs_running())
    arguments = [sys.executable, str(LAB), "--timeout", limit, "--", "sh", "-c", command]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == code, result.stderr
    assert says in result.stdout
    assert ("sysrq triggered crash" in result.stderr) == (code == 125)
    end = time.monotonic() + 10
    while set(labs_running()) - others and time.monotonic() < end:
        time.sleep(0.2)
    assert set(labs_running()) <= others


def test_a_shell_on_a_terminal_has_the_lab_at_hand():
    ours, theirs = pty.openpty()
    shell = subprocess.Popen([sys.executable, str(LAB), "--shell"], stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True)
    os.close(theirs)
    try:
        said = read_until(ours, "lab# ", 240)
        for line in ("ctobserve-lab list | wc -l", "ctobserve-lab run healthy --hold 0", "exit"):
            os.write(ours, f"{line}\n".encode())
            said += read_until(ours, "lab# " if line != "exit" else "exit", 120)
        read_until(ours, "", 60)
        assert shell.wait(60) == 0
    finally:
        shell.kill()
        os.close(ours)
    assert re.search(rf"^\r*{len(SCENARIOS)}\r", ESCAPES.sub("", said), re.MULTILINE), said
    assert "Done: 7 connections stand" in said and "Undone." in said


def read_until(terminal: int, words: str, limit_s: float) -> str:
    """What the terminal shows until these words are at its end; without words, until it is closed."""
    said, end = "", time.monotonic() + limit_s
    while not (words and ESCAPES.sub("", said).endswith(words)):
        assert time.monotonic() < end, said
        if select.select([terminal], [], [], 1)[0]:
            try:
                data = os.read(terminal, 4096)
            except OSError:
                return said
            said += data.decode(errors="replace")
    return said


def test_a_kernel_that_cannot_boot_is_said(tmp_path):
    broken = tmp_path / "vmlinuz"
    broken.write_bytes(b"not a kernel")
    arguments = [sys.executable, str(LAB), "--kernel", str(broken), "--", "true"]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=600)
    assert result.returncode == 125
    assert "lab: the VM" in result.stderr


def test_machines_are_listed_and_others_refused():
    lab = [sys.executable, str(LAB)]
    listed = subprocess.run([*lab, "--machines"], capture_output=True, text=True, check=True).stdout.split()
    assert {"x86_64-5.10", "x86_64-newest"} < set(listed) and len(listed) == len(set(listed))
    result = subprocess.run([*lab, "--machine", "x86_64-2.6", "--", "true"], capture_output=True, text=True, check=False)
    assert result.returncode == 2 and "invalid choice: 'x86_64-2.6'" in result.stderr


# A Lab whose machine is a shell script: what it does at its first start, and at its second.
STANDS_STILL = """
import os, sys, tempfile
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import lab
lab.BOOT_S = 1
made = lab.Lab.__new__(lab.Lab)
made._directory = tempfile.TemporaryDirectory()
made._out = Path(made._directory.name)
(made._out / "output").touch()
made._environment = os.environ
made._arguments = ["sh", "-c", f'cd {made._out}; echo >> starts; echo said; {sys.argv[2]}; sleep 60']
with made:
    print(made.run(20), len((made._out / "starts").read_text()))
"""


@pytest.mark.parametrize(
    ("does", "code", "starts"),
    [
        ("if [ $(wc -l < starts) = 2 ]; then echo 7 > status; touch ready; fi", 7, 2),
        ("true", 125, 2),
        ("exit 1", 125, 1),
    ],
    ids=["the second comes up", "none does", "it ends at boot"],
)
def test_a_machine_that_stands_still_at_boot_is_begun_once_more(does, code, starts):
    command = [sys.executable, "-c", STANDS_STILL, str(LAB.parent), does]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.stdout.split() == [str(code), str(starts)], result.stderr
    assert ("did not come up in 1 s; its console ends:\nsaid" in result.stderr) == (starts == 2)
