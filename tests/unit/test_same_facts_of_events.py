"""Text says the same facts of an event as JSON: each is looked for in its line; and nobody who is named leaves that line."""

from __future__ import annotations

import json
import re

import pytest

from ctobserve.capture.event_filter import EventFilter
from ctobserve.capture.filters import Filter
from ctobserve.event import (
    HAS_COUNTERS,
    HAS_TEXT,
    NO_DIRECTION,
    REPLY,
    TEXT_BYTES,
    DestroyReason,
    DropReason,
    Kind,
)
from ctobserve.model import IPS_CONFIRMED, IPS_OFFLOAD, IPS_SRC_NAT, join, printable
from ctobserve.render.event_lines import EventLines
from ctobserve.render.event_rows import event_rows
from tests.scripted import CLOCK, events
from tests.unit.reading import TUPLE, as_read, mirror
from tests.unit.samples import departed, entry, tuple_of

LABELS = {7: "blue", 8: "nginx@0123456789ab", 9: printable("\x1b[2J\n" * 20)}
A, B, C = ("2001:db8:1234:5678:9abc:def0:1234:" + last for last in ("aaaa", "bbbb", "cccc"))
SIX = {"src": A, "dst": B}
LATER = {"timeout": CLOCK.jiffies + 7500}
FTP = tuple_of(entry(5, dport=21, proto=6))
TOLD = (Kind.INSERT, Kind.CONFIRM, Kind.UPDATE, Kind.DESTROY, Kind.DROP)
BORN = {"at_s": 1.5, "born_ns": CLOCK.monotonic_ns}
HAPPENED = EventFilter(TOLD, Filter()).select(
    join(
        [
            events(
                Kind.INSERT, entry(6, dport=20, bucket=(252_901, 123_137), chain=(1, 12), zone=4, mark=9, **LATER, **SIX),
                at_s=1.5, master=FTP,
            ),
            events(Kind.INSERT, entry(7, netns=8)),
            events(Kind.CONFIRM, entry(6, status=IPS_CONFIRMED, **LATER), at_s=1.5, since_alloc_ns=1000),
            events(
                Kind.UPDATE, entry(6, status=IPS_CONFIRMED | IPS_OFFLOAD, proto=6, tcp_state=3, **LATER),
                at_s=1.5, changes=0b111000,
            ),
            events(
                Kind.DESTROY, entry(7, **LATER), reason=DestroyReason.OTHER, detail=b"act_ct", cpu=3,
                has=HAS_COUNTERS, packets=(3, 2), bytes=(300, 200), **BORN,
            ),
            events(
                Kind.DESTROY, entry(8, **LATER), at_s=1.5, reason=DestroyReason.FLUSHED, portid=4711, pid=260, comm=b"conntrack"
            ),
            events(
                Kind.DESTROY, entry(9, status=IPS_CONFIRMED | IPS_SRC_NAT, reply_dst=C, reply_dport=7, **LATER, **SIX),
                at_s=1.5, reason=DestroyReason.EARLY_DROP, evictor=tuple_of(entry(0, **SIX)),
            ),
            events(
                Kind.DROP, entry(0, has_ct=2, zone=3, **LATER), at_s=1.5, reason=DropReason.TABLE_FULL, scanned=(0, 1, 2, 5),
                pid=1, comm=b"a b",
            ),
            events(
                Kind.DROP, entry(10, bucket=(3, 4), chain=(60, 61)), reason=DropReason.CHAINTOOLONG, since_alloc_ns=1,
                ifindex=2, device=b"eth0",
            ),
            events(Kind.DESTROY, entry(10, **LATER), at_s=1.5, reason=DestroyReason.UNCONFIRMED, detail=b"chaintoolong"),
            events(
                Kind.DROP, entry(0, has_ct=2, netns=0, **LATER), at_s=1.5, reason=DropReason.INVALID, direction=REPLY, hook=3,
                has=HAS_TEXT, text=b"invalid state ",
            ),
            events(
                Kind.DROP, entry(11, proto=6, **LATER), at_s=1.5, reason=DropReason.HELPER, direction=REPLY, ifindex=2,
                device=b"eth0", has=HAS_TEXT, text=b"cannot add expectation",
            ),
            events(
                Kind.DROP, entry(0, has_ct=0, proto=1, sport=5, dport=0x0301, **LATER), at_s=1.5, reason=DropReason.ERROR,
                direction=NO_DIRECTION, hook=1, inner=tuple_of(entry(0, **SIX)),
            ),
            events(
                Kind.DROP, entry(0, has_ct=0, proto=6, **SIX), at_s=1.5, reason=DropReason.INVALID, direction=NO_DIRECTION,
                tcp_flags=0x14, left=departed(entry(0, proto=6, **SIX), DestroyReason.DELETED, 4, pid=9, comm=b"x y"),
            ),
        ]
    )
)  # fmt: skip


