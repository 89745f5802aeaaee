"""What the sheets over the page say: verdicts with their evidence, entries, lives, keys."""

from __future__ import annotations

from collections.abc import Sequence

from ctobserve.render.report import shown
from ctobserve.terminal.lines import Line, Span, line, wrapped
from ctobserve.terminal.panels import WORDS
from ctobserve.terminal.seen import Listed, Standing, Told

HELP = (
    ("g", "group by other columns", ""),
    ("s", "sort by the next of entries, new, lost", ""),
    ("f /", "filter, in the words of the command line: --dport 53 --proto udp; an empty line: all", ""),
    ("n", "one network namespace, or all", ""),
    ("↑ ↓", "choose a group; page up and page down, too", ""),
    ("⏎ click", "the entries of that group, then the life of one (why); r tells it again", "live"),
    ("⏎ click", "the entries of that group, then the life of one (why)", "recorded"),
    ("v", "the verdicts with their evidence, and lines to paste", ""),
    ("b", "who is in the bucket with the longest chain; a click on the picture: in that of the cell", ""),
    ("p", "prove now that the table is the kernel's (verify)", ""),
    ("space", "freeze the screen; nothing is missed meanwhile", "live"),
    ("space", "play on, or stand; at the end from the begin", "recorded"),
    ("← → , .", "a 60th of the recording back or forth; with shift a 10th", "recorded"),
    ("home end", "to the begin or the end; a click on the line: there", "recorded"),
    ("+ -", "faster and slower: 1 to 100 times as fast as it happened", "recorded"),
    ("l L", "the next loss of packets, or the one before", "recorded"),
    ("j J", "where the next grave verdict comes, or where one came before; esc ends the search", "recorded"),
    ("t", "colours: the terminal's own, dark, light", ""),
    ("ctrl+z", "suspend", ""),
    ("q ctrl+c", "quit", ""),
)
INDENT = 10
LEGEND = (
    "The picture of the hash: each cell is a stretch of buckets, as dark as its longest chain; X has the longest.",
    "On the line of a recording ! is where packets were lost, and ● where you are.",
    "To copy a line of text hold shift while you drag: most terminals select then, in spite of a program that hears the mouse.",
    "Rates are of the last interval; their lines of the last minutes, the right end is now.",
    "A proof compares every entry with a reading of the kernel's table, and with its own dump where there is one.",
)


def helped(recorded: bool, width: int) -> list[Line]:
    """All keys, and what the signs mean."""
    mine = [(keys, what) for keys, what, of in HELP if not of or (of == "recorded") == recorded]
    made = []
    for keys, what in mine:
        first, *others = wrapped(what, width - INDENT - 2)
        made.append(line(Span(f" {keys:<{INDENT - 1}}", "key"), first))
        made += [line(" " * INDENT, other) for other in others]
    made.append(Line())
    for text in LEGEND:
        made += [line(f" {part}") for part in wrapped(text, width - 3)]
    return made


def verdict_lines(standing: Sequence[Standing], width: int, recorded: bool = False) -> list[Line]:
    """Each whole, with its evidence and its lines to paste, which are never broken. `recorded`: judged at one instant alone."""
    made: list[Line] = []
    for one in standing:
        row = one.row
        state = f"until {one.gone[11:19]}Z" if one.gone else f"{'at' if recorded else 'since'} {one.since[11:19]}Z"
        made.append(
            line(
                Span(f" {row.severity.value.upper()} ", "past" if one.gone else WORDS[row.severity]),
                f" {row.id} ",
                Span(state, "muted"),
            )
        )
        made += [line(f"   {part}") for part in wrapped(row.sentence, width - 4)]
        evidence = "  ".join(f"{name}={shown(value)}" for name, value in row.evidence.items())
        made += [line(Span(f"     {part}", "muted")) for part in wrapped(evidence, width - 6)]
        made += [
            line(Span("   look: " if looks else "   $ ", "muted"), Span(text, "key"))
            for text, looks in zip(row.do, row.do_only_looks, strict=True)
        ]
        made.append(Line())
    return made or [line(Span(" none so far", "muted"))]


def entry_lines(found: Listed) -> list[Line]:
    """One for each entry, which leads to its life."""
    made = [line(f" {text}", target=("entry", at)) for at, text in enumerate(found.lines)]
    if found.total > len(found.lines):
        made.append(line(Span(f" and {found.total - len(found.lines)} more", "muted")))
    return made or [line(Span(" none any more", "muted"))]


def life_lines(found: Told, width: int) -> list[Line]:
    """As `why` tells it."""
    made: list[Line] = []
    for text in found.lines:
        indent = " " * (len(text) - len(text.lstrip()))
        made += [line(f"{indent}{part}") for part in wrapped(text.strip(), width - len(indent))] if text.strip() else [Line()]
    return made
