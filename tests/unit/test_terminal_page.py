"""The page of the full screen as text: what the first one says of an incident, on any size, and that foreign names stay text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ctobserve.capture.table import Lengths
from ctobserve.diagnosis.verdict import Severity
from ctobserve.documents.top import GroupRow
from ctobserve.documents.verdicts import VerdictRow
from ctobserve.model import printable
from ctobserve.terminal import panels
from ctobserve.terminal.lines import Line, Span, beside, cut, fitted, line, wide, wrapped
from ctobserve.terminal.page import Looks, page
from ctobserve.terminal.seen import Proved, Seen, Standing, Verdicts
from ctobserve.terminal.told import helped, verdict_lines
from tests import told
from tests.unit.terminals import first_screen

SCREENS = {name: first_screen(name) for name in told.INCIDENTS}
FULL = SCREENS["table_full"]
HOSTILE = (
    *("<script>alert(1)</script>", "&lt;b&gt;", "[red]red[/red]", "[@click=app.quit]quit[/]", "[/]", "\\[bold]"),
    *("\x1b[31mred\x1b[0m", "\u202egnp", "{x!r:>9}"),
)


def text_of(seen: Seen, width: int = 80, height: int = 24, **looks: object) -> str:
    return "\n".join(one.text.rstrip() for one in page(seen, seen, Looks(**looks), width, height))


# Of each, what somebody who sees the first screen alone can say is wrong: in these words.
SAYS = {
    "table_full": (
        "CRITICAL  table_full: the table of full is full: 23 packets of new connections",
        "assured, which early drop never takes",
        "100.0 % 7 of 7 full FULL",
        "lost in 0.9 s: table_full 23",
    ),
    "udp_race": (
        "NOTICE    clash_race: packets of one new connection raced each other",
        "clashes resolved 81",
        "0 lost, 81 given to the",
    ),
    "long_chains": (
        "CRITICAL  chain_too_long: 74 packets of new connections lost in 3.3 s",
        "WARNING   few_buckets: 24136 nodes lie in only 512 buckets",
        "longest 66",
        "lost in 3.3 s: chaintoolong 74",
    ),
    "asymmetric_routing": (
        "WARNING   asymmetric_routing: back sees one direction of connections only",
        "INVALID, lost or not: invalid 55",
    ),
    "old_udp_mapping": (
        "WARNING   entry_older_than_rule: 2 entries for 10.1.0.2:514/udp in host are",
        "older than the rules: what 10.1.0.1:5003, 10.1.0.1:5011 sends still",
        "10.2.0.2:514 by its dnat rule",
    ),
}


@pytest.mark.parametrize("name", told.INCIDENTS)
def test_who_sees_the_first_screen_can_say_what_is_wrong(name):
    text = text_of(SCREENS[name])
    for words in SAYS[name]:
        assert words in text
    assert "no records lost · table EQUAL to the kernel's then" in text


@pytest.mark.parametrize(
    "size", [(80, 24), (132, 40), (160, 50), (100, 30), (40, 10), (20, 6), (250, 70), (143, 60), (144, 60), (144, 12)]
)
@pytest.mark.parametrize("name", told.INCIDENTS)
def test_a_page_fills_the_terminal_exactly_whatever_its_size(name, size):
    width, height = size
    lines = page(SCREENS[name], SCREENS[name], Looks(chosen=3, words="--proto udp"), width, height)
    assert len(lines) == height and {one.wide for one in lines} == {width}


def test_80_by_24_has_every_part():
    text = text_of(SCREENS["long_chains"])
    assert text.splitlines()[0].startswith(" ctobserve top  13:58:58Z  RECORDED, END  long_chains.ctobserve")
    for words in (
        "full in 14 s",
        "new/s",
        "gone/s",
        "lost/s",
        "ENTRIES",
        "10.50.0.1 2000",
        "512 buckets",
        "13:58:55 ─",
        "q quit",
    ):
        assert words in text
    assert text.splitlines()[20].count("!") >= 5, "where packets were lost"
    assert text.splitlines()[-6].count("X") == 1 and "█" * 50 in text.splitlines()[-5], "the hash, and the worst of it"


def test_a_wide_terminal_has_a_picture_of_many_lines_and_what_its_signs_mean():
    lines = page(SCREENS["udp_race"], SCREENS["udp_race"], Looks(), 160, 50)
    cells = [one for one in lines if any(target[0] == "cells" for _, target in one.targets)]
    assert len(cells) == 32
    begin, (what, row) = cells[5].targets[-1]
    assert (
        (what, row) == ("cells", 5)
        and cells[5].at(begin + 7) == (7, ("cells", 5))
        and cells[5].at(begin - 1) != (7, ("cells", 5))
    )
    assert "up to 2" in "\n".join(one.text for one in lines)


def test_what_makes_it_doubtful_is_in_sight_while_the_screen_is_frozen():
    before = FULL._replace(place=None, proved=Proved(FULL.at_ns, True, "7 entries"))
    now = before._replace(at_ns=FULL.at_ns + 90 * 10**9, lost={"insert": 3, "drop": 2})
    lines = [one.text for one in page(before, now, Looks(frozen=True), 80, 24)]
    assert " FROZEN " in lines[0]
    assert lines[-2].startswith(" 5 RECORDS LOST · table EQUAL to the kernel's 90 s ago, 7 entries · lost: inse")
    assert "LIVE" in text_of(before) and "space freeze" in text_of(before)


@pytest.mark.parametrize(
    ("proved", "says"),
    [
        (None, "no proof yet"),
        (Proved(FULL.at_ns, None, "there is no reading"), "no proof then: there is no reading"),
        (Proved(FULL.at_ns, False, "7 entries here, 8 in the kernel"), "table NOT EQUAL to the kernel's then, 7 entries here, 8"),
    ],
)  # fmt: skip
def test_the_last_proof_is_told_as_what_it_was(proved, says):
    assert says in panels.status(FULL._replace(proved=proved)).text


def with_verdicts(*standing: Standing) -> Seen:
    return FULL._replace(verdicts=Verdicts(standing, 5.0, 0, 0, "2026-11-26T12:03:05Z"))


def verdict(name: str, severity: Severity, sentence: str = "it is so", gone: str | None = None) -> Standing:
    return Standing(VerdictRow(name, severity, sentence, {}, (), (), None), "2026-11-26T13:00:00.000000000Z", gone)


def test_verdicts_that_are_gone_say_until_when():
    seen = with_verdicts(
        verdict("one", Severity.WARNING), verdict("two", Severity.CRITICAL, gone="2026-11-26T13:00:07.000000000Z")
    )
    first, second = panels.verdicts(seen, 80, 5)
    assert first.text == " WARNING   one: it is so" and second.text == "gone      two: was so until 13:00:07Z"


def test_verdicts_for_which_there_is_no_room_are_counted():
    many = [verdict(f"rule_{at}", Severity.WARNING, "what is wrong here is long " * 9) for at in range(9)]
    lines = panels.verdicts(with_verdicts(*many), 80, 4)
    assert len(lines) == 4 and lines[-1].text.rstrip().endswith(f"+{9 - len({one.target for one in lines})} (v)")
    assert panels.verdicts(FULL._replace(verdicts=None), 80, 4)[0].text.startswith("judging")
    assert panels.verdicts(with_verdicts(), 80, 4)[0].text == "no verdict"


def filled(share: float, left: float | None) -> Line:
    frame = replace(
        FULL.moment.frame, entries_by_netns={"8": round(1000 * share)}, max_by_netns={"8": 1000}, full_in_s_by_netns={"8": left}
    )
    return panels.fills(FULL._replace(moment=FULL.moment._replace(frame=frame, labels={8: "blue"})), 80, 3)[0]


def test_a_gauge_says_in_words_too_how_full_it_is():
    assert filled(0.5, None).text == "▕" + "█" * 15 + "·" * 15 + "▏ 50.0 % 500 of 1000 blue"
    assert filled(0.5, 90.0).text.endswith("500 of 1000 blue, full in 90 s")
    assert filled(1.2, 0.0).text.endswith("120.0 % 1200 of 1000 blue FULL")
    roles = [
        {span.role for span in filled(*one).spans} & {"calm", "filling", "full"}
        for one in ((0.5, None), (0.5, 200.0), (0.9, None), (1, 0))
    ]
    assert roles == [{"calm"}, {"filling"}, {"filling"}, {"full"}]


def test_namespaces_beyond_the_room_for_them_are_summed():
    counts = {str(inum): inum for inum in range(1, 8)}
    frame = replace(FULL.moment.frame, entries_by_netns=counts, max_by_netns=dict.fromkeys(counts), full_in_s_by_netns={})
    lines = [one.text for one in panels.fills(FULL._replace(moment=FULL.moment._replace(frame=frame)), 80, 3)]
    assert [text.rpartition(" ")[2] for text in lines[:2]] == ["7", "6"] and "- % 7 of -" in lines[0]
    assert lines[2] == "and 15 entries in 5 other namespaces"


def test_a_chart_is_as_high_as_its_highest_and_shows_the_least():
    assert panels.chart(np.array([0.0, 0.001, 4.0, 8.0]), 1) == [" ▁▄█"]
    assert panels.chart(np.array([0.0, 1.0, 4.0, 8.0]), 2) == ["   █", " ▂██"]
    assert panels.chart(np.zeros(3), 1) == ["   "]


def test_cells_are_as_dark_as_their_longest_chain():
    lengths = np.zeros(128, np.uint16)
    lengths[[0, 1, 2, 3, 100]] = [1, 3, 6, 11, 12]
    seen = FULL._replace(moment=FULL.moment._replace(lengths=Lengths(lengths, 0, 0)))
    first, second = panels.picture(seen, 2)
    assert first.text == "░▒▓█" + "·" * 60 and second.text == "·" * 36 + "X" + "·" * 27
    lengths[100] = 10
    lengths[3] = 5
    assert "X" not in panels.picture(seen, 2)[1].text, "where no chain is long none is marked"
    few = FULL._replace(moment=FULL.moment._replace(lengths=Lengths(lengths[:3], 0, 0)))
    assert [one.text for one in panels.picture(few, 2)] == ["░▒▓"]


def test_a_click_on_the_line_of_a_recording_is_an_instant_of_it():
    place = FULL.place
    assert place is not None
    bar = panels.time_line(FULL, place, 80)[0]
    assert bar.wide == 80 and bar.text.endswith("● 13:58:42 ")
    assert panels.time_of(place, bar.text.index("●"), 80) == place.end_ns
    assert panels.time_of(place, 10, 80) == panels.time_of(place, 0, 80) == place.begin_ns
    assert panels.time_of(place, 79, 80) == place.end_ns


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_text(name):
    """Labels pass printable below; whatever they look like to Rich or Textual, a page has them letter by letter."""
    label = printable(name)
    frame = replace(FULL.moment.frame, by=("netns", "state"), groups=(GroupRow((4026532350, name), 7, 0.0, 0),))
    seen = FULL._replace(moment=FULL.moment._replace(frame=frame, labels={4026532350: label}))
    seen = seen._replace(verdicts=Verdicts((verdict("rule", Severity.WARNING, f"in {label} it is so"),), 1.0, 0, 0, ""))
    text = text_of(seen._replace(source=label, wish=seen.wish._replace(only=seen.wish.only._replace(netns=4026532350))), 160, 50)
    assert text.count(label) >= 4
    assert f"in {label} it is so" in "\n".join(one.text for one in verdict_lines(seen.verdicts.standing, 160))


def test_lines_are_measured_in_cells():
    assert [wide(text) for text in ("abc", "漢字", "e\u0301", "─")] == [3, 4, 1, 1]
    assert cut("漢字漢", 5) == "漢字…" and cut("abc", 3) == "abc" and cut("abc", 2) == "a…" and cut("abc", 0) == ""
    assert fitted(line("漢字", Span("x", "key")), 4) == Line((Span("漢字"),)) and fitted(line("a"), 3).text == "a  "
    left, right = line("ab", target=("group", 1)), line("cd", target=("cells", 0))
    (both,) = beside([left], [right], 4)
    assert both.text == "ab  cd" and both.at(1) == (1, ("group", 1)) and both.at(5) == (1, ("cells", 0))
    assert beside([], [right], 4)[0].at(0) is None
    assert wrapped("", 40) == [""]


def test_help_has_the_keys_of_what_is_looked_at():
    live, recorded = ("\n".join(one.text for one in helped(what, 80)) for what in (False, True))
    assert "freeze the screen" in live and "freeze the screen" not in recorded
    assert "next loss" in recorded and "next loss" not in live
    assert max(one.wide for one in helped(True, 80)) <= 80