def tuple_words(tuple_):
    """Of a tuple in text, read back."""
    return lambda text: tuple_ in [as_read(found) for found in re.findall(TUPLE, text)]


def both(name, pair):
    return f" {name}={'/'.join('-' if value is None else str(value) for value in pair.values())}"


def said_of_inner(inner):
    tuple_ = {name: value for name, value in inner.items() if name != "proto"}
    return lambda text: f" inner {inner['proto']} " in text and tuple_words(tuple_)(text)


def said_of_left(left):
    by = left["process"]
    asked = f" by {by['comm']}[{by['pid']}] it was " if by else " it was "
    state = f" in {left['tcp_state']}" if left["tcp_state"] else ""
    words = f" entry left {left['before_s']}s before: {left['reason']}{state}{asked}"
    return lambda text: words in text and tuple_words(left["original"])(text)


# How text says each fact of an event that is not null: what must be in the line, or a judge of the line.
SAID = {
    "event": lambda row: f" {row['event']} ",
    "ts": lambda row: row["ts"][11:23],
    "netns": lambda row: LABELS[row["netns"]],
    "l3": lambda row: ":" in row["original"]["src"] if row["l3"] == "ipv6" else "." in row["original"]["src"],
    "proto": lambda row: f" {row['proto']} ",
    "protonum": lambda row: f" {row['proto']} ",
    "zone": lambda row: f" zone={row['zone']}" if row["zone"] else True,
    "zone_dir": lambda row: row["zone_dir"] == "both" or not row["zone"] or f" zone_dir={row['zone_dir']}",
    "mark": lambda row: f" mark={row['mark']}" if row["mark"] else True,
    "original": lambda row: tuple_words(row["original"]),
    "reply": lambda row: row["reply"] == mirror(row["original"], row["proto"]) or tuple_words(row["reply"]),
    "bucket": lambda row: both("bucket", row["bucket"]) if any(value is not None for value in row["bucket"].values()) else True,
    "chain": lambda row: both("chain", row["chain"]) if any(value is not None for value in row["chain"].values()) else True,
    "master": lambda row: tuple_words(row["master"]),
    "reason": lambda row: f" reason={row['reason']}",
    "detail": lambda row: f" ({row['detail']})",
    "verdict": lambda row: f" verdict={row['verdict']}",
    "since_alloc_ns": lambda row: f" since_alloc={row['since_alloc_ns']}ns",
    "changes": lambda row: f" changes={','.join(row['changes'])}",
    "age_s": lambda row: f" age={row['age_s']}s",
    "packets": lambda row: both("packets", row["packets"]),
    "bytes": lambda row: both("bytes", row["bytes"]),
    "portid": lambda row: f" portid={row['portid']}",
    "process": lambda row: f" by {row['process']['comm']}[{row['process']['pid']}]",
    "made_room_for": lambda row: tuple_words(row["made_room_for"]),
    "cpu": lambda row: f" cpu={row['cpu']}",
    "direction": lambda row: f" direction={row['direction']}" if row["hook"] or row["text"] else row["direction"] == "original",
    "interface": lambda row: f" on {row['interface']}",
    "hook": lambda row: f" hook={row['hook']}",
    "text": lambda row: f" ({row['text']})",
    "like": lambda row: f" like={row['like']}",
    "tcp_flags": lambda row: f" flags={'+'.join(row['tcp_flags'])}" if row["tcp_flags"] else True,
    "inner": lambda row: said_of_inner(row["inner"]),
    "left": lambda row: said_of_left(row["left"]),
    "looked_at": lambda row: f" (looked at: {', '.join(f'{n} {name}' for name, n in row['looked_at'].items())})".replace(
        "_", " "
    ),
    # Of a lost packet text says nothing that its entry would have had.
    "status": lambda row: row["event"] == "drop" or ("UNREPLIED" in row["line"]) == ("seen_reply" not in row["status"]),
    "timeout_s": lambda row: row["event"] == "drop" or f" left={row['timeout_s']}s",
    "tcp_state": lambda row: row["event"] == "drop" or ("OFFLOAD" if "offload" in row["status"] else row["tcp_state"]),
}


