"""The full screen itself, driven by Textual's pilot: every key, the mouse, any size."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from rich.color import Color

from ctobserve.commands import fullscreen
from ctobserve.errors import CtobserveError
from ctobserve.event import DestroyReason, Kind
from ctobserve.terminal.app import THEMES, Page, Top
from ctobserve.terminal.screens import Prompt
from tests.scripted import NETNS, ScriptedCapture, events
from tests.unit.terminals import WISH, Driven, Paced, driven, incident, opens_live, opens_recording
from tests.unit.test_terminal_engines import LIMITED, TABLE


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
