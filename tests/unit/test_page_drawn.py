"""The report's page in a browser: what it draws is what JSON says, it asks for nothing, and everybody can read it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctobserve.capture.capture import NamespaceState
from ctobserve.capture.watch import Stretch
from ctobserve.documents.report import ReportDocument, collect
from ctobserve.documents.request import Request
from ctobserve.event import DestroyReason, DropReason, Kind
from ctobserve.model import join, printable
from ctobserve.render.htmlout import page
from ctobserve.render.jsonout import document
from ctobserve_lab.recordings import recording
from tests.browser import Tab, browsing
from tests.scripted import CLOCK, NETNS, ScriptedCapture, events
from tests.told import INCIDENTS
from tests.unit.recordings import replay
from tests.unit.tables import entries, many, tcp

SIZES = {"desk": (1280, 800), "tablet": (768, 1024), "phone": (390, 844)}
MOST_BYTES = 1_500_000
EVIL = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "&lt;b&gt; &amp;",
    "[red]x[/red] [@click=app.bell]y[/]",
    "\x1b[31mred",
    "a\u202eb\u2028c",
    '" autofocus onfocus="alert(1)',
)
REASONS = [reason for reason in DestroyReason if reason != DestroyReason.UNCONFIRMED]


@pytest.fixture(scope="module")
def tab() -> Tab:
    with browsing() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """By name: the file of a page, and what JSON says of the same."""
    at = tmp_path_factory.mktemp("pages")
    made = {}
    recorded = {name: collect(replay(recording(name)), Request(), Stretch(), invalid=True) for name in INCIDENTS}
    for name, report in {**recorded, "busy": reported(busy(900.0)), "hostile": reported(hostile())}.items():
        made[name] = (at / f"{name}.html", json.loads(document(report)))
        made[name][0].write_text("\n".join(page(report)))
    return made


class Hasty(ScriptedCapture):
    """Its time passes in steps of a second."""

    def wait(self, seconds: float) -> None:
        super().wait(max(seconds, 1.0))


def reported(capture: ScriptedCapture) -> ReportDocument:
    capture.follow()
    # The first two steps are those until the first reading of the counters.
    capture._left = [events(Kind.INSERT, entries(0))] * 2 + capture._left
    return collect(capture, Request(), Stretch(900.0), invalid=True)


def busy(seconds: float) -> ScriptedCapture:
    """Every reason to leave, every loss, all the time, in forty namespaces with long names; some entries live long."""
    inums = [NETNS, *range(1000, 1039)]
    states = {
        inum: NamespaceState(inum, f"container-{inum:060d}", init=inum == NETNS, sysctls={"nf_conntrack_max": 262_144})
        for inum in inums
    }
    rows = entries(40_000, netns=inums * 1000, src=many(40_000), ct=np.arange(40_000) * 512 + 64)
    rows["bucket"] = np.random.default_rng(1).integers(0, 1024, (40_000, 2))
    at_s = np.linspace(0, seconds, 40_000)
    ages_s = np.geomspace(0.01, seconds / 3, 40_000)[np.random.default_rng(2).permutation(40_000)]
    gone = np.flatnonzero(at_s + ages_s < seconds)
    born_ns, reasons = CLOCK.monotonic_ns + (at_s[gone] * 1e9).astype(np.int64), np.array(REASONS)[gone % len(REASONS)]
    batch = join(
        [
            events(Kind.INSERT, rows, at_s=at_s),
            events(Kind.DESTROY, rows[gone], at_s=(at_s + ages_s)[gone], reason=reasons, born_ns=born_ns),
            events(Kind.DROP, rows, at_s=at_s, reason=[1 + at % len(DropReason) for at in range(40_000)]),
            events(Kind.RESOLVED, rows, at_s=at_s),
        ]
    )
    return Hasty([batch], tcp(100), states=states)


def hostile() -> ScriptedCapture:
    """Namespaces whose names would be markup, if anything were."""
    states = {
        NETNS + at: NamespaceState(NETNS + at, printable(name), init=not at, sysctls={"nf_conntrack_max": 4})
        for at, name in enumerate(EVIL)
    }
    count = len(EVIL)
    table = tcp(4 * count, netns=[NETNS + at % count for at in range(4 * count)], ct=np.arange(4 * count) + 9000)
    lost = tcp(count, netns=[NETNS + at for at in range(count)])
    return Hasty([events(Kind.DROP, lost, reason=DropReason.TABLE_FULL, at_s=1)], table, states=states)


def charts(told: dict[str, Any]) -> dict[str, list[list[float]]]:
    """What each chart has to draw, as its numbers are in JSON; the last one of each line is drawn to the end of its bin."""
    line = told["figures"]["timeline"]
    seconds = [line["width_s"]] * (line["bins"] - 1) + [max(line["last_s"], line["width_s"] / 2)]
    gone, lost, bad = (sorted(line[of].values(), key=sum, reverse=True) for of in ("gone", "lost", "found_bad"))
    per_s = [[count / of for count, of in zip(counts, seconds, strict=True)] for counts in (line["new"], *gone)]
    losses = [*lost, *bad, *([line["clash_resolved"]] if any(line["clash_resolved"]) else [])]
    wanted = {"fill": list(line["entries_by_netns"].values()) or [line["entries"]], "rates": per_s, "losses": losses}
    return {name: [[*numbers, numbers[-1]] for numbers in lines] for name, lines in wanted.items() if lines}


def labels(told: dict[str, Any]) -> dict[str, list[str]]:
    """What the lines of each chart are called, in the same order."""
    line, names = told["figures"]["timeline"], {str(one["netns"]): one["name"] for one in told["figures"]["namespaces"]}
    gone, lost, bad = (sorted(line[of], key=lambda word, of=of: -sum(line[of][word])) for of in ("gone", "lost", "found_bad"))
    losses = [*(f"lost: {word}" for word in lost), *(f"found bad: {word}" for word in bad)]
    losses += ["clash resolved, not lost"] * any(line["clash_resolved"])
    wanted = {"fill": [names[inum] for inum in line["entries_by_netns"]] or ["entries"], "losses": losses}
    return {name: lines for name, lines in (wanted | {"rates": ["new", *(f"gone: {word}" for word in gone)]}).items() if lines}


DRAWN = """Object.fromEntries(
    [...document.querySelectorAll(".chart")].map(box => [box.dataset.chart, box.uplot.data.map(line => [...line])])
)"""
LABELS = """Object.fromEntries([...document.querySelectorAll(".chart")].map(box => [
    box.dataset.chart, box.uplot.series.slice(1).map(line => line.label).filter(label => !/^limit [0-9]+$/.test(label))
]))"""
INKED = """[...document.querySelectorAll(".chart canvas")].map(one => {
    const { data } = one.getContext("2d").getImageData(0, 0, one.width, one.height);
    return new Set(new Uint32Array(data.buffer)).size;
})"""


@pytest.mark.parametrize("name", [*INCIDENTS, "busy", "hostile"])
def test_each_chart_has_the_points_of_json_and_nothing_is_logged_or_asked_for(tab, pages, name):
    path, told = pages[name]
    tab.open(path)
    drawn, line = tab.ask(DRAWN), told["figures"]["timeline"]
    assert {chart: lines[1 : 1 + len(charts(told)[chart])] for chart, lines in drawn.items()} == {
        chart: [pytest.approx(numbers) for numbers in lines] for chart, lines in charts(told).items()
    }
    assert tab.ask(LABELS) == labels(told)
    for times, *lines in drawn.values():
        assert len(times) == line["bins"] + 1 and all(len(numbers) == len(times) for numbers in lines)
        assert np.allclose(np.diff(times), line["width_s"])
    assert all(colours > 5 for colours in tab.ask(INKED)), "there is ink on every canvas"
    cells = told["figures"]["chains"]["cells"]["longest"]
    assert tab.ask("document.querySelectorAll('svg.cells .cell').length") == len(cells)
    bars = tab.ask("[...document.querySelectorAll('svg.chains .bar title')].map(one => one.textContent)")
    assert sum(int(bar.split(": ")[1].split()[0]) for bar in bars) == told["figures"]["chains"]["buckets"]
    assert tab.ask("JSON.parse(document.getElementById('figures').textContent)") == told["figures"]
    assert tab.said == [] and tab.asked == [path.as_uri()]


def test_what_would_be_loaded_or_run_is_refused_and_we_would_hear_of_it(tab, pages):
    tab.open(pages["table_full"][0])
    tab.ask("document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.1:1/x.png' }))")
    tab.ask("document.body.append(Object.assign(document.createElement('script'), { textContent: 'document.title = \"ran\"' }))")
    tab.ask("fetch('http://127.0.0.1:1/').catch(() => 1)")
    tab.settle()
    assert sum("Content Security Policy" in json.dumps(one) for one in tab.said) >= 3
    assert tab.ask("document.title") != "ran"


def test_names_stay_text(tab, pages):
    path, told = pages["hostile"]
    tab.open(path)
    assert tab.ask("document.scripts.length") == 4
    tab.ask("[...document.scripts].forEach(one => one.remove())")
    words = tab.ask("document.body.textContent")
    legend = tab.ask("[...document.querySelectorAll('.u-legend .u-label')].map(one => one.textContent).join(' ')")
    for row in told["figures"]["namespaces"]:
        assert row["name"] in words and row["name"] in legend
    assert {EVIL[0], EVIL[1], EVIL[2], EVIL[3], EVIL[6], "\\x1b[31mred", "a\\u202eb\\u2028c"} == {
        row["name"] for row in told["figures"]["namespaces"]
    }
    assert tab.ask("document.querySelectorAll('img, [onerror], [onfocus], [autofocus]').length") == 0
    assert not set("\x1b\u202e\u2028") & set(words)


WIDTHS = "[...document.querySelectorAll('.chart')].map(box => [box.uplot.width, box.clientWidth])"
ABOVE_THE_FOLD = """(() => {
    const ends = selector => document.querySelector(selector).getBoundingClientRect().bottom;
    return [".verdict h2", ".verdict .sentence", "aside div:nth-child(1)", "aside div:nth-child(2)"].map(ends);
})()"""


@pytest.mark.parametrize("name", [*INCIDENTS, "busy", "hostile"])
def test_every_width_shows_it_all_and_the_first_screen_says_what_is_wrong(tab, pages, name):
    path, told = pages[name]
    tab.open(path)
    worst = next((row for row in told["verdicts"] if row["severity"] != "notice"), told["verdicts"][0])
    for size, (width, height) in SIZES.items():
        tab.resize(width, height)
        assert tab.ask("document.documentElement.scrollWidth") <= width, "nothing beyond the edge"
        assert all(end <= height for end in tab.ask(ABOVE_THE_FOLD)), (size, "verdict, fill and losses are on the first screen")
        assert tab.ask("document.querySelector('.verdict h2').textContent") == f"{worst['severity'].upper()}: {worst['id']}"
        assert tab.ask("document.querySelector('.verdict .sentence').textContent") == worst["sentence"]
        assert all(abs(wide - room) < 2 for wide, room in tab.ask(WIDTHS)), "charts take the room that there is"
        picture = tab.picture()
        assert picture.startswith(b"\x89PNG") and struct.unpack(">II", picture[16:24]) == (width, height)
    assert tab.said == []


# What somebody who sees no more than the first screen has to read there.
FIRST_SCREEN = {
    "table_full": ("the table of full is full", "of new connections refused", "100 %", "7 of 7 entries", "nf_conntrack_max="),
    "udp_race": ("packets of one new connection raced each other", "0 lost", "given to the winner's entry"),
    "long_chains": ("of new connections lost", "because a hash chain was too long", "chaintoolong", "nf_conntrack_buckets="),
    "asymmetric_routing": ("back sees one direction of connections only, as with asymmetric routing", "invalid", "ip route get"),
    "old_udp_mapping": ("are older than the rules", "nobody answers", "while new packets go to", "conntrack -D -p udp"),
}
SEEN = """(() => {
    const found = [], all = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), range = document.createRange();
    for (let node = all.nextNode(); node; node = all.nextNode()) {
        range.selectNodeContents(node);
        const boxes = [...range.getClientRects()];
        if (boxes.length && boxes.every(box => box.bottom <= innerHeight)) found.push(node.textContent);
    }
    return found.join("").replace(/\\s+/g, " ");
})()"""


def test_the_first_screen_says_what_is_wrong_with_all_five_incidents(tab, pages):
    assert FIRST_SCREEN.keys() == set(INCIDENTS)
    for name, words in FIRST_SCREEN.items():
        for size in SIZES.values():
            tab.open(pages[name][0], *size)
            seen = tab.ask(SEEN)
            assert not [one for one in words if one not in seen], (name, size, seen)


CONTRASTS = """(() => {
    const parts = colour => colour.match(/[\\d.]+/g).map(Number);
    const linear = part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
    const behind = one => {
        for (; one; one = one.parentElement) {
            const colour = parts(getComputedStyle(one).backgroundColor);
            if (colour.length === 3 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    const found = [];
    for (const one of document.querySelectorAll("body *:not(script, style, canvas, noscript, .time details *)")) {
        const own = [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
        if (!own || !one.getClientRects().length) continue;
        const style = getComputedStyle(one);
        const [ink, paper] = [light(parts(one.closest("svg") ? style.fill : style.color)), light(behind(one))];
        const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
        if (ratio < 4.5) found.push([one.tagName, one.className.baseVal ?? one.className, one.textContent.slice(0, 30), ratio]);
    }
    return found;
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_text_has_contrast_enough(tab, pages, dark):
    for name in ("long_chains", "hostile", "busy"):
        tab.open(pages[name][0], dark=dark)
        # But for the longest table, whose cells are like those of others.
        tab.ask("document.querySelectorAll('details:not(.time > *)').forEach(one => one.open = true)")
        assert tab.ask(CONTRASTS) == []
        assert (tab.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)") is not dark
        assert tab.said == []


def test_a_change_of_mind_and_a_printer_redraw_without_a_word(tab, pages):
    path, told = pages["asymmetric_routing"]
    tab.open(path)
    before = tab.ask(DRAWN)
    for dark, medium in ((True, ""), (False, ""), (False, "print"), (True, "print"), (False, "")):
        tab.emulate(dark, medium)
        tab.settle()
        assert tab.ask(DRAWN) == before
        hidden = tab.ask("getComputedStyle(document.querySelector('.tools')).display") == "none"
        assert hidden is (medium == "print")
        paper = tab.ask("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") is (not dark or medium == "print"), "paper is white"
    printed = tab.tell("Page.printToPDF")["data"]
    assert len(printed) > 10_000 and tab.said == []
    assert told["verdicts"][0]["sentence"] in tab.ask("document.body.textContent")


SCALES = """[...document.querySelectorAll(".chart")].map(box => [box.uplot.scales.x.min, box.uplot.scales.x.max])"""


def test_all_charts_zoom_together(tab, pages):
    tab.open(pages["long_chains"][0], 1280, 1200)
    whole = tab.ask(SCALES)
    assert len(whole) == 3 and len({tuple(one) for one in whole}) == 1

    def press(does: str) -> list[float]:
        tab.ask(f"document.querySelector('[data-does={does}]').click()")
        tab.settle()
        scales = tab.ask(SCALES)
        assert len({tuple(one) for one in scales}) == 1
        return scales[0]

    inner = press("in")
    assert inner[1] - inner[0] == pytest.approx((whole[0][1] - whole[0][0]) / 2)
    assert press("later")[0] > inner[0] == pytest.approx(press("earlier")[0])
    assert press("whole") == whole[0] == press("out")
    box = tab.ask("""(() => { const of = document.querySelector(".u-over"); of.scrollIntoView({block: "center"});
        const { x, y, width, height } = of.getBoundingClientRect(); return { x, y, width, height }; })()""")
    left, right, y = box["x"] + box["width"] * 0.5, box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2
    tab.mouse("mouseMoved", left, y)
    tab.mouse("mousePressed", left, y, button="left", clickCount=1)
    tab.mouse("mouseMoved", right, y, button="left", buttons=1)
    tab.mouse("mouseReleased", right, y, button="left", clickCount=1)
    tab.settle()
    scales, span = tab.ask(SCALES), whole[0][1] - whole[0][0]
    assert len({tuple(one) for one in scales}) == 1
    assert scales[0] == pytest.approx([whole[0][0] + span / 2, whole[0][0] + span * 0.75], abs=span / 100)
    assert "UTC" in tab.ask("document.getElementById('shown').textContent") and tab.said == []


FOCUSED = """[...document.querySelectorAll("*")].indexOf(document.activeElement)"""


def test_the_keyboard_reaches_all_that_can_be_used(tab, pages):
    tab.open(pages["long_chains"][0])
    wanted = tab.ask("""[...document.querySelectorAll("button, summary, [tabindex]")].filter(one => one.checkVisibility())
        .map(one => [...document.querySelectorAll("*")].indexOf(one))""")
    reached = []
    for _ in range(len(wanted)):
        tab.press("Tab", 9)
        reached.append(tab.ask(FOCUSED))
    assert reached == wanted, "in the order of the page"
    names = tab.ask("""[...document.querySelectorAll("button, summary, [role=region], canvas, svg[role=img]")]
        .map(one => one.getAttribute("aria-label") || one.getAttribute("aria-labelledby") || one.textContent)""")
    assert all(names), "each has a name"


def test_the_keyboard_opens_a_table_sorts_it_and_hides_a_line(tab, pages):
    tab.open(pages["long_chains"][0])
    tab.ask("document.querySelector('.time > details > summary').focus()")
    tab.press("Enter", 13, "\r")
    assert tab.ask("document.querySelector('.time > details').open")
    assert tab.ask("document.querySelector('.time > details tbody').rows.length") == 33
    table = "document.querySelectorAll('table.sortable')[2]"
    column = f"[...{table}.tBodies[0].rows].map(row => row.cells[0].textContent)"
    tab.ask(f"{table}.tHead.rows[0].cells[0].querySelector('button').focus()")
    for order, marked in ((True, "descending"), (False, "ascending")):
        tab.press("Enter", 13, "\r")
        shown = tab.ask(column)
        assert shown == sorted(shown, reverse=order)
        assert tab.ask(f"{table}.tHead.rows[0].cells[0].getAttribute('aria-sort')") == marked
    tab.ask("document.querySelectorAll('.u-legend .u-series th')[1].focus()")
    tab.press("Enter", 13, "\r")
    assert tab.ask("document.querySelector('.chart').uplot.series[1].show") is False and tab.said == []


def test_lines_to_paste_are_broken_between_words_and_copied_as_they_are(tab, pages):
    path, told = pages["old_udp_mapping"]
    tab.open(path, *SIZES["phone"])
    copied = tab.ask("""(() => {
        getSelection().selectAllChildren(document.querySelector("pre"));
        return getSelection().toString();
    })()""")
    assert copied == "\n".join(told["verdicts"][0]["do"]) and copied.count("\n") == 1
    heights = tab.ask("[...document.querySelectorAll('pre .word')].map(one => one.getClientRects().length)")
    assert heights and set(heights) <= {0, 1}, "no word with a hyphen goes on in the next line"


def test_numbers_are_sorted_as_numbers_and_what_is_unknown_is_least(tab, pages):
    tab.open(pages["busy"][0])
    table = "[...document.querySelectorAll('table.sortable')].find(one => one.tHead.textContent.includes('default'))"
    at = f"[...{table}.tHead.rows[0].cells].findIndex(one => one.textContent === 'default')"
    tab.ask(f"{table}.tHead.rows[0].cells[{at}].querySelector('button').click()")
    shown = tab.ask(f"[...{table}.tBodies[0].rows].map(row => row.cells[{at}].dataset.n)")
    numbers = [float(one) if one else float("-inf") for one in shown]
    assert numbers == sorted(numbers, reverse=True)


def test_without_scripts_all_is_there_but_the_charts(tab, pages):
    path, told = pages["asymmetric_routing"]
    tab.tell("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.load(path)
        root = tab.tell("DOM.getDocument", depth=-1)["root"]["nodeId"]
        text = tab.tell("DOM.getOuterHTML", nodeId=root)["outerHTML"]
    finally:
        tab.tell("Emulation.setScriptExecutionDisabled", value=False)
    assert told["verdicts"][0]["sentence"] in text and "The charts need JavaScript" in text
    assert text.count("<tr><th scope") > told["figures"]["timeline"]["bins"] and tab.said == []


def test_fifteen_busy_minutes_are_no_large_file(pages):
    path, told = pages["busy"]
    assert path.stat().st_size < MOST_BYTES
    line = told["figures"]["timeline"]
    assert 300 < line["bins"] <= 600 and line["bins"] * line["width_s"] >= 900
    assert set(line["lost"]) | set(line["found_bad"]) == {reason.name.lower() for reason in DropReason}
    assert len(line["gone"]) == len(REASONS) and len(line["entries_by_netns"]) == 8
    assert len(json.dumps(told["figures"])) < 200_000
