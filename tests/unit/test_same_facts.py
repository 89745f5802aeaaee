"""Text, JSON, CSV and HTML say the same facts: each is read back, field by field."""

from __future__ import annotations

import csv
import html
import json
import re

import numpy as np
import pytest

from ctobserve.capture.filters import Filter
from ctobserve.capture.records import FLAG_COUNTERS, FLAG_ENTRY, FLAG_REPLY, FLAG_TEXT, TEXT_BYTES, DropReason, Kind
from ctobserve.model import ENTRY, IPS_CONFIRMED, IPS_OFFLOAD, IPS_SRC_NAT, STATUS, UNKNOWN_BUCKET, UNKNOWN_CHAIN, printable
from ctobserve.render.csvout import HEADER, csv_lines
from ctobserve.render.folding import fitted
from ctobserve.render.happenings import Chosen, Happenings
from ctobserve.render.htmlout import page
from ctobserve.render.jsonout import document
from ctobserve.render.known import masters_of
from ctobserve.render.lines import EventLines, described, entry_lines
from ctobserve.render.report import report_lines, shown
from ctobserve.render.rows import entry_rows
from tests.unit.samples import packed, record, records
from tests.unit.test_lines import flat
from tests.unit.test_render import CLOCK, SYMBOLS

LABELS = {7: "blue", 8: "nginx@0123456789ab", 9: printable("\x1b[2J\n" * 20)}
ANSWERS = {"icmp": {8: 0, 13: 14, 15: 16, 17: 18}, "icmpv6": {128: 129, 139: 140}}
UNSAID = {"confirmed", "src_nat_done", "dst_nat_done"}  # docs/json.md: what text leaves out
A, B, C = ("2001:db8:1234:5678:9abc:def0:1234:" + last for last in ("aaaa", "bbbb", "cccc"))


def everything(count=3000, seed=5):
    """Entries of all protocols, families and kinds of not being known, some of them the masters of others."""
    random = np.random.default_rng(seed)
    made = np.zeros(count, ENTRY)
    made["ct"] = np.arange(1, count + 1) * 256
    made["master"] = random.choice([0, 0, 0, 256, 512, 77], count)
    made["protonum"] = random.choice([1, 6, 17, 33, 47, 58, 132, 136, 253], count)
    made["l3num"] = random.choice([2, 10], count)
    size = np.where(made["l3num"] == 2, 4, 16)
    places = random.integers(0, 256, (count, 4, 16)) * random.integers(0, 2, (count, 4, 16))
    made["addr"] = places * (np.arange(16) < size[:, None, None])
    made["port"] = random.integers(0, 65536, (count, 4))
    mirrored = random.random(count) < 0.7
    made["addr"][mirrored, 2:] = made["addr"][mirrored, 1::-1]
    made["port"][mirrored, 2:] = made["port"][mirrored, 1::-1]
    icmp = np.isin(made["protonum"], (1, 58)) & mirrored
    kinds = made["port"][:, 1] >> 8
    answers = np.select([(made["protonum"] == 1) & (kinds == 8), (made["protonum"] == 58) & (kinds == 129)], [0, 128], kinds)
    made["port"][icmp, 2] = made["port"][icmp, 0]
    made["port"][icmp, 3] = (answers << 8 | made["port"][:, 1] & 255)[icmp]
    made["netns"] = random.choice([0, 7, 8, 9, 4026531840], count)
    made["zone"] = random.choice([0, 0, 9, 65535], count)
    made["mark"] = random.choice([0, 0, 5, 0xFFFFFFFF], count)
    made["status"] = random.integers(0, 1 << len(STATUS), count)
    made["tcp_state"] = np.where(made["protonum"] == 6, random.integers(0, 12, count), 0)
    made["has_ct"] = random.choice([0, 1, 1, 1, 2], count)
    made["bucket"] = random.choice([5, 262143, UNKNOWN_BUCKET], (count, 2))
    made["chain"] = random.choice([1, 400, UNKNOWN_CHAIN], (count, 2))
    made["seen_ns"] = CLOCK.monotonic_ns
    made["timeout"] = (CLOCK.jiffies + random.integers(-5000, 10**8, count)) % (1 << 32)
    return made


