"""What others chose becomes text in HTML, never markup; numbers are sorted as numbers."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from ctobserve.render.htmlout import as_data
from ctobserve.render.markup import Shaded, folded_away, pairs, scrolled, table, text

HOSTILE = [
    "<script>alert(1)</script>",
    "</td></table><img src=x onerror=alert(1)>",
    '" onfocus="alert(1)" x="',
    "' onclick='alert(1)",
    "&lt;b&gt;&#60;",
    "<!-- ",
    "]]>",
    "[red]x[/red] [@click=app.quit]y[/]",
]


class Parsed(HTMLParser):
    """Tags with their attributes, and words."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, str | None] = {}
        self.words: list[str] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= dict(attrs)

    def handle_data(self, data):
        self.words.append(data)

    def handle_comment(self, data):
        raise AssertionError(data)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_text_wherever_it_stands(name):
    usual = Parsed(whole("usual"))
    evil = Parsed(whole(name))
    assert evil.tags == usual.tags and evil.attributes.keys() == usual.attributes.keys()
    assert "".join(evil.words).count(name) == "".join(usual.words).count("usual") == 8
    assert evil.attributes["aria-label"] == name


def whole(name: str) -> str:
    grid = table(name, [name, "number"], [[name, name], [name, 1]])
    return folded_away(name, scrolled(name, pairs([(name, name)]), grid))


def test_cells_say_what_they_are_sorted_by():
    made = table("t", ["name", "n"], [["a", 1], ["b", 2.5], ["c", None], ["d", True], ["e", Shaded(7, 2)]])
    assert '<td class="n" data-n="1">1</td>' in made and '<td class="n" data-n="2.5">2.5</td>' in made
    assert '<td class="n" data-n="">-</td>' in made and "<td>True</td>" in made
    assert '<td class="n t2" data-n="7">7</td>' in made
    assert 'class="sortable"' in made and "sortable" not in table("t", ["a"], [["b"]], sortable=False)


@pytest.mark.parametrize("name", [*HOSTILE, "\u2028\u2029", "</ScRiPt>"])
def test_data_end_no_script(name):
    made = as_data({name: [name]})
    assert not set("<>&\u2028\u2029") & set(made)
    assert Parsed(f"<script>{made}</script><p>").tags == ["script", "p"]


def test_text_is_what_people_read():
    assert (text(None), text(0.00012), text([1, 2]), text("<")) == ("-", "0.00012", "1,2", "&lt;")
