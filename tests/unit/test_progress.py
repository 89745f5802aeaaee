"""A bar on a terminal for what takes its time, and nothing anywhere else."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ctobserve.commands import progress


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A terminal for stderr; what was shown on it is in the list at the end."""
    shown: list[str] = []
    ours, theirs = os.openpty()
    with open(theirs, "w") as stderr, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stderr)
        yield shown
        stderr.flush()
        os.set_blocking(ours, False)
        try:
            shown.append(os.read(ours, 1 << 16).decode())
        except BlockingIOError:
            shown.append("")
    os.close(ours)


def told(shares: list[float]) -> None:
    with progress.progress("reading x") as tell:
        for share in shares:
            tell(share)


@pytest.fixture
def at_once(monkeypatch):
    """Nothing is too short for a bar."""
    monkeypatch.setattr(progress, "AFTER_S", 0.0)
    monkeypatch.setattr(progress, "SHORT_S", 0.0)


def test_a_terminal_shows_how_far_it_is_and_ends_the_line(at_once, monkeypatch):
    with terminal(monkeypatch) as shown:
        told([0.0, 0.25, 0.25, 0.5, 1.0, 1.5])
    (text,) = shown
    assert "reading x" in text and all(f" {part}%" in text for part in (0, 25, 50, 100))
    assert text.endswith("\x1b[?25h\r\n"), "the cursor is there again, in a new line"


def test_what_breaks_off_ends_the_line_too(at_once, monkeypatch):
    with terminal(monkeypatch) as shown, pytest.raises(KeyboardInterrupt), progress.progress("reading x") as tell:
        tell(0.5)
        raise KeyboardInterrupt
    assert " 50%" in shown[0] and shown[0].endswith("\x1b[?25h\r\n")


def test_what_is_done_soon_shows_nothing(monkeypatch):
    with terminal(monkeypatch) as shown:
        told([0.0, 0.5, 1.0])
    assert shown == [""]


def test_what_will_be_done_soon_shows_nothing(monkeypatch):
    monkeypatch.setattr(progress, "AFTER_S", 0.0)
    monkeypatch.setattr(progress, "SHORT_S", 1e9)
    with terminal(monkeypatch) as shown:
        told([0.5, 1.0])
    assert shown == [""]


def test_elsewhere_nothing_is_shown(at_once, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    told([0.0, 0.5, 1.0])
    assert sys.stderr.getvalue() == ""