def with_masters(entries):
    rows = entry_rows(entries, CLOCK)
    tuples = {int(ct): row["original"] for ct, row in zip(entries["ct"], rows, strict=True)}
    for row, master in zip(rows, entries["master"].tolist(), strict=True):
        row["master"] = tuples.get(master)
    return rows


def as_read(tuple_text):
    """The JSON contract's tuple of a text like `10.0.0.1:1000 > 10.0.0.2:53` or `10.0.0.1 > 10.0.0.2 type 8 code 0 id 7`."""
    one, other, more = re.fullmatch(r"(\S+) > (\S+)((?: [a-z]+ \d+)*)", tuple_text).groups()
    words = more.split()
    found = {name: int(value) for name, value in zip(words[::2], words[1::2], strict=True)}
    if "type" in found:
        return {"src": one, "dst": other} | found
    ends = [re.fullmatch(r"\[(\S+)\]:(\d+)|([\d.]+):(\d+)", end) for end in (one, other)]
    if not all(ends):
        return {"src": one, "dst": other, "sport": None, "dport": None} | found
    (src, sport), (dst, dport) = ((end[1] or end[3], int(end[2] or end[4])) for end in ends)
    return {"src": src, "dst": dst, "sport": sport, "dport": dport}


def mirror(tuple_, proto):
    turned = {"src": "dst", "dst": "src", "sport": "dport", "dport": "sport", "srckey": "dstkey", "dstkey": "srckey"}
    found = {name: tuple_[turned.get(name, name)] for name in tuple_}
    if "type" in found:
        pairs = ANSWERS[proto]
        found["type"] = (pairs | {answer: asked for asked, answer in pairs.items()}).get(found["type"], found["type"])
    return found


ROW = re.compile(
    r"(?P<netns>\S+) +(?P<proto>\S+) +(?P<left>\S+) +(?P<buckets>\S+) +(?P<chains>\S+)  (?P<original>\S+ > \S+(?: [a-z]+ \d+)*)"
    r"(?: reply (?P<reply>\S+ > \S+(?: [a-z]+ \d+)*))?(?: (?P<flags>(?!zone=|mark=|master )\S+))?"
    r"(?: zone=(?P<zone>\d+))?(?: mark=(?P<mark>\d+))?(?: master (?P<master>.*))?"
)


def check_row(text, row):
    """A line of `ctobserve list` beside the JSON of the same entry; `-` and nothing stand for null, nothing for 0."""
    read = ROW.fullmatch(text)
    assert read, text
    whole = row["status"] is not None
    netns, proto = row["netns"], row["proto"] if row["proto"] != "unknown" else str(row["protonum"])
    assert read["netns"] == (LABELS.get(netns, str(netns)) if netns else "-")
    assert read["proto"] == proto
    assert read["left"] == ("-" if row["timeout_s"] is None else str(row["timeout_s"]))
    for name, pair in (("buckets", row["bucket"]), ("chains", row["chain"])):
        assert read[name] == "/".join("-" if value is None else str(value) for value in pair.values())
    original = as_read(read["original"])
    assert original == row["original"]
    reply = as_read(read["reply"]) if read["reply"] else mirror(original, proto)
    assert row["reply"] in (reply, None) and (whole or not read["reply"])
    assert int(read["zone"] or 0) == (row["zone"] or 0)
    assert int(read["mark"] or 0) == (row["mark"] or 0)
    assert (as_read(read["master"]) if read["master"] else None) == row["master"]
    flags = set((read["flags"] or "").split(",")) - {"", "-"}
    if whole:
        status = (flags - {"UNREPLIED", "ASSURED", row["tcp_state"]}) | ({"assured"} & {flag.lower() for flag in flags})
        assert status | (set() if "UNREPLIED" in flags else {"seen_reply"}) == set(row["status"]) - UNSAID
        assert row["tcp_state"] is None or row["tcp_state"] in flags
    else:
        assert not flags


