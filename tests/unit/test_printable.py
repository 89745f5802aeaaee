"""Foreign bytes as text: nothing that acts on a terminal, nothing that is longer than asked for, nothing that raises."""

from __future__ import annotations

import random

import pytest

from ctobserve.model import SHOWN_CHARACTERS, printable


@pytest.mark.parametrize(
    ("foreign", "shown"),
    [
        (b"nginx", "nginx"),
        (b"two words", "two words"),
        ("Grüße".encode(), "Grüße"),
        (b"\xff\xfe", r"\xff\xfe"),
        ("\udcff", r"\xff"),
        (b"\x1b[2J", r"\x1b[2J"),
        (b"one\nHEALTHY", r"one\x0aHEALTHY"),
        (b"a\\x1b", r"a\\x1b"),
        ("\u202egnp", r"\u202egnp"),
        ("\u2028", r"\u2028"),
        ("\u00a0", r"\xa0"),
        ("\U000e0001", r"\U000e0001"),
        (b"\0", r"\x00"),
        ("a\u3164b\u115f\u1160\uffa0", r"a\u3164b\u115f\u1160\uffa0"),
        ("\u2800", r"\u2800"),
        ("\u034f\u17b4\u17b5\u180b\u180f", r"\u034f\u17b4\u17b5\u180b\u180f"),
        ("a\ufe0f\U000e0100\U000e01ef", r"a\ufe0f\U000e0100\U000e01ef"),
        ("\u0915\u093f", "\u0915\u093f"),
        (b"", ""),
        (b"x" * 64, "x" * 64),
        (b"x" * 65, "x" * 61 + "..."),
        (b"\x1b" * 40, r"\x1b" * 15 + "..."),
    ],
)
def test_what_is_shown(foreign, shown):
    assert printable(foreign) == shown


def test_any_bytes_become_a_line_that_only_shows():
    some = random.Random(11)
    for _ in range(10_000):
        foreign = some.randbytes(some.randrange(40))
        for text in (printable(foreign), printable(foreign.decode("utf-8", "surrogateescape")), printable(foreign, 9)):
            assert text.isprintable()
            text.encode()
        assert len(printable(foreign)) <= SHOWN_CHARACTERS and len(printable(foreign, 9)) <= 9


def test_each_name_of_two_bytes_has_a_text_of_its_own():
    names = {bytes([first, second]) for first in range(256) for second in range(256)}
    assert len({printable(name) for name in names}) == len(names)
