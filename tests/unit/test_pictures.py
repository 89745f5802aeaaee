"""The pictures that README.md shows: there, small, and drawn anew as large as they are."""

from __future__ import annotations

import re
import struct

from tests.pictures import MOST_BYTES, PLACE, pictures


def size(png: bytes) -> tuple[int, int]:
    """Of the first chunk, IHDR."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_they_can_be_drawn_anew_and_are_small():
    drawn = dict(pictures())
    kept = {path.name: path.read_bytes() for path in PLACE.glob("*.png")}
    assert {name: size(png) for name, png in drawn.items()} == {name: size(png) for name, png in kept.items()}
    assert max(map(len, kept.values())) <= MOST_BYTES


def test_the_readme_shows_each():
    shown = re.findall(r"!\[[^]]+\]\(docs/pictures/([^)]+)\)", (PLACE.parents[1] / "README.md").read_text())
    assert sorted(shown) == sorted(path.name for path in PLACE.glob("*.png"))