def test_an_entry_as_text_is_the_entry_as_json():
    entries = everything()
    _, *chunks = entry_lines(entries, CLOCK, LABELS, entries)
    lines = "\n".join(chunks).split("\n")
    for line, row in zip(lines, with_masters(entries), strict=True):
        check_row(line, row)


def test_an_entry_as_csv_is_the_entry_as_json():
    entries = everything()
    read = csv.DictReader("\n".join(csv_lines(entries, entries, CLOCK)).split("\n"))
    assert read.fieldnames == list(HEADER)
    for line, row in zip(read, with_masters(entries), strict=True):
        assert {name: value for name, value in line.items() if value} == {
            name: value for name, value in flat(row).items() if value
        }


def test_an_entry_in_short_leaves_out_only_what_passes_with_time():
    entries = everything(300)
    for text, row in zip(described(entries, LABELS), entry_rows(entries, CLOCK), strict=True):
        head, _, buckets = fitted(text, None).partition(" bucket=")
        netns, proto, rest = head.split(" ", 2)
        check_row(
            f"{netns} {proto} {'-' if row['timeout_s'] is None else row['timeout_s']} {buckets or '-/-'} "
            + "/".join("-" if value is None else str(value) for value in row["chain"].values())
            + f"  {rest}",
            row,
        )


def test_masters_that_are_not_in_the_table_are_unknown():
    entries = everything(50)
    at, there = masters_of(entries, entries[:1])
    assert there.tolist() == (entries["master"] == 256).tolist() and there.any()
    assert (at[there] == 0).all()
    assert not masters_of(entries, entries[:0])[1].any()


def words(text):
    return np.frombuffer(text.ljust(TEXT_BYTES, b"\0")[:TEXT_BYTES], np.uint8)


TRAFFIC = words(np.array([3, 300, 2, 200], "<u8").tobytes())
LATER = {"ts": 2_500_000_000, "timeout": CLOCK.jiffies + 7500 - (1 << 32)}
SIX = {"src": A, "dst": B}
HAPPENED = (
    record(Kind.MASTER, 5, dport=21, proto=6, **LATER),
    record(Kind.INSERT, 6, master=5, dport=20, bucket=(252_901, 123_137), chain=(1, 12), zone=4, mark=9, **LATER, **SIX),
    record(Kind.INSERT, 7, ts=1_000_000_000, netns=8),
    record(Kind.CONFIRM, 6, since=2_499_999_000, status=IPS_CONFIRMED, **LATER),
    record(Kind.UPDATE, 6, changes=0b111000, status=IPS_CONFIRMED | IPS_OFFLOAD, proto=6, tcp_state=3, **LATER),
    record(Kind.DESTROY, 7, caller=4, flags=FLAG_COUNTERS, extra=TRAFFIC, cpu=3, **LATER),
    record(Kind.DESTROY, 8, caller=3, portid=4711, pid=260, comm=b"conntrack", **LATER),
    record(Kind.EVICTOR, 0, has_ct=2, eviction=77, **SIX),
    record(Kind.DESTROY, 9, caller=2, eviction=77, status=IPS_CONFIRMED | IPS_SRC_NAT, dst1=packed(C), dport1=7, **LATER, **SIX),
    record(Kind.DROP, 0, has_ct=2, reason=DropReason.TABLE_FULL, scanned=(0, 1, 2, 5), pid=1, comm=b"a b", zone=3, **LATER),
    record(Kind.DROP, 10, reason=DropReason.CHAINTOOLONG, since=1, bucket=(3, 4), chain=(60, 61), ifindex=2, device=b"eth0"),
    record(Kind.FREE, 10, **LATER),
    record(
        Kind.DROP, 0, has_ct=2, reason=DropReason.INVALID, flags=FLAG_TEXT | FLAG_ENTRY | FLAG_REPLY, hook=3, netns=0,
        extra=words(b"invalid state "), **LATER,
    ),
    record(Kind.DROP, 0, has_ct=0, reason=DropReason.ERROR, hook=1, proto=1, sport=5, dport=0x0301, **LATER),
)  # fmt: skip


def happened(*made):
    stream = Happenings(Chosen(("insert", "confirm", "update", "destroy", "drop"), Filter()), CLOCK, SYMBOLS)
    return stream.of(records(*made), final=True)


