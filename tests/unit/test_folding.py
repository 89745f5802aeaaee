from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from ctobserve.render.folding import CLAUSE, INDENT, filled, fitted, folded, width

SENTENCE = "table_full: the table of blue holds 65536 entries, its limit; 23 packets were lost. " * 3


@pytest.mark.parametrize(("columns", "widest"), [(80, 79), (200, 98), (20, 40)])
def test_text_fits_the_terminal(monkeypatch, columns, widest):
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((columns, 24)))
    for lines in (list(folded(SENTENCE)), list(filled(SENTENCE.split(), "   "))):
        assert widest - 15 < max(map(len, lines)) <= widest
        assert " ".join(" ".join(lines).split()) == SENTENCE.strip()


def test_without_a_terminal_it_has_one_width(monkeypatch):
    def no_terminal(_: int) -> os.terminal_size:
        raise OSError("not a terminal")

    monkeypatch.setattr(os, "get_terminal_size", no_terminal)
    assert width() == 98


def test_a_word_longer_than_a_line_stays_whole():
    assert list(folded("x" * 200)) == ["x" * 200]
    assert list(folded("")) == [""]


@pytest.mark.parametrize(("columns", "said"), [(80, "79 79"), (200, "98 98"), (0, "98 98"), (None, "98 None")])
def test_rows_fold_on_a_terminal_alone_and_one_that_knows_no_width_counts_as_wide(columns, said):
    ours, theirs = pty.openpty() if columns is not None else os.pipe()
    try:
        if columns is not None:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        code = "from ctobserve.render.folding import room, width; print(width(), room())"
        subprocess.run([sys.executable, "-c", code], stdout=theirs, check=True)
        assert os.read(ours, 100).decode().strip() == said
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_row_folds_before_a_clause_and_within_one_only_when_that_is_longer_than_a_line():
    row = CLAUSE.join(
        ["blue   udp", "10.0.0.1:1 > 10.0.0.2:2", "reply 10.0.0.2:2 > 10.0.0.3:3", "UNREPLIED", "(" + "word " * 12 + ")"]
    )
    assert fitted(row, None) == row.replace(CLAUSE, " ")
    assert fitted(f"{row}\nshort{CLAUSE}one", 42).split("\n") == [
        "blue   udp 10.0.0.1:1 > 10.0.0.2:2",
        INDENT + "reply 10.0.0.2:2 > 10.0.0.3:3",
        INDENT + "UNREPLIED",
        INDENT + "(word word word word word word",
        INDENT + "word word word word word word )",
        "short one",
    ]


def test_a_word_that_no_line_holds_is_cut_and_wide_characters_count_twice():
    assert [len(line) for line in fitted(f"a{CLAUSE}{'x' * 100}", 50).split("\n")] == [1, 50, 50, 24]
    assert fitted(f"{'界' * 10}{CLAUSE}{'界' * 10}", 40) == f"{'界' * 10}\n{INDENT}{'界' * 10}"
    assert fitted(f"{'界' * 10}{CLAUSE}{'界' * 10}", 41) == f"{'界' * 10} {'界' * 10}"
