"""The full screen in a terminal of its own, a pty: what it does when it ends or is suspended, and where there is none to fill."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ctobserve.commands import fullscreen
from ctobserve.errors import by_pip
from ctobserve_lab.recordings import recording

ROOT = Path(__file__).resolve().parents[2]


class Terminal:
    """A terminal of 80 x 24 with a program in it; `shown` is what it wrote so far."""

    def __init__(self, *command: str, kept: int | None = None, **environment: str) -> None:
        """`kept`: a file that it has, too."""
        self.ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        self.shown = b""
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, pass_fds=() if kept is None else (kept,),
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm-256color", **environment},
        )  # fmt: skip

    def until(self, words: bytes) -> None:
        """Read until it shows that, or says no more."""
        while words not in self.shown:
            part = os.read(self.ours, 1 << 16)
            assert part, self.shown
            self.shown += part

    def end(self) -> int:
        """Its exit code; what it showed until then is read meanwhile."""
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        code = self.process.wait(60)
        self.after = termios.tcgetattr(self._theirs)
        os.close(self._theirs)
        reader.join()
        os.close(self.ours)
        return code

    def _read(self) -> None:
        try:
            while part := os.read(self.ours, 1 << 16):
                self.shown += part
        except OSError:
            pass  # EIO: nobody has the other end any more


COMMAND = (sys.executable, "-m", "ctobserve", "top", "--from", str(recording("table_full")))
ON, OFF = b"\x1b[?1049h", b"\x1b[?1049l"


def typed(keys: bytes) -> Callable[[Terminal], None]:
    return lambda terminal: os.write(terminal.ours, keys) and None


def sent(number: signal.Signals) -> Callable[[Terminal], None]:
    return lambda terminal: terminal.process.send_signal(number)


@pytest.mark.parametrize(
    "ends", [typed(b"q"), typed(b"\x03"), sent(signal.SIGTERM), sent(signal.SIGINT)], ids=["q", "^C", "TERM", "INT"]
)
def test_however_it_ends_the_terminal_is_as_it_was(ends):
    terminal = Terminal(*COMMAND)
    terminal.until(b"EQUAL")
    ends(terminal)
    assert terminal.end() == 0
    before, _, behind = terminal.shown.rpartition(OFF)
    assert ON in before and ON not in behind and b"\x1b[?25h" in before + behind
    assert terminal.after == terminal.before


def test_suspended_it_gives_the_terminal_back_and_draws_all_of_it_anew_when_it_goes_on():
    terminal = Terminal(*COMMAND)
    terminal.until(b"EQUAL")
    terminal.process.send_signal(signal.SIGTSTP)
    assert os.WIFSTOPPED(os.waitpid(terminal.process.pid, os.WUNTRACED)[1])
    terminal.until(OFF)
    terminal.shown = b""
    terminal.process.send_signal(signal.SIGCONT)
    terminal.until(ON)
    terminal.until(b"the table of full is full: 23 packets")
    os.write(terminal.ours, b"q")
    assert terminal.end() == 0


def test_without_colour_the_terminal_gets_none():
    terminal = Terminal(*COMMAND, NO_COLOR="1", COLUMNS="40")
    terminal.until(b"EQUAL")
    terminal.until(b"the table of full is full: 23 packets of new connections")  # of all 80 columns
    os.write(terminal.ours, b"q")
    terminal.end()
    colours = {
        part for one in terminal.shown.split(b"\x1b[")[1:] if (part := one.partition(b"m")[0]).replace(b";", b"").isdigit()
    }
    assert colours and not {number for one in colours for number in one.split(b";")} - {b"0", b"1", b"2", b"7", b"39", b"49"}


def test_a_recording_that_is_none_is_told_in_one_line_before_anything_is_drawn():
    terminal = Terminal(*COMMAND[:-1], "/dev/null")
    assert terminal.end() == 1
    assert ON not in terminal.shown and terminal.shown.startswith(b"ctobserve: /dev/null")


@pytest.mark.parametrize(
    ("environment", "says"),
    [({"TERM": "dumb"}, b""), ({"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, b"takes UTF-8")],
    ids=["dumb", "no UTF-8"],
)  # fmt: skip
def test_a_terminal_that_cannot_be_filled_gets_plain_frames(environment, says):
    terminal = Terminal(*COMMAND, **environment)
    assert terminal.end() == 0
    assert ON not in terminal.shown and says in terminal.shown and b"100.0 % of 7: 7 in full" in terminal.shown


def test_plain_is_plain():
    terminal = Terminal(*COMMAND, "--plain")
    assert terminal.end() == 0 and ON not in terminal.shown and b"100.0 % of 7: 7 in full" in terminal.shown


def test_without_textual_a_line_says_what_would_bring_the_full_screen(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(fullscreen, "find_spec", lambda name: None)
    assert not fullscreen.wanted()
    assert capsys.readouterr().err == (
        f"ctobserve: the full screen needs Textual: {by_pip('tui')}; --plain says nothing of that\n"
    )


SLOW = """
import os, sys
from contextlib import contextmanager
from ctobserve.commands.fullscreen import typed_of
from ctobserve.terminal.app import Top
from tests.scripted import ScriptedCapture
from tests.unit.terminals import WISH, live
from tests.unit.test_terminal_engines import LIMITED, TABLE

class Stepped(ScriptedCapture):
    steps = 0
    def step(self):
        self.steps += 1
        self.wait(1)  # each is a frame
        if self.steps % 100 == 0:
            os.write(int(sys.argv[1]), b"100 steps ")
        return super().step()

@contextmanager
def opens():
    yield live(Stepped(entries=TABLE, states=LIMITED))

Top(opens, WISH, typed_of(None)).run()
"""


def test_a_terminal_that_takes_nothing_keeps_nobody_from_reading_the_ring():
    """Frame after frame comes, more than the terminal and all between take: the engine goes on."""
    read, write = os.pipe()
    terminal = Terminal(sys.executable, "-c", SLOW, str(write), kept=write)
    os.close(write)
    terminal.until(ON)
    with os.fdopen(read, "rb") as steps:
        assert len(steps.read(300)) == 300, "3,000 steps without a byte that was read of the terminal"
        before = len(terminal.shown)
        os.write(terminal.ours, b"q")
        assert terminal.end() == 0
        assert len(terminal.shown) > before
