"""Entries as rows for people: what JSON says of them, in the same words. Built column by column.

What is null in JSON is `-` where a column waits for it, and else nothing; docs/json.md has what text leaves out. Rows come with
marks where they may be folded, until `fitted`: on a terminal of so many columns; elsewhere a row stays one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ctobserve.clock import Clock
from ctobserve.documents.base import NO_ENTRIES, EntryRows, Labels
from ctobserve.model import (
    IPS_ASSURED,
    IPS_OFFLOAD,
    IPS_SEEN_REPLY,
    PROTOCOLS,
    STATUS,
    ZONE_BOTH,
    Entries,
    Mask,
    NDArray,
    everywhere,
    somewhere,
    tcp_state_name,
)
from ctobserve.render.columns import Numbers, Part, aligned, glued, joined, same, texts, where, written
from ctobserve.render.entry_fields import (
    BUCKET,
    CHAIN,
    HELPER,
    MARK,
    MASTER,
    NETNS,
    OWNER,
    PROTONUM,
    STATUS_BITS,
    TCP_STATE,
    TIMEOUT_S,
    ZONE,
    ZONE_DIR,
    EntryView,
    PairView,
    masters_of,
)
from ctobserve.render.fields import Field, Object, V, known, said, some
from ctobserve.render.folding import CLAUSE, fitted, rows_fitted
from ctobserve.render.owners import worth_saying
from ctobserve.render.tuples import replies, sides

BATCH = 1 << 16
LABEL = 24  # characters for which columns wait: a longer label moves what stands behind it
# Bits that have no word of their own: said in capitals, true of every entry in the table, or of NAT's own bookkeeping.
SAID = {"offload": "OFFLOAD", "hw_offload": "HW_OFFLOAD"}  # as conntrack has them, in place of a state
UNSAID = ("seen_reply", "assured", "confirmed", "src_nat_done", "dst_nat_done")
WORDS = tuple((1 << bit, SAID.get(name, name)) for bit, name in enumerate(STATUS) if name not in UNSAID)
SHOWN = IPS_SEEN_REPLY | IPS_ASSURED | sum(bit for bit, _ in WORDS)


def entry_lines(
    entries: Entries,
    clock: Clock,
    labels: Labels,
    masters: Entries = NO_ENTRIES,
    columns: int | None = None,
    helpers: NDArray[np.bytes_] | None = None,
    owners: Labels | None = None,
) -> Iterator[str]:
    """A heading, then rows, many at a time; the reply tuple only where it is not the mirror of the original.

    `masters`: those of these entries' masters that are in the table; `helpers`: the helper of each; `owners` of their namespaces,
    which have a column where one of them is not the host, and room is for it; else they are said in the row. `columns`: of the
    terminal, None: each row is one line.
    """
    inums = np.unique(entries["netns"]).tolist()
    width, owned = _width(_label(inum, labels) for inum in inums), worth_saying(owners or {}, inums)
    rest = f"{CLAUSE}{'PROTO':<6} {'LEFT':>6} {'BUCKETS':>13} {'CHAINS':>7}"
    owner_width = _width(owned.values()) if owned else 0
    if columns is not None and width + 1 + owner_width + len(rest) > columns:
        owner_width = 0
    heading = f"{CLAUSE}{'OWNER':<{owner_width}}" if owner_width else ""
    yield fitted(f"{'NETNS':<{width}}{heading}{rest}{CLAUSE} TUPLE, STATE", columns)
    for start in range(0, len(entries), BATCH):
        part = entries[start : start + BATCH]
        named = None if helpers is None else helpers[start : start + BATCH]
        view = EntryView(part, clock, masters_of(part, masters), named, owned)
        cells = (
            netns(view, labels, width),
            *_owner_cells(view, owners or {}, owner_width),
            CLAUSE,
            protocol(view, 6),
            " ",
            aligned(_unless(known(TIMEOUT_S, view), TIMEOUT_S.values(view)), 6, right=True),
            " ",
            _aligned_pair(BUCKET, view, 13),
            " ",
            _aligned_pair(CHAIN, view, 7),
            f"{CLAUSE} ",
            *tuples(view),
            *flags(view),
            *marks(view),
            *(() if owner_width else owner(view)),
            *_helper(view),
            *other_tuple(MASTER, view, "master"),
        )
        yield rows_fitted(cells, len(view), columns)


def _width(words: Iterable[str]) -> int:
    """Of a column of what others chose."""
    return min(max([5, *map(len, words)]), LABEL)


def _owner_cells(view: EntryView, owners: Labels, width: int) -> list[Part]:
    """Nothing where they have no column."""
    return [CLAUSE, written(NETNS.values(view), lambda inum: owners.get(inum, "-").ljust(width))] if width else []


def owner(view: EntryView) -> list[Part]:
    """Who owns their namespaces, where somebody is known."""
    return said(known(OWNER, view), lambda: [f"{CLAUSE}owner=", OWNER.texts(view)])


def described(entries: Entries, labels: Labels) -> list[str]:
    """Each entry in short, to be `fitted`: namespace, protocol, tuples, state, zone, mark, buckets; not what passes with time."""
    if not len(entries):
        return []
    view = EntryView(entries)
    cells = (netns(view, labels), " ", protocol(view), CLAUSE, *tuples(view), *flags(view), *marks(view), *pairs(BUCKET, view))
    return joined(cells, count=len(view)).split("\n")


def named(entries: Entries, labels: Labels) -> list[str]:
    """Each entry by what it is told by, to be `fitted`: namespace, protocol, tuples, zone, mark; not its state."""
    view = EntryView(entries)
    return joined((netns(view, labels), " ", protocol(view), CLAUSE, *tuples(view), *marks(view)), count=len(view)).split("\n")


def stated(shown: EntryRows) -> list[str]:
    """Each entry by its state, to be `fitted`: what may change while it lives, its place in the hash, helper and master."""
    view = EntryView(shown.entries, shown.clock, masters_of(shown.entries, shown.masters), shown.helpers)
    left = said(known(TIMEOUT_S, view), lambda: [f"{CLAUSE}left=", texts(TIMEOUT_S.values(view)), "s"])
    whole = (*flags(view), *left, *pairs(BUCKET, view), *pairs(CHAIN, view), *_helper(view))
    return joined((*whole, *other_tuple(MASTER, view, "master")), count=len(view)).split("\n")


def netns(view: EntryView, labels: Labels, width: int = 0) -> Part:
    """What its namespace is called, with blanks up to this many characters."""
    return written(NETNS.values(view), lambda inum: _label(inum, labels).ljust(width))


def _label(inum: int, labels: Labels) -> str:
    return labels.get(inum, str(inum)) if inum else "-"


def protocol(view: EntryView, width: int = 0) -> Part:
    """Its name, the number of one without, with blanks up to this many characters."""
    return written(PROTONUM.values(view), lambda number: PROTOCOLS.get(number, str(number)).ljust(width))


def tuples(view: EntryView) -> list[Part]:
    """The original, and the reply where it is not the mirror of that."""
    return [*sides(view.original), *replies(view, f"{CLAUSE}reply ")]


def flags(view: EntryView) -> list[Part]:
    """TCP state and status; nothing where only the tuple is known."""

    def words() -> Part:
        protonum, state, status = (field.values(view) for field in (PROTONUM, TCP_STATE, STATUS_BITS))
        if same(protonum) and same(state) and same(status):
            return _flag_words(int(protonum[0]), int(state[0]), int(status[0]))
        keys = protonum.astype(np.uint64) << 32 | state.astype(np.uint64) << 24 | status & SHOWN
        return written(keys, lambda key: _flag_words(key >> 32, key >> 24 & 255, key & SHOWN))

    return said(view.whole, lambda: [CLAUSE, words()])


def _flag_words(protonum: int, state: int, status: int) -> str:
    words = ["" if status & IPS_OFFLOAD else tcp_state_name(protonum, state) or ""]
    words.append("" if status & IPS_SEEN_REPLY else "UNREPLIED")
    words.append("ASSURED" if status & IPS_ASSURED else "")
    words += [word for bit, word in WORDS if status & bit]
    return ",".join(filter(None, words)) or "-"


def marks(view: EntryView) -> list[Part]:
    """Zone and mark, which are 0 nearly everywhere: then they say nothing."""
    return [*_unless_zero(ZONE, view), *_zone_dir(view), *_unless_zero(MARK, view)]


def _helper(view: EntryView) -> list[Part]:
    return said(known(HELPER, view), lambda: [f"{CLAUSE}helper=", HELPER.texts(view)])


def _zone_dir(view: EntryView) -> list[Part]:
    """Where a zone other than 0 holds for one direction alone."""
    zoned = ZONE.values(view).astype(np.bool_)
    if not somewhere(zoned):
        return []
    one = known(ZONE_DIR, view) & zoned & (ZONE_DIR.values(view) != ZONE_BOTH)
    return said(one, lambda: [f"{CLAUSE}zone_dir=", ZONE_DIR.texts(view)])


def _unless_zero(field: Field[EntryView], view: EntryView) -> list[Part]:
    values = field.values(view)
    if not np.count_nonzero(values):
        return []
    return said(known(field, view) & (values != 0), lambda: [f"{CLAUSE}{field.name}=", texts(values)])


def pairs(field: Object[EntryView], view: EntryView) -> list[Part]:
    """Both numbers by the name of the field, where at least one is known."""
    pair: PairView = field.within(view)
    original, reply = pair.known(0), pair.known(1)
    if everywhere(original) and everywhere(reply):
        return [f"{CLAUSE}{field.name}=", texts(pair.numbers[:, 0]), "/", texts(pair.numbers[:, 1])]
    return said(original | reply, lambda: [f"{CLAUSE}{field.name}=", *_pair(pair, original, reply)])


def _pair(pair: PairView, original: Mask, reply: Mask) -> list[Part]:
    """Both numbers, as far as they are known."""
    return [_unless(original, pair.numbers[:, 0]), "/", _unless(reply, pair.numbers[:, 1])]


def _aligned_pair(field: Object[EntryView], view: EntryView, width: int) -> Part:
    pair: PairView = field.within(view)
    return aligned(glued(*_pair(pair, pair.known(0), pair.known(1))), width, right=True)


def _unless(there: Mask, values: Numbers) -> Part:
    if everywhere(there):
        return texts(values)
    return glued(where(there, texts(np.where(there, values, 0))), where(~there, "-"))


def other_tuple(field: Object[V], view: V, word: str) -> list[Part]:
    """Another entry's original tuple, behind a word, where it is known."""
    return some(known(field, view), field.within(view), lambda tuples: [f"{CLAUSE}{word} ", *sides(tuples)])
