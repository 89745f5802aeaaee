"""A bar on a terminal for what takes its time, and nothing anywhere else."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import pytest

from ctobserve.commands import progress
from tests.unit.recordings import record
from tests.unit.test_recording import busy
from tests.unit.typed import run


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A terminal for stderr; what was shown on it is in the list at the end."""
    shown: list[str] = []
    ours, theirs = os.openpty()
    text = bytearray()

    def read() -> None:
        with suppress(OSError):  # nobody writes any more
            while part := os.read(ours, 1 << 16):
                text.extend(part)

    # Meanwhile: a terminal that nobody reads takes 4 KiB, and then no more.
    reader = Thread(target=read)
    reader.start()
    try:
        with open(theirs, "w") as stderr, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stderr)
            yield shown
    finally:
        reader.join()
        os.close(ours)
    shown.append(text.decode())


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


def test_the_line_ends_when_all_is_done_so_that_output_may_follow(at_once, monkeypatch):
    with terminal(monkeypatch) as shown, progress.progress("reading x") as tell:
        tell(0.5)
        tell(1.0)
        sys.stderr.write("output")
        tell(1.0)
    assert shown[0].endswith("\x1b[?25h\r\noutput")


@pytest.mark.parametrize(
    ("words", "bars"),
    [
        ("report", 1),
        ("report --since -3s", 2),
        ("drops --json", 1),
        ("drops", 0),
        ("events --since -3s", 1),
        ("list --at -2s", 1),
        ("buckets", 0),
        ("buckets --at -2s", 1),
        ("diff --since -3s", 1),
    ],
)
def test_reading_a_large_recording_shows_a_bar_until_the_first_line(at_once, monkeypatch, capsys, tmp_path, words, bars):
    """One for the way to the begin, one for the stretch; who shows events as they come has none for that."""
    monkeypatch.setattr("ctobserve.capture.store.chunks.MOST_ROWS", 10)
    monkeypatch.setattr("ctobserve.capture.store.writer.MOST_ROWS", 10)
    record(busy(), tmp_path / "FILE")
    name, *options = words.split()
    with terminal(monkeypatch) as shown:
        source = [tmp_path / "FILE"] if name == "diff" else ["--from", tmp_path / "FILE"]
        code, out, _ = run(monkeypatch, capsys, name, *options, *map(str, source))
    assert code == 0 and out
    assert shown[0].count("\x1b[?25h\r\n") == bars, shown


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
