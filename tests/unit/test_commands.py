"""Every command that opens a capture, run on a scripted one: what it asks for, what it prints where, and how it ends."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partialmethod
from importlib import import_module
from typing import NamedTuple

import pytest

from ctobserve.capture.capture import PacketCount
from ctobserve.capture.event_filter import EventFilter
from ctobserve.capture.watch import Stretch
from ctobserve.commands import fullscreen, opening
from ctobserve.commands import top as command_of_top
from ctobserve.commands.cli import COMMANDS
from ctobserve.commands.sought import parse
from ctobserve.commands.top import CLEAR
from ctobserve.documents import buckets, drops, events, report, top, verify, why
from ctobserve.documents import list as table
from ctobserve.documents.meta import meta_of
from ctobserve.documents.request import Request
from ctobserve.event import DestroyReason, DropReason, Kind
from ctobserve.model import join
from ctobserve.programs.hooks import Purpose
from ctobserve.render.assets import asset
from ctobserve.render.drops import balance_lines
from ctobserve.render.folding import room
from ctobserve.render.hash_svg import hash_pictures, standing_alone
from ctobserve.render.htmlout import buckets_page, page
from ctobserve.render.jsonout import document, line, lines
from ctobserve.render.list import csv, listing_lines, listing_notes, table_lines
from ctobserve.render.packets import packet_line
from ctobserve.render.report import report_lines
from ctobserve.render.spread import bucket_lines
from ctobserve.render.stream import StreamLines
from ctobserve.render.summary import summary_line
from ctobserve.render.top import frame_lines
from ctobserve.render.verify import verify_lines
from ctobserve.render.why import why_lines
from ctobserve.terminal.app import Top
from tests import scripted
from tests.scripted import CLOCK, FIDELITY, NETNS, ScriptedCapture, reading
from tests.unit.tables import entries, tcp
from tests.unit.typed import run

NOTHING = Purpose(0)
TABLE, REASONS, UPDATES, DROPS = Purpose.TABLE, Purpose.REASONS, Purpose.UPDATES, Purpose.DROPS
CONFIRMS, INVALID, PACKETS, UNCONFIRMED = Purpose.CONFIRMS, Purpose.INVALID, Purpose.PACKETS, Purpose.UNCONFIRMED
WHOLE_TABLE = {"follows": True, "reads": True, "chains": False, "tells": True, "before_s": 0, "streams": False}
FOLLOWED = WHOLE_TABLE | {"chains": True}
UNREAD = WHOLE_TABLE | {"follows": False, "reads": False}
STREAM = UNREAD | {"chains": True, "streams": True}
SILENT = WHOLE_TABLE | {"tells": False}
READ_ONCE = SILENT | {"follows": False}


@pytest.mark.parametrize(
    ("typed", "purpose", "how", "duration"),
    [
        ("report", TABLE | DROPS | UNCONFIRMED | INVALID, WHOLE_TABLE, 5),
        ("report --no-invalid --duration 2", TABLE | DROPS | UNCONFIRMED, WHOLE_TABLE, 2),
        ("report --format html", TABLE | DROPS | UNCONFIRMED | INVALID, WHOLE_TABLE, 5),
        ("why 10.0.0.2 --duration 2", TABLE | REASONS | DROPS | UPDATES | INVALID, FOLLOWED, 2),
        ("why :53 --no-invalid --confirms --duration 2", TABLE | REASONS | DROPS | UPDATES | CONFIRMS, FOLLOWED, 2),
        ("drops --duration 2", DROPS, UNREAD | {"streams": True}, 2),
        ("drops --duration 2 --invalid --json", DROPS | INVALID, UNREAD, 2),
        ("events --duration 2", TABLE | REASONS | DROPS | UPDATES, STREAM, 2),
        ("events --duration 2 --events insert,destroy,drop", TABLE | REASONS | DROPS, STREAM, 2),
        ("events --duration 2 --events update", TABLE | REASONS | DROPS | UPDATES, STREAM, 2),
        ("events --duration 2 --events confirm", TABLE | REASONS | DROPS | CONFIRMS, STREAM, 2),
        ("events --duration 2 --invalid", TABLE | REASONS | DROPS | UPDATES | INVALID, STREAM, 2),
        ("events --duration 2 --invalid --events insert", TABLE | REASONS | DROPS, STREAM, 2),
        ("events --duration 2 --packets --events drop", TABLE | REASONS | DROPS | PACKETS, STREAM, 2),
        *((f"list --format {form}", NOTHING, SILENT, None) for form in ("table", "csv", "json")),
        *((f"list --format {form} --duration 2", TABLE, SILENT, 2) for form in ("table", "csv", "json")),
        ("list --duration 0", NOTHING, SILENT, 0),
        ("list --format kernel", NOTHING, READ_ONCE, None),
        ("list --format kernel --duration 2", TABLE, READ_ONCE, 2),
        ("buckets", NOTHING, READ_ONCE, None),
        ("buckets --duration 0", NOTHING, READ_ONCE, 0),
        ("buckets --duration 2", TABLE, SILENT, 2),
        ("top --duration 2", TABLE | DROPS, WHOLE_TABLE | {"before_s": 2, "streams": True}, 2),
        ("verify", TABLE, SILENT, 1),
        ("verify --duration 2", TABLE, SILENT, 2),
    ],
)
def test_a_command_attaches_and_follows_what_it_needs_and_no_more(started, typed, purpose, how, duration):
    code, _, _ = started(made(), typed)
    asked = started.asked
    assert (code, asked.purpose, asked.how, asked.request.duration) == (0, purpose, how, duration)


BORN, THERE = entries(3, ct=[4096, 4352, 4608], sport=7), join([tcp(2, ct=[256, 512]), entries(1, ct=768, bucket=(2, 2))])
HAPPENS = (
    scripted.events(Kind.INSERT, BORN, at_s=0.1),
    join(
        [
            scripted.events(Kind.UPDATE, BORN[:1], at_s=0.2, changes=1 << 3),
            scripted.events(Kind.DROP, BORN[1:2], at_s=0.3, reason=DropReason.TABLE_FULL, cpu=1),
        ]
    ),
)
LEFT = scripted.events(Kind.DESTROY, BORN[:1], at_s=0.4, reason=DestroyReason.EARLY_DROP)


def made(**more) -> ScriptedCapture:
    """Three entries at first; three come, one of them and a packet are lost. What `drops` and `report` begin with comes first."""
    given = {
        "batches": (scripted.events(Kind.INSERT, BORN[:0]),) * 2 + HAPPENS,
        "entries": THERE,
        "held": LEFT,
        "readings": [reading(), reading(cpu=1, drop=2, early_drop=1)],
        "counted": [PacketCount(NETNS, 0, 2, 17), PacketCount(NETNS, 1, 8, 5)],
    }
    return ScriptedCapture(**(given | more))


class Asked(NamedTuple):
    """What a command wanted to be opened."""

    request: Request
    purpose: Purpose
    how: dict[str, bool]


@pytest.fixture
def started(monkeypatch, capsys):
    """started(capture, typed): exit code, stdout and stderr of this command on this capture, and then started.asked."""
    signature = inspect.signature(opening.opened)

    def start(capture: ScriptedCapture, typed: str) -> tuple[int, str, str]:
        @contextmanager
        def opened(*given, **named) -> Iterator[tuple[ScriptedCapture, Stretch]]:
            bound = signature.bind(*given, **named)
            bound.apply_defaults()
            start.asked = Asked(bound.arguments.pop("request"), bound.arguments.pop("purpose"), bound.arguments)
            if start.asked.how["follows"]:
                capture.follow()
            yield capture, Stretch(start.asked.request.duration)

        name, *options = typed.split()
        monkeypatch.setattr(import_module(f"ctobserve.commands.{COMMANDS[name].module}"), "opened", opened)
        return run(monkeypatch, capsys, name, *options)

    return start


Lines = Iterator[str]


def of_report(form: Callable[[report.ReportDocument], Lines], invalid: bool = True) -> Callable[..., Lines]:
    return lambda capture, request, stretch: form(report.collect(capture, request, stretch, invalid))


def of_list(form: Callable[[table.ListDocument], Lines]) -> Callable[..., Lines]:
    return lambda capture, request, stretch: form(table.collect(capture, request, stretch))


def drops_as_text(capture, request, stretch) -> Lines:
    stream, shown = StreamLines(capture, room()), []
    found = drops.collect(capture, request, stretch, lambda came, lost: shown.extend(stream.of(came, lost)))
    yield from shown
    yield from balance_lines(found)


def events_with(form: Callable[..., Lines], *kinds: Kind) -> Callable[..., Lines]:
    def told(capture, request, stretch) -> Lines:
        stream = StreamLines(capture, room())
        for rows in events.collect(capture, request, stretch, EventFilter(kinds, request.filter)):
            yield from form(stream, rows)

    return told


def events_and_packets(capture, request, stretch) -> Lines:
    yield from events_with(lambda _, rows: lines(rows), Kind.DROP)(capture, request, stretch)
    yield from map(line, events.collect_packets(capture, request))


def packets_as_text(capture, request, stretch) -> Lines:
    yield from events_with(lambda stream, rows: stream.of(rows.events, rows.events), Kind.DROP)(capture, request, stretch)
    yield from (packet_line(row, {NETNS: "blue"}) for row in events.collect_packets(capture, request))


def frames(capture, request, stretch) -> Iterator[top.Frame]:
    return top.collect(capture, request, stretch, top.View(("dport", "proto"), "new", 1.0))


def top_as_text(capture, request, stretch) -> Lines:
    for frame in frames(capture, request, stretch):
        yield from frame_lines(frame, {NETNS: "blue"})


def whole(found: object) -> Lines:
    yield document(found)


FEW = (Kind.INSERT, Kind.DROP)
EVERY = (*FEW, Kind.CONFIRM, Kind.UPDATE, Kind.DESTROY)
# What is typed, and the lines that it says of what `collect` gives.
SAYS = {
    "report": of_report(report_lines),
    "report --no-invalid --limit 1 --duration 2": of_report(report_lines, invalid=False),
    "report --json": of_report(whole),
    "report --format html": of_report(page),
    "why 10.0.0.2:53/udp --duration 1": lambda *of: why_lines(why.collect(*of, parse("10.0.0.2:53/udp"), True), room()),
    "why 10.0.0.2 --duration 1 --limit 2 --no-invalid --json": lambda *of: whole(why.collect(*of, parse("10.0.0.2"), False)),
    "drops --duration 1": drops_as_text,
    "drops --duration 1 --limit 1 --json": lambda *of: whole(drops.collect(*of)),
    "events --duration 1": events_with(lambda stream, rows: stream.of(rows.events, rows.events), *EVERY),
    "events --duration 1 --json --events insert,drop": events_with(lambda _, rows: lines(rows), *FEW),
    "events --limit 2 --json": events_with(lambda _, rows: lines(rows), *EVERY),
    "events --duration 1 --json --packets --events drop": events_and_packets,
    "events --duration 1 --packets --events drop": packets_as_text,
    "list": of_list(lambda found: table_lines(found, room())),
    "list --json --proto tcp": of_list(whole),
    "list --format csv --duration 1": of_list(csv),
    "list --format kernel --limit 2": lambda *of: listing_lines(table.collect_listing(*of)),
    "buckets": lambda *of: bucket_lines(buckets.collect(*of), room()),
    "buckets --format html": lambda *of: buckets_page(buckets.collect(*of)),
    "buckets --format svg": lambda *of: standing_alone(hash_pictures(buckets.collect(*of)), asset("hash.css")),
    "buckets --json --duration 1": lambda *of: whole(buckets.collect(*of)),
    "top --duration 3 --by dport,proto --order new --interval 1": top_as_text,
    "top --duration 3 --by dport,proto --order new --interval 1 --json": lambda *of: map(line, frames(*of)),
    "verify": lambda *of: verify_lines(verify.collect(*of), room()),
    "verify --json --netns 7": lambda *of: whole(verify.collect(*of)),
}


@pytest.fixture(autouse=True)
def named(monkeypatch):
    """--netns 7 is a namespace."""
    monkeypatch.setattr("ctobserve.commands.values.NETNS._parse", int)


def expected(typed: str, asked: Asked, capture: ScriptedCapture) -> str:
    """What this command says of this capture."""
    if asked.how["follows"]:
        capture.follow()
    return "".join(f"{line}\n" for line in SAYS[typed](capture, asked.request, Stretch(asked.request.duration)))


def closing(typed: str, asked: Asked, capture: ScriptedCapture) -> str:
    """The last line of a run on this capture, which is over."""
    return summary_line(meta_of(typed.split(maxsplit=1)[0], capture, asked.request)) + "\n"


@pytest.mark.parametrize("typed", SAYS)
def test_stdout_is_the_document_and_stderr_the_closing_line(started, typed):
    code, out, err = started(capture := made(), typed)
    assert out == expected(typed, started.asked, made())
    assert (code, err) == (0, closing(typed, started.asked, capture))
    assert out.strip()


def test_every_command_that_opens_a_capture_is_run_here_as_text_and_as_json():
    opening_one = {
        name for name, listed in COMMANDS.items() if hasattr(import_module(f"ctobserve.commands.{listed.module}"), "opened")
    }
    here = opening_one - {"record"}  # which makes a file: test_recording_command.py
    assert opening_one == COMMANDS.keys() - {"size", "export", "diff", "convert", "fleet", "anonymise", "check"}
    assert {typed.split()[0] for typed in SAYS} == {typed.split()[0] for typed in SAYS if "--json" in typed} == here


LOST = FIDELITY._replace(lost={"insert": 3, "destroy": 4})
LOST_WORDS = "ctobserve: 7 records were lost; try a larger --ring-mib\n"
OVER_WORDS = "ctobserve: nf_conntrack was unloaded, so nothing is tracked any more; what is shown ends there\n"


@pytest.mark.parametrize("typed", SAYS)
def test_who_asks_is_told_of_losses_by_exit_code_5_and_all_data_is_there(started, typed):
    for options, code, words in (("", 0, ""), (" --fail-on-loss", 5, LOST_WORDS)):
        found = started(capture := made(told=LOST), typed + options)
        line = closing(typed, started.asked, capture)
        assert found == (code, expected(typed, started.asked, made(told=LOST)), line + words)
        assert "7 lost (insert 3, destroy 4)" in line
    assert started(made(), typed + " --fail-on-loss")[0] == 0


def test_probes_that_were_off_are_not_blamed_on_the_ring(started):
    code, _, said = started(
        made(told=FIDELITY._replace(lost={"insert": 3, "probes_off": 2})), "report --duration 1 --fail-on-loss"
    )
    assert (code, said.splitlines()[-1]) == (
        5,
        "ctobserve: probes were switched off for about 2 s, and nothing was seen; try: sysctl kernel.ftrace_enabled",
    )


@pytest.mark.parametrize("typed", SAYS)
def test_where_conntrack_was_unloaded_the_end_is_exit_code_3_whatever_was_lost(started, typed):
    found = started(capture := made(over=True, told=LOST), typed + " --fail-on-loss")
    assert found[0] == 3 and found[1] == expected(typed, started.asked, made(over=True, told=LOST))
    assert found[2] == closing(typed, started.asked, capture) + OVER_WORDS


@pytest.mark.parametrize("typed", [typed for typed in SAYS if typed.startswith("verify")])
@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ({}, 1, "ctobserve: the rebuilt table differs from the kernel's; the differences are named above\n"),
        ({"told": LOST}, 5, LOST_WORDS),
        ({"over": True}, 3, OVER_WORDS),
    ],
)
def test_unequal_tables_are_exit_code_1_where_nothing_worse_happened(started, typed, more, code, words):
    given = {"kernel": THERE[1:]} | more
    found = started(capture := made(**given), typed + " --fail-on-loss")
    assert found[:2] == (code, expected(typed, started.asked, made(**given)))
    assert found[2] == closing(typed, started.asked, capture) + words


@pytest.mark.parametrize("typed", [typed for typed in SAYS if typed != "drops --duration 1"])  # it prints while it looks
def test_losses_while_the_lines_are_written_count_unless_the_document_is_of_an_instant_before(monkeypatch, started, typed):
    name = typed.split()[0]
    capture = made()

    def out(given) -> None:
        opening.out(given)
        capture.told = LOST

    monkeypatch.setattr(import_module(f"ctobserve.commands.{COMMANDS[name].module}"), "out", out)
    code, _, err = started(capture, typed + " --fail-on-loss")
    if name in ("events", "list", "top"):
        assert code == 5 and "7 lost" in err
    else:
        assert code == 0 and "none lost" in err


def test_what_the_kernel_would_leave_out_of_its_lines_is_noted_before_the_closing_line(started):
    hidden = {"entries": join([THERE, entries(2, ct=[16, 32], left_s=-1, seen_ns=CLOCK.monotonic_ns)])}
    code, _, err = started(capture := made(**hidden), "list --format kernel")
    (note,) = listing_notes(table.collect_listing(made(**hidden), Request(), Stretch()))
    assert (code, err) == (0, note + "\n" + closing("list", started.asked, capture))


def test_a_frame_takes_the_place_of_the_one_before_on_a_terminal_alone(monkeypatch, started):
    typed = "top --duration 3 --by dport,proto --order new --interval 1"
    _, piped, _ = started(made(), typed)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _, shown, _ = started(made(), typed)
    first, *frames = shown.split(CLEAR)
    assert first == "" and len(frames) == 3 and "".join(frames) == piped


ENDS = [({}, 0, "none lost"), ({"told": LOST}, 5, LOST_WORDS), ({"over": True}, 3, OVER_WORDS)]


@pytest.mark.parametrize(("more", "attached"), [("", INVALID), (" --no-invalid", NOTHING)])
@pytest.mark.parametrize(("told", "code", "words"), ENDS)
def test_the_full_screen_attaches_what_verdicts_need_and_ends_as_frames_do(
    monkeypatch, started, more, attached, told, code, words
):
    def opened(*given, **named):
        return command_of_top.opened(*given, **named)  # as `started` has it

    monkeypatch.setattr(fullscreen, "wanted", lambda: True)
    monkeypatch.setattr(fullscreen, "opened", opened)
    monkeypatch.setattr(Top, "run", partialmethod(Top.run, headless=True, size=(80, 24)))
    ended, out, err = started(made(**told), f"top --duration 2 --fail-on-loss{more}")
    assert (ended, out) == (code, "") and words in err
    purpose = TABLE | DROPS | UNCONFIRMED | attached
    assert (started.asked.purpose, started.asked.how) == (purpose, WHOLE_TABLE | {"streams": True})
