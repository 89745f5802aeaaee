"""Entries and events as rows for people: what JSON says of them, in the same words. Built column by column.

What is null in JSON is `-` where a column waits for it, and else nothing; docs/json.md has what text leaves out. Rows come with
marks where they may be folded, until `fitted`: on a terminal of so many columns; elsewhere a row stays one line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ctobserve.clock import Clock
from ctobserve.model import (
    ENTRY,
    IPS_ASSURED,
    IPS_SEEN_REPLY,
    PROTOCOLS,
    STATUS,
    UNKNOWN_BUCKET,
    UNKNOWN_CHAIN,
    Entries,
    tcp_state_name,
)
from ctobserve.render import known
from ctobserve.render.columns import Mask, Numbers, Part, Texts, aligned, column, glued, joined, texts, where, written
from ctobserve.render.folding import CLAUSE, fitted
from ctobserve.render.happenings import INSERTED, Told
from ctobserve.render.rows import Row
from ctobserve.render.tuples import replies, side, sides

BATCH = 1 << 16
LABEL = 24  # characters for which columns wait: a longer label moves what stands behind it
NOBODY: Entries = np.empty(0, ENTRY)
# Bits that have no word of their own: said in capitals, true of every entry in the table, or of NAT's own bookkeeping.
UNSAID = ("seen_reply", "assured", "confirmed", "src_nat_done", "dst_nat_done")
WORDS = tuple((1 << bit, name) for bit, name in enumerate(STATUS) if name not in UNSAID)
SHOWN = IPS_SEEN_REPLY | IPS_ASSURED | sum(bit for bit, _ in WORDS)
Labels = Mapping[int, str]


def entry_lines(
    entries: Entries, clock: Clock, labels: Labels, masters: Entries = NOBODY, columns: int | None = None
) -> Iterator[str]:
    """A heading, then rows, many at a time; the reply tuple only where it is not the mirror of the original.

    `masters`: those of these entries' masters that are in the table. `columns`: of the terminal, None: each row is one line.
    """
    width = min(max([5, *(len(_label(inum, labels)) for inum in np.unique(entries["netns"]).tolist())]), LABEL)
    heading = f"{'NETNS':<{width}}{CLAUSE}{'PROTO':<6} {'LEFT':>6} {'BUCKETS':>13} {'CHAINS':>7}{CLAUSE} TUPLE, STATE"
    yield fitted(heading, columns)
    for start in range(0, len(entries), BATCH):
        part = entries[start : start + BATCH]
        seconds, timed = known.left_s(part, clock)
        cells = (
            aligned(_netns(part, labels), width),
            CLAUSE,
            aligned(_protocol(part), 6),
            " ",
            aligned(_unless(timed, seconds), 6, right=True),
            " ",
            aligned(_pair(part["bucket"], UNKNOWN_BUCKET), 13, right=True),
            " ",
            aligned(_pair(part["chain"], UNKNOWN_CHAIN), 7, right=True),
            f"{CLAUSE} ",
            *_what(part),
            _flags(part),
            *_marks(part),
            *_masters(part, masters),
        )
        yield fitted(joined(cells), columns)


def described(entries: Entries, labels: Labels) -> list[str]:
    """Each entry in short, to be `fitted`: namespace, protocol, tuples, state, zone, mark, buckets; not what passes with time."""
    if not len(entries):
        return []
    buckets = _known(entries["bucket"], UNKNOWN_BUCKET, "bucket=")
    named = (_netns(entries, labels), " ", _protocol(entries), CLAUSE)
    return joined((*named, *_what(entries), _flags(entries), *_marks(entries), *buckets)).split("\n")


class EventLines:
    """One row per event: time of day, what, where, which tuple, and what else is known of it.

    `columns`: of the terminal, None: each row is one line.
    """

    def __init__(self, columns: int | None = None) -> None:
        self._columns = columns

    def of(self, told: Told, clock: Clock, labels: Labels) -> str:
        """All in order, the last without its line end; there must be one."""
        entries, facts = told.entries, told.facts
        plain = all(fact is INSERTED for fact in facts)
        # Of a lost packet, not what its entry would have had.
        lived = known.whole(entries)
        if not plain:
            lived &= np.array([fact["event"] != "drop" for fact in facts])
        seconds, timed = known.left_s(entries, clock)
        timed &= lived
        cells: list[Part] = [
            _times(entries["seen_ns"], clock),
            " insert  " if plain else column([f" {fact['event']:<7} " for fact in facts]),
            aligned(_netns(entries, labels), 8),
            " ",
            aligned(_protocol(entries), 5),
            CLAUSE,
            *_what(entries),
            "" if plain else column([_middle(fact) for fact in facts]),
            where(lived, _flags(entries)),
            where(timed, texts(np.where(timed, seconds, 0), f"{CLAUSE}left=%ds")),
            *_marks(entries),
            *_known(entries["bucket"], UNKNOWN_BUCKET, "bucket="),
            *_known(entries["chain"], UNKNOWN_CHAIN, "chain="),
            "" if plain else column([_end(fact) for fact in facts]),
        ]
        return fitted(joined(cells), self._columns)


def _middle(facts: Row) -> str:
    words = [f"{name}={facts[name]}" for name in ("reason", "verdict") if facts.get(name)]
    if facts.get("since_alloc_ns") is not None:
        words.append(f"since_alloc={facts['since_alloc_ns']}ns")
    if facts.get("hook"):
        words.append(f"hook={facts['hook']}")
        words += [f"direction={facts['direction']}"] if facts["direction"] else []
    if facts.get("changes"):
        words.append("changes=" + ",".join(facts["changes"]))
    return "".join(CLAUSE + word for word in words)


def _end(facts: Row) -> str:
    words = []
    if facts.get("age_s") is not None:
        words.append(f"age={facts['age_s']}s")
    words += [f"{name}={facts[name]['original']}/{facts[name]['reply']}" for name in ("packets", "bytes") if facts.get(name)]
    words += [f"{name}={facts[name]}" for name in ("portid", "cpu") if facts.get(name) is not None]
    if facts.get("process"):
        words.append(f"by {facts['process']['comm']}[{facts['process']['pid']}]")
    if facts.get("interface"):
        words.append(f"on {facts['interface']}")
    words += [f"{word} {side(facts[name])}" for name, word in (("made_room_for", "for"), ("master", "master")) if facts.get(name)]
    words += [f"({facts[name]})" for name in ("text", "detail") if facts.get(name)]
    if facts.get("looked_at"):
        looked = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in facts["looked_at"].items())
        words.append(f"(looked at: {looked})")
    return "".join(CLAUSE + word for word in words)


def _what(entries: Entries) -> list[Texts]:
    return [*sides(entries, 0), *replies(entries, f"{CLAUSE}reply ")]


def _flags(entries: Entries) -> Texts:
    """TCP state and status; empty where only the tuple is known."""
    stated = entries["protonum"].astype(np.uint64) << 32 | entries["tcp_state"].astype(np.uint64) << 24
    return written(known.whole(entries).astype(np.uint64) << 40 | stated | entries["status"] & SHOWN, _flag_words)


def _flag_words(key: int) -> str:
    status = key & 0xFFFFFF
    if not key >> 40:
        return ""
    words = [tcp_state_name(key >> 32 & 255, key >> 24 & 255) or ""]
    words.append("" if status & IPS_SEEN_REPLY else "UNREPLIED")
    words.append("ASSURED" if status & IPS_ASSURED else "")
    words += [word for bit, word in WORDS if status & bit]
    return CLAUSE + (",".join(filter(None, words)) or "-")


def _marks(entries: Entries) -> list[Part]:
    """Zone and mark, which are 0 nearly everywhere: then they say nothing."""
    knowns = (("zone", known.zoned(entries)), ("mark", known.whole(entries)))
    shown = ((name, there & (entries[name] != 0)) for name, there in knowns)
    return [where(there, texts(entries[name], f"{CLAUSE}{name}=%d")) for name, there in shown if there.any()]


def _masters(entries: Entries, masters: Entries) -> list[Part]:
    at, there = known.masters_of(entries, masters)
    return [where(there, glued(f"{CLAUSE}master ", *sides(masters[at], 0)))] if there.any() else []


def _netns(entries: Entries, labels: Labels) -> Texts:
    return written(entries["netns"], lambda inum: _label(inum, labels))


def _label(inum: int, labels: Labels) -> str:
    return labels.get(inum, str(inum)) if inum else "-"


def _protocol(entries: Entries) -> Texts:
    """Its name, the number of one without."""
    return written(entries["protonum"], lambda number: PROTOCOLS.get(number, str(number)))


def _times(seen_ns: Numbers, clock: Clock) -> Texts:
    """Time of day, UTC, to the millisecond."""
    wall_ms = (seen_ns.astype(np.int64) + (clock.wall_ns - clock.monotonic_ns)) // 1_000_000
    return written(wall_ms, lambda ms: clock.iso(ms * 1_000_000 - clock.wall_ns + clock.monotonic_ns)[11:23])


def _unless(there: Mask, values: Numbers) -> Texts:
    return texts(values) if there.all() else glued(where(there, texts(np.where(there, values, 0))), where(~there, "-"))


def _pair(values: Numbers, unknown: int) -> Texts:
    """Original and reply."""
    original, reply = (_unless(values[:, at] != unknown, values[:, at]) for at in (0, 1))
    return glued(original, "/", reply)


def _known(values: Numbers, unknown: int, name: str) -> list[Part]:
    """Pairs of which at least one side is known, others nothing."""
    there = (values != unknown).any(1)
    return [where(there, glued(CLAUSE, name, _pair(values, unknown)))] if there.any() else []
