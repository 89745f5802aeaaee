"""The full screen of `top` in a terminal, on a real kernel, while a flood fills the table of a namespace.

By the checkout's .venv: Debian 12 has no Textual, and the Debian packages' Python that runs these tests sees none. Each pane that
was waited for is printed: with `-rP` they can be looked at.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctobserve_lab.traffic import send_udp
from tests.kernel.tool import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv/bin/python"


class Tmux:
    """A terminal of 80 x 24 in a server of its own, with a program in it."""

    def __init__(self, directory: Path) -> None:
        self._socket = directory / "tmux"
        self._ready = directory / "ready"

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-u", "-S", str(self._socket), "-f", "/dev/null", *arguments]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def start(self, *arguments: str) -> None:
        """`ctobserve top`; returns when everything is attached."""
        assert PYTHON.exists(), "the full screen runs by the checkout's .venv; try: make setup"
        command = shlex.join([str(PYTHON), "-m", "ctobserve", "top", "--ready-file", str(self._ready), *arguments])
        line = f"cd {shlex.quote(str(ROOT))}; LANG=C.UTF-8 {command}; echo ended with $?; sleep 600"
        self._tmux("new-session", "-d", "-x", "80", "-y", "24", line)
        end = time.monotonic() + PATIENCE_S
        while not self._ready.exists():
            assert time.monotonic() < end and "ended with" not in self.pane(), self.pane()
            time.sleep(0.2)

    def pane(self) -> str:
        """What is on the terminal now."""
        return self._tmux("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        """As tmux calls them."""
        self._tmux("send-keys", *keys)

    def until(self, *words: str) -> str:
        """The pane that says all that; the data is the signal, not the clock."""
        end = time.monotonic() + PATIENCE_S
        while not all(one in (found := self.pane()) for one in words):
            assert time.monotonic() < end, f"{words} are not all in\n{found}"
            time.sleep(0.2)
        print(f"{found}\n{'-' * 80}")
        return found

    def close(self) -> None:
        """End the server and what runs in it: that hears that its terminal is gone, and detaches."""
        pids = self._tmux("list-panes", "-F", "#{pane_pid}").split()
        subprocess.run(["tmux", "-S", str(self._socket), "kill-server"], capture_output=True, check=False)
        end = time.monotonic() + PATIENCE_S
        while any(Path("/proc", pid).exists() for pid in pids) and time.monotonic() < end:
            time.sleep(0.2)


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    made = Tmux(tmp_path)
    yield made
    made.close()


def test_the_full_screen_during_a_flood(net, sysctl, tmux):
    space = net.space("flooded")
    send_udp(space, 23, first_port=20000)
    tmux.start("--by", "netns")
    tmux.until("ctobserve top", " LIVE ", f"{space.name} ", "no records lost", "q quit")
    sysctl("nf_conntrack_max", 211)
    over = threading.Event()

    def flood() -> None:
        port = 21000
        while not over.is_set():
            send_udp(space, 307, first_port=port)
            port = 21000 + (port - 21000 + 307) % 40_000

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        assert "HEALTHY" not in tmux.until("FULL", "lost in ", "table_full")
        tmux.until("CRITICAL", "no records lost")
        tmux.until("table EQUAL to the kernel's")
        tmux.press("Space")
        tmux.until(" FROZEN ")
        tmux.press("Space")
        tmux.until(" LIVE ")
        tmux.press("s", "s")
        tmux.press("Enter")
        tmux.until("entries", "esc back", space.name)
        tmux.press("Enter")
        tmux.until("connection", "matched", "esc back")
        tmux.press("Escape")
        tmux.until("⏎ more")
        tmux.press("Escape")
        tmux.until(" LIVE ")
        tmux.press("v")
        tmux.until("nf_conntrack_max=", "esc back")
        tmux.press("Escape")
        tmux.until(" LIVE ")
    finally:
        over.set()
        flooding.join()
    tmux.press("q")
    ended = tmux.until("ended with 0")
    assert "events seen" in ended and " LIVE " not in ended, "the terminal is as it was, with the closing line below"


def test_a_terminal_that_nobody_reads_costs_no_record(net, tmp_path):
    """Frame after frame comes, far more than a terminal holds; all that happens meanwhile is seen nevertheless."""
    space, ready = net.space("unread"), tmp_path / "ready"
    mine, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "LANG": "C.UTF-8", "TERM": "xterm-256color"}
    command = [str(PYTHON), "-m", "ctobserve", "top", "--interval", "0.1", "--ready-file", str(ready)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=environment) as process:
        os.close(theirs)
        end = time.monotonic() + PATIENCE_S
        while not ready.exists():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.2)
        for at in range(5):
            send_udp(space, 4001, first_port=20000 + 4001 * at)
            time.sleep(2)  # frames fill the terminal
        os.write(mine, b"q")
        shown = b""
        overdue = threading.Timer(PATIENCE_S, process.kill)
        overdue.start()
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while part := os.read(mine, 1 << 16):
                shown += part
        overdue.cancel()
    os.close(mine)
    said = re.search(rb"(\d+) events seen, none lost", shown)
    assert process.returncode == 0 and said and int(said[1]) >= 5 * 4001, shown[-400:]