def tuple_words(tuple_):
    """Of a tuple in text, read back."""
    return lambda text: tuple_ in [as_read(found) for found in re.findall(r"[^\s]+ > \S+(?: (?:type|code|id|\w+key) \d+)*", text)]


def both(name, pair):
    return f" {name}={'/'.join('-' if value is None else str(value) for value in pair.values())}"


# How text says each fact of an event that is not null: what must be in the line, or a judge of the line.
SAID = {
    "event": lambda row: f" {row['event']} ",
    "ts": lambda row: row["ts"][11:23],
    "netns": lambda row: LABELS[row["netns"]],
    "l3": lambda row: ":" in row["original"]["src"] if row["l3"] == "ipv6" else "." in row["original"]["src"],
    "proto": lambda row: f" {row['proto']} ",
    "protonum": lambda row: f" {row['proto']} ",
    "zone": lambda row: f" zone={row['zone']}" if row["zone"] else True,
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
    "direction": lambda row: f" direction={row['direction']}" if row["hook"] else row["direction"] == "original",
    "interface": lambda row: f" on {row['interface']}",
    "hook": lambda row: f" hook={row['hook']}",
    "text": lambda row: f" ({row['text']})",
    "looked_at": lambda row: f" (looked at: {', '.join(f'{n} {name}' for name, n in row['looked_at'].items())})".replace(
        "_", " "
    ),
    # Of a lost packet text says nothing that its entry would have had.
    "status": lambda row: row["event"] == "drop" or ("UNREPLIED" in row["line"]) == ("seen_reply" not in row["status"]),
    "timeout_s": lambda row: row["event"] == "drop" or f" left={row['timeout_s']}s",
    "tcp_state": lambda row: row["event"] == "drop" or row["tcp_state"],
}


def test_every_fact_of_an_event_is_in_its_line():
    told = happened(*HAPPENED)
    lines = EventLines().of(told, CLOCK, LABELS).split("\n")
    met = set()
    for line, row in zip(lines, told.rows(CLOCK), strict=True):
        for name, value in row.items():
            if value is None:
                continue
            met.add(name)
            said = SAID[name](row | {"line": line})
            assert said(line) if callable(said) else said if isinstance(said, bool) else said in line, (name, said, line)
    assert met == set(SAID), "every fact is met at least once"


def test_what_is_unknown_says_nothing():
    (line,) = EventLines().of(happened(record(Kind.DROP, 0, has_ct=0, reason=2, ts=1_000_000_000)), CLOCK, LABELS).split("\n")
    assert line == "22:13:20.000 drop    blue     udp   10.0.0.1:1000 > 10.0.0.2:53 reason=no_memory cpu=0"
    assert entry_rows(everything(500), CLOCK)[0].keys() == flat_keys()


def flat_keys():
    return {name.partition(".")[0]: None for name in HEADER}.keys()


@pytest.mark.parametrize("columns", [98, 79])
def test_on_a_terminal_no_row_is_longer_than_a_line(columns):
    entries = everything(400)
    folded = "\n".join(entry_lines(entries, CLOCK, LABELS, entries, columns))
    told = happened(*HAPPENED)
    folded += "\n" + EventLines(columns).of(told, CLOCK, LABELS)
    folded += "\n" + "\n".join(fitted(f"  only here: {row}", columns) for row in described(entries, LABELS))
    whole = "\n".join(entry_lines(entries, CLOCK, LABELS, entries)) + "\n" + EventLines().of(told, CLOCK, LABELS)
    whole += "\n" + "\n".join(fitted(f"  only here: {row}", None) for row in described(entries, LABELS))
    lines = folded.split("\n")
    assert max(map(len, lines)) <= columns
    assert not any(line.endswith(" ") for line in lines if line.startswith("        "))
    assert "".join(folded.split()) == "".join(whole.split()), "the same words in the same order"
    rows = [line for line in lines if not line.startswith(" " * 8)]
    assert len(rows) == len(whole.split("\n")) == 1 + 400 + len(told) + 400, "one line for each, when nobody folds"


