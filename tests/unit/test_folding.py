from __future__ import annotations

import os

import pytest

from ctobserve.render.folding import filled, folded, width

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
