"""The full screen itself, driven by Textual's pilot: every key, the mouse, any size; and in a terminal of its own."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from rich.color import Color

from ctobserve.commands import fullscreen
from ctobserve.errors import CtobserveError
from ctobserve.event import DestroyReason, Kind
from ctobserve.terminal.app import THEMES, Page, Top
from ctobserve.terminal.screens import Prompt
from ctobserve_lab.recordings import recording
from tests.scripted import NETNS, ScriptedCapture, events
from tests.unit.terminals import WISH, Driven, Paced, driven, incident, opens_live, opens_recording
from tests.unit.test_terminal_engines import LIMITED, TABLE

ROOT = Path(__file__).resolve().parents[2]


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_the_first_screen_is_on_the_terminal_as_the_page_says_it():
    async def test() -> None:
        async with incident("table_full") as on:
            lines = on.text.splitlines()
            assert lines[0].startswith(" ctobserve top  13:58:42Z  RECORDED, END  table_full.ctobserve")
            assert lines[1].startswith(" CRITICAL  table_full: the table of full is full")
            assert lines[-1].startswith(" g group s sort f filter n netns")

    run(test)


def test_grouping_sorting_and_filtering_say_what_is_wrong_with_what_was_typed():
    async def test() -> None:
        async with incident("asymmetric_routing") as on:
            await on.press("g")
            assert isinstance(on.app.screen, Prompt)
            await on.types("colour")
            await on.says("has 'colour', which is none of src")
            await on.types("netns,proto")
            await on.says("NETNS, PROTO")
            await on.says("client tcp")
            await on.press("s")
            await on.until(lambda: on.app.shown.wish.order == "new")
            await on.press("s", "s")
            await on.until(lambda: on.app.shown.wish.order == "entries")
            await on.press("f", *"dport x", "enter")
            await on.says("'x' is no port")
            await on.types("dport 443 proto tcp")
            await on.until(lambda: on.app.shown.wish.only.dport == (443, 443) and not isinstance(on.app.screen, Prompt))
            await on.says("[dport 443 proto tcp]")
            await on.press("slash")
            await on.types("--dport 1")
            await on.says("nothing that the filter lets pass")
            await on.press("f", "escape")
            await on.until(lambda: isinstance(on.app.focused, Page))

    run(test)


def test_a_namespace_is_chosen_from_those_there_are():
    async def test() -> None:
        async with incident("asymmetric_routing") as on:
            await on.press("n")
            await on.says("network namespace")
            assert [line.text for line in on.app.screen.rows.lines] == [" all", " back", " client", " init", " server", " there"]
            await on.press("down", "down", "enter")
            await on.says("[netns client]")
            await on.until(lambda: on.app.shown.moment.frame.entries == 11)
            await on.press("n")
            await on.says("network namespace")
            await on.press("enter")
            await on.until(lambda: on.app.shown.moment.frame.entries == 33)

    run(test)


def test_from_a_group_to_its_entries_to_the_life_of_one_and_back():
    async def test() -> None:
        async with incident("table_full") as on:
            await on.press("down", "down", "up", "up", "pagedown", "pageup")
            assert on.app.looks.chosen == 0
            await on.press("enter")
            await on.says("127.0.0.1 4040: 7 entries")
            await on.press("down", "end", "home", "pagedown", "pageup", "down", "enter")
            await on.says("1 connection matched 127.0.0.1:")
            assert "no records lost" in on.text, "what is doubtful stays in sight"
            await on.press("down", "up", "pagedown", "end", "home", "enter")
            await on.press("escape")
            await on.says("127.0.0.1 4040: 7 entries")
            await on.press("q")
            await on.says("RECORDED, END")

    run(test)


def test_verdicts_bucket_proof_help_and_colours():
    async def test() -> None:
        async with incident("long_chains") as on:
            await on.press("v")
            await on.says("$ sysctl -w net.netfilter.nf_conntrack_buckets=16384")
            await on.press("escape", "b")
            await on.says("bucket 226: 66 entries")
            await on.press("backspace", "question_mark")
            await on.says("the verdicts with their evidence")
            await on.press("escape", "h")
            await on.says("a 60th of the recording")
            await on.press("escape", "p")
            await on.says("table EQUAL to the kernel's then")
            for theme in (*THEMES[1:], THEMES[0]):
                await on.press("t")
                assert on.app.theme == theme
            assert not on.app.ENABLE_COMMAND_PALETTE, "it could write files"

    run(test)


async def goes(on: Driven, key: str, holds: Callable[[int], object]) -> None:
    """Wait until that is so of where it was before."""
    before = on.app.shown.at_ns
    await on.press(key)
    await on.until(lambda: holds(before) and not on.app.shown.busy)


def test_along_a_recording_to_losses_and_verdicts():
    async def test() -> None:
        async with incident("table_full") as on:
            place = on.app.shown.place

            def later(before: int) -> bool:
                return on.app.shown.at_ns > before

            def earlier(before: int) -> bool:
                return on.app.shown.at_ns < before

            for key in ("left", "comma", "shift+left", "L"):
                await goes(on, key, earlier)
            await goes(on, "home", lambda _: on.app.shown.at_ns == place.begin_ns)
            for key in ("right", "full_stop", "shift+right", "l"):
                await goes(on, key, later)
            await on.press("home", "j", "escape", "home", "j")
            await on.until(lambda: on.app.shown.at_ns > place.begin_ns and not on.app.shown.busy)
            assert "table_full" in {one.row.id for one in on.app.shown.verdicts.standing}
            await goes(on, "J", earlier)
            await goes(on, "end", lambda _: on.app.shown.place.at_end)

    run(test)


def test_a_recording_is_played_and_stands():
    async def test() -> None:
        async with incident("asymmetric_routing") as on:
            await on.press("plus", "equals_sign")
            await on.says("will play at 5 times the speed")
            await on.press("minus", "minus")
            await on.says("will play at 1 times the speed")
            await on.press("home", "space")
            await on.says("PLAYING x1")
            await on.press("plus", "space")
            await on.says("RECORDED, ")
            assert on.app.speed == 2

    run(test)


def test_the_mouse_leads_where_keys_do():
    async def test() -> None:
        async with incident("long_chains") as on:
            await on.click("CRITICAL")
            await on.says("few_buckets at 13:58:58Z")
            await on.press("escape")
            await on.click("10.50.0.1 2001")
            await on.says("10.50.0.1 2001: 2 entries")
            await on.click("10.50.0.1:")
            await on.says("1 connection matched")
            await on.press("escape", "escape")
            await on.click("X")
            await on.says("bucket 226: 66 entries")
            await on.press("escape")
            await on.click("longest 66")
            await on.says("bucket 226: 66 entries")
            await on.press("escape")
            await on.click("13:58:55 ─", 50)
            await on.until(lambda: not on.app.shown.place.at_end)
            await on.click("of 65536 long")
            await on.says("[netns long]")
            await on.click("no records lost")
            assert isinstance(on.app.focused, Page), "it leads nowhere"

    run(test)


@pytest.mark.parametrize("size", [(40, 12), (160, 50), (80, 24), (20, 5)])
def test_it_fits_whatever_the_terminal_becomes(size):
    async def test() -> None:
        async with incident("udp_race", (100, 30)) as on:
            await on.pilot.resize_terminal(*size)
            await on.until(lambda: len(on.app._page.lines) == size[1] and on.app._page.lines[0].wide == size[0])
            await on.press("v")
            await on.says("verdicts")
            await on.pilot.resize_terminal(80, 24)
            await on.press("escape")
            await on.until(lambda: len(on.app._page.lines) == 24)

    run(test)


def test_frozen_it_stands_while_what_is_doubtful_goes_on():
    async def test() -> None:
        async with driven(opens_live(Paced(entries=TABLE, states=LIMITED))) as on:
            await on.says("LIVE")
            await on.press("space")
            await on.says("FROZEN")
            frozen = on.app.shown
            await on.until(lambda: on.app.worker.latest.at_ns > frozen.at_ns + 2 * 10**9)
            assert on.app.shown is frozen
            await on.says("table EQUAL to the kernel's")
            await on.press("space")
            await on.until(lambda: on.app.shown.at_ns > frozen.at_ns + 2 * 10**9)
            for key in ("left", "right", "home", "end", "plus", "minus", "l", "j"):
                await on.press(key)
            assert "LIVE" in on.text

    run(test)


def test_a_life_is_told_again_when_somebody_wants_that():
    left = events(Kind.DESTROY, TABLE[:1], reason=DestroyReason.DELETED)

    async def test() -> None:
        capture = Paced(entries=TABLE, states=LIMITED)
        async with driven(opens_live(capture)) as on:
            await on.says("LIVE")
            await on.press("enter")
            await on.says("10.0.0.1 53: 12 entries")
            await on.press("enter")
            await on.says("It lives")
            capture.held = left  # drained when it is told
            await on.press("r")
            await on.says("deleted")
            await on.press("escape")
            await on.says("⏎ more")

    run(test)


@pytest.mark.parametrize("name", ["[red]red[/red]", "[@click=app.quit]x[/]", "<b>&lt;", r"\x1b[31m", "[/]", r"\u202egnp"])
def test_a_hostile_name_is_drawn_letter_by_letter(name):
    states = {NETNS: LIMITED[NETNS]._replace(label=name)}

    async def test() -> None:
        async with driven(opens_live(Paced(entries=TABLE, states=states))) as on:
            await on.says(name)
            await on.press("n")
            await on.says(f" {name}\n")
            await on.press("escape", "enter")
            await on.says(f" {name} udp 10.0.0.1:1024 > 10.0.0.2:53")
            await on.press("enter")
            await on.says(f"{name} udp 10.0.0.1:1024 > 10.0.0.2:53")
            await on.press("escape", "escape")
            await on.pilot.click(offset=(75, 5))
            assert on.app.is_running

    run(test)


def test_hostile_words_of_a_filter_stay_text_too():
    async def test() -> None:
        async with incident("table_full") as on:
            await on.press("f")
            await on.types("[bold]x")
            await on.says("unexpected extra argument ([bold]x)")

    run(test)


def test_without_colour_nothing_is_coloured():
    async def test() -> None:
        async with driven(opens_recording("table_full"), coloured=False) as on:
            await on.says("CRITICAL")
            styles = {segment.style for row in range(24) for segment in on.app._page.render_line(row)}
            assert {style.color for style in styles if style} | {style.bgcolor for style in styles if style} <= {None, default}
            assert any(style and style.reverse for style in styles)
            await on.press("t")
            await on.says("NO_COLOR is set")

    default = Color.parse("default")
    run(test)


def test_what_goes_wrong_while_it_looks_ends_it_and_is_told_below():
    class Failing(ScriptedCapture):
        def step(self):
            raise CtobserveError("the ring is gone")

    async def test() -> None:
        app = Top(opens_live(Failing(entries=TABLE)), WISH, fullscreen.typed_of(None))
        async with app.run_test() as pilot:
            async with asyncio.timeout(60):
                while app.is_running and app.failed is None:
                    await pilot.pause(0.01)
        assert str(app.failed) == "the ring is gone"

    run(test)


def test_what_goes_wrong_while_it_draws_ends_it_too(monkeypatch):
    async def test() -> None:
        app = Top(opens_recording("table_full"), WISH, fullscreen.typed_of(None))

        def fails() -> None:
            raise ArithmeticError("no such page")

        monkeypatch.setattr(app, "draw", fails)
        async with app.run_test() as pilot:
            async with asyncio.timeout(60):
                while app.failed is None:
                    await pilot.pause(0.01)
        assert str(app.failed) == "no such page" and app.worker.over

    run(test)


class Terminal:
    """A terminal of 80 x 24 with a program in it; `shown` is what it wrote so far."""

    def __init__(self, *command: str, kept: int | None = None, **environment: str) -> None:
        """`kept`: a file that it has, too."""
        self.ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        self.shown = b""
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, pass_fds=() if kept is None else (kept,),
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm-256color", **environment},
        )  # fmt: skip

    def until(self, words: bytes) -> None:
        """Read until it shows that, or says no more."""
        while words not in self.shown:
            part = os.read(self.ours, 1 << 16)
            assert part, self.shown
            self.shown += part

    def end(self) -> int:
        """Its exit code; what it showed until then is read meanwhile."""
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        code = self.process.wait(60)
        self.after = termios.tcgetattr(self._theirs)
        os.close(self._theirs)
        reader.join()
        os.close(self.ours)
        return code

    def _read(self) -> None:
        try:
            while part := os.read(self.ours, 1 << 16):
                self.shown += part
        except OSError:
            pass  # EIO: nobody has the other end any more


COMMAND = (sys.executable, "-m", "ctobserve", "top", "--from", str(recording("table_full")))
ON, OFF = b"\x1b[?1049h", b"\x1b[?1049l"


def typed(keys: bytes) -> Callable[[Terminal], None]:
    return lambda terminal: os.write(terminal.ours, keys) and None


def sent(number: signal.Signals) -> Callable[[Terminal], None]:
    return lambda terminal: terminal.process.send_signal(number)


@pytest.mark.parametrize(
    "ends", [typed(b"q"), typed(b"\x03"), sent(signal.SIGTERM), sent(signal.SIGINT)], ids=["q", "^C", "TERM", "INT"]
)
def test_however_it_ends_the_terminal_is_as_it_was(ends):
    terminal = Terminal(*COMMAND)
    terminal.until(b"EQUAL")
    ends(terminal)
    assert terminal.end() == 0
    before, _, behind = terminal.shown.rpartition(OFF)
    assert ON in before and ON not in behind and b"\x1b[?25h" in before + behind
    assert terminal.after == terminal.before


def test_suspended_it_gives_the_terminal_back_and_draws_all_of_it_anew_when_it_goes_on():
    terminal = Terminal(*COMMAND)
    terminal.until(b"EQUAL")
    terminal.process.send_signal(signal.SIGTSTP)
    assert os.WIFSTOPPED(os.waitpid(terminal.process.pid, os.WUNTRACED)[1])
    terminal.until(OFF)
    terminal.shown = b""
    terminal.process.send_signal(signal.SIGCONT)
    terminal.until(ON)
    terminal.until(b"the table of full is full: 23 packets")
    os.write(terminal.ours, b"q")
    assert terminal.end() == 0


def test_without_colour_the_terminal_gets_none():
    terminal = Terminal(*COMMAND, NO_COLOR="1", COLUMNS="40")
    terminal.until(b"EQUAL")
    terminal.until(b"the table of full is full: 23 packets of new connections")  # of all 80 columns
    os.write(terminal.ours, b"q")
    terminal.end()
    colours = {
        part for one in terminal.shown.split(b"\x1b[")[1:] if (part := one.partition(b"m")[0]).replace(b";", b"").isdigit()
    }
    assert colours and not {number for one in colours for number in one.split(b";")} - {b"0", b"1", b"2", b"7", b"39", b"49"}


def test_a_recording_that_is_none_is_told_in_one_line_before_anything_is_drawn():
    terminal = Terminal(*COMMAND[:-1], "/dev/null")
    assert terminal.end() == 1
    assert ON not in terminal.shown and terminal.shown.startswith(b"ctobserve: /dev/null")


@pytest.mark.parametrize(
    ("environment", "says"),
    [({"TERM": "dumb"}, b""), ({"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, b"takes UTF-8")],
    ids=["dumb", "no UTF-8"],
)  # fmt: skip
def test_a_terminal_that_cannot_be_filled_gets_plain_frames(environment, says):
    terminal = Terminal(*COMMAND, **environment)
    assert terminal.end() == 0
    assert ON not in terminal.shown and says in terminal.shown and b"100.0 % of 7: 7 in full" in terminal.shown


def test_plain_is_plain():
    terminal = Terminal(*COMMAND, "--plain")
    assert terminal.end() == 0 and ON not in terminal.shown and b"100.0 % of 7: 7 in full" in terminal.shown


def test_without_textual_a_line_says_what_would_bring_the_full_screen(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(fullscreen, "find_spec", lambda name: None)
    assert not fullscreen.wanted()
    assert capsys.readouterr().err == (
        "ctobserve: the full screen needs Textual: pip install 'ctobserve[tui]'; --plain says nothing of that\n"
    )


SLOW = """
import os, sys
from contextlib import contextmanager
from ctobserve.commands.fullscreen import typed_of
from ctobserve.terminal.app import Top
from tests.scripted import ScriptedCapture
from tests.unit.terminals import WISH, live
from tests.unit.test_terminal_engines import LIMITED, TABLE

class Stepped(ScriptedCapture):
    steps = 0
    def step(self):
        self.steps += 1
        self.wait(1)  # each is a frame
        if self.steps % 100 == 0:
            os.write(int(sys.argv[1]), b"100 steps ")
        return super().step()

@contextmanager
def opens():
    yield live(Stepped(entries=TABLE, states=LIMITED))

Top(opens, WISH, typed_of(None)).run()
"""


def test_a_terminal_that_takes_nothing_keeps_nobody_from_reading_the_ring():
    """Frame after frame comes, more than the terminal and all between take: the engine goes on."""
    read, write = os.pipe()
    terminal = Terminal(sys.executable, "-c", SLOW, str(write), kept=write)
    os.close(write)
    terminal.until(ON)
    with os.fdopen(read, "rb") as steps:
        assert len(steps.read(300)) == 300, "3,000 steps without a byte that was read of the terminal"
        before = len(terminal.shown)
        os.write(terminal.ours, b"q")
        assert terminal.end() == 0
        assert len(terminal.shown) > before