def test_every_fact_of_an_event_is_in_its_line():
    lines = EventLines().of(HAPPENED, CLOCK, LABELS).split("\n")
    met = set()
    for line, row in zip(lines, event_rows(HAPPENED, CLOCK), strict=True):
        for name, value in row.items():
            if value is None:
                continue
            met.add(name)
            said = SAID[name](row | {"line": line})
            assert said(line) if callable(said) else said if isinstance(said, bool) else said in line, (name, said, line)
    assert met == set(SAID), "every fact is met at least once"


def test_what_is_unknown_says_nothing():
    lost = events(Kind.DROP, entry(0, has_ct=0), reason=DropReason.NO_MEMORY)
    line = "22:13:20.000 drop    blue     udp   10.0.0.1:1000 > 10.0.0.2:53 reason=no_memory cpu=0"
    assert EventLines().of(lost, CLOCK, LABELS) == line


@pytest.mark.parametrize("columns", [98, 79])
def test_on_a_terminal_no_row_is_longer_than_a_line(columns):
    folded = EventLines(columns).of(HAPPENED, CLOCK, LABELS)
    whole = EventLines().of(HAPPENED, CLOCK, LABELS)
    lines = folded.split("\n")
    assert max(map(len, lines)) <= columns
    assert not any(line.endswith(" ") for line in lines if line.startswith("        "))
    assert "".join(folded.split()) == "".join(whole.split()), "the same words in the same order"
    rows = [line for line in lines if not line.startswith(" " * 8)]
    assert len(rows) == len(whole.split("\n")) == len(HAPPENED), "one line for each, when nobody folds"


HOSTILE = b"\x1b[2J\n\r\x00forged \xff\xc2\x9b\x1e\x1f\\"


def test_what_others_choose_cannot_leave_its_line():
    made = join(
        [
            events(Kind.DROP, entry(0, has_ct=2), reason=DropReason.INVALID, has=HAS_TEXT, pid=5, ifindex=3, **chosen)
            for chosen in (
                # The decoder cuts C strings at their NUL.
                {"comm": HOSTILE[:6], "device": HOSTILE[:6], "text": HOSTILE[:6]},
                {"comm": b"\xff" * 16, "device": b"\n" * 16, "text": b"\x1e" * TEXT_BYTES},
                {"comm": "\u202e\u2028\u0085".encode(), "device": "\U000e0041".encode(), "text": "界\u200b".encode() * 14},
            )
        ]
    )
    labels = {7: printable(HOSTILE)}
    text = EventLines().of(made, CLOCK, labels)
    lines = text.split("\n")
    assert len(lines) == 3 and all(line.isprintable() for line in lines)
    assert "\\x1b[2J\\x0a\\x0d\\x00forged" in lines[0], "the label, to its end"
    assert "by \\x1b[2J\\x0a\\x0d[5] on \\x1b[2J\\x0a\\x0d (\\x1b[2J)" in lines[0]
    for row in event_rows(made, CLOCK):
        values = [row["process"]["comm"], row["interface"], row["text"]]
        assert all(value.isprintable() and len(value) <= 4 * TEXT_BYTES for value in values)
        assert json.loads(json.dumps(row)) == row
    for columns in (98, 79):
        folded = EventLines(columns).of(made, CLOCK, labels).split("\n")
        assert all(line.isprintable() and len(line) <= columns for line in folded)