HOSTILE = b"\x1b[2J\n\r\x00forged \xff\xc2\x9b\x1e\x1f\\"


def test_what_others_choose_cannot_leave_its_line():
    made = [
        record(Kind.DROP, 0, has_ct=2, reason=DropReason.INVALID, flags=FLAG_TEXT, pid=5, ifindex=3, ts=1_000_000_000, **chosen)
        for chosen in (
            {"comm": HOSTILE, "device": HOSTILE, "extra": words(HOSTILE)},
            {"comm": b"\xff" * 16, "device": b"\n" * 16, "extra": words(b"\x1e" * TEXT_BYTES)},
            {"comm": "\u202e\u2028\u0085".encode(), "device": "\U000e0041".encode(), "extra": words("界\u200b".encode() * 14)},
        )
    ]
    labels = {7: printable(HOSTILE)}
    told = happened(*made)
    text = EventLines().of(told, CLOCK, labels)
    lines = text.split("\n")
    assert len(lines) == 3 and all(line.isprintable() for line in lines)
    assert "\\x1b[2J\\x0a\\x0d\\x00forged" in lines[0], "the label, to its end"
    assert "by \\x1b[2J\\x0a\\x0d[5] on \\x1b[2J\\x0a\\x0d (\\x1b[2J)" in lines[0], "C strings, to their NUL"
    for row in told.rows(CLOCK):
        values = [row["process"]["comm"], row["interface"], row["text"]]
        assert all(value.isprintable() and len(value) <= 4 * TEXT_BYTES for value in values)
        assert json.loads(json.dumps(row)) == row
    for columns in (98, 79):
        folded = EventLines(columns).of(told, CLOCK, labels).split("\n")
        assert all(line.isprintable() and len(line) <= columns for line in folded)


META = {
    "command": "report",
    "version": "9.8.7",
    "kernel": "6.1.0-test",
    "started": "2026-11-23T03:00:07.000000001Z",
    "ended": "2026-11-23T03:00:12.000000002Z",
    "duration_s": 5.125,
    "netns": "all",
    "netns_names": {"4026531840": "init", "77": "blue<b>&"},
    "attach": "fentry",
    "not_attached": ["ctnetlink_conntrack_event"],
    "table_source": "netlink",
    "events_seen": 1234,
    "events_lost": 7,
    "lost_by_kind": {"insert": 3, "destroy": 4},
    "evictions_unpaired": 11,
    "table_age_s": 1.5,
    "table_uncertain_s": 0.375,
    "buckets_unread": 19,
}
VERDICT = {
    "id": "table_full",
    "severity": "critical",
    "sentence": "the table of <blue> is full",
    "evidence": {"netns": 77, "share": 0.123456, "packets": None, "ports": [53, 54], "rate_per_s": 0.00012},
    "do": ["sysctl -w net.netfilter.nf_conntrack_max=32", "echo '<&>'"],
}
REPORT = {
    "meta": META,
    "verdicts": [VERDICT],
    "verdicts_not_shown": 0,
    "not_judged": [{"id": "scan", "why": "no table was read"}],
}


def leaves(value):
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in leaves(part)]
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, list) else [value]


def test_the_page_says_all_that_the_document_says():
    made = "\n".join(page(REPORT))
    told = html.unescape(re.sub(r"<[^>]*>", "\n", made.partition("</head>")[2]))
    for leaf in leaves(json.loads(document(REPORT))):
        assert shown(leaf) in told or (leaf == "critical" and "CRITICAL: table_full" in told), leaf
    for name in (*META, *META["netns_names"], *META["lost_by_kind"], *VERDICT["evidence"]):
        assert name in told, name
    assert "<b>" not in made.partition("</head>")[2]


def test_the_report_as_text_says_all_that_it_rests_on():
    text = "\n".join(report_lines(REPORT))
    for part in (VERDICT["sentence"], VERDICT["id"], "CRITICAL", *VERDICT["do"], "scan", "no table was read"):
        assert part in text
    for name, value in VERDICT["evidence"].items():
        assert f"{name}={shown(value)}" in text
