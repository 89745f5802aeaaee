"""Text, CSV and JSON say the same facts of an entry: each is read back, field by field."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest

from ctobserve.clock import Clock
from ctobserve.model import ENTRY, STATUS, UNKNOWN_BUCKET, UNKNOWN_CHAIN, printable
from ctobserve.render.csvout import HEADER, csv_lines
from ctobserve.render.entry_fields import masters_of
from ctobserve.render.folding import fitted
from ctobserve.render.lines import described, entry_lines
from ctobserve.render.rows import entry_rows
from tests.unit.reading import as_read, flat, mirror
from tests.unit.samples import tuple_of

CLOCK = Clock(monotonic_ns=1_000_000_000, wall_ns=1_700_000_000_000_000_000, jiffies=0xFFFFFF00, hz=250)
LABELS = {7: "blue", 8: "nginx@0123456789ab", 9: printable("\x1b[2J\n" * 20)}
OWNERS = {7: 'pod/a,"b"', 8: "web.service", 4026531840: "host"}
UNSAID = {"confirmed", "src_nat_done", "dst_nat_done"}  # docs/json.md: what text leaves out


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
    made["zone_dir"] = random.choice([1, 2, 3, 3], count)
    made["mark"] = random.choice([0, 0, 5, 0xFFFFFFFF], count)
    made["status"] = random.integers(0, 1 << len(STATUS), count)
    made["tcp_state"] = np.where(made["protonum"] == 6, random.integers(0, 12, count), 0)
    made["has_ct"] = random.choice([0, 1, 1, 1, 2], count)
    made["bucket"] = random.choice([5, 262143, UNKNOWN_BUCKET], (count, 2))
    made["chain"] = random.choice([1, 400, UNKNOWN_CHAIN], (count, 2))
    made["seen_ns"] = CLOCK.monotonic_ns
    made["timeout"] = (CLOCK.jiffies + random.integers(-5000, 10**8, count)) % (1 << 32)
    return made


def helpers(count, seed=7):
    """A helper's name for some of as many entries."""
    return np.random.default_rng(seed).choice(np.array([b"", b"", b"ftp", b"sip-5061", b"\x1b[2J"], "S16"), count)


def with_masters(entries):
    """Named one by one, beside which the columns are set."""
    rows = entry_rows(entries, CLOCK, helpers=helpers(len(entries)), owners=OWNERS)
    tuples = {int(ct): row["original"] for ct, row in zip(entries["ct"], rows, strict=True)}
    for row, master in zip(rows, entries["master"].tolist(), strict=True):
        row["master"] = tuples.get(master)
    return rows


ROW = re.compile(
    r"(?P<netns>\S+) +(?:(?P<owner>-|host|pod/\S+|\S+\.service) +)?"
    r"(?P<proto>\S+) +(?P<left>\S+) +(?P<buckets>\S+) +(?P<chains>\S+)  (?P<original>\S+ > \S+(?: [a-z]+ \d+)*)"
    r"(?: reply (?P<reply>\S+ > \S+(?: [a-z]+ \d+)*))?(?: (?P<flags>(?!zone=|mark=|helper=|master )\S+))?"
    r"(?: zone=(?P<zone>\d+)(?: zone_dir=(?P<zone_dir>\w+))?)?(?: mark=(?P<mark>\d+))?"
    r"(?: helper=(?P<helper>\S+))?(?: master (?P<master>.*))?"
)


def check_row(text, row):
    """A line of `ctobserve list` beside the JSON of the same entry; `-` and nothing stand for null, nothing for 0."""
    read = ROW.fullmatch(text)
    assert read, text
    whole = row["status"] is not None
    netns, proto = row["netns"], row["proto"] if row["proto"] != "unknown" else str(row["protonum"])
    assert read["netns"] == (LABELS.get(netns, str(netns)) if netns else "-")
    assert read["owner"] in (None, row["owner"] or "-")
    assert read["proto"] == proto
    assert read["left"] == ("-" if row["timeout_s"] is None else str(row["timeout_s"]))
    for name, pair in (("buckets", row["bucket"]), ("chains", row["chain"])):
        assert read[name] == "/".join("-" if value is None else str(value) for value in pair.values())
    original = as_read(read["original"])
    assert original == row["original"]
    reply = as_read(read["reply"]) if read["reply"] else mirror(original, proto)
    assert row["reply"] in (reply, None) and (whole or not read["reply"])
    assert int(read["zone"] or 0) == (row["zone"] or 0)
    assert (read["zone_dir"] or "both") == (row["zone_dir"] if row["zone"] and whole else "both")
    assert int(read["mark"] or 0) == (row["mark"] or 0)
    assert read["helper"] == row["helper"]
    assert (as_read(read["master"]) if read["master"] else None) == row["master"]
    flags = set((read["flags"] or "").split(",")) - {"", "-"}
    flags = {flag.lower() if flag in ("OFFLOAD", "HW_OFFLOAD") else flag for flag in flags}
    if whole:
        status = (flags - {"UNREPLIED", "ASSURED", row["tcp_state"]}) | ({"assured"} & {flag.lower() for flag in flags})
        assert status | (set() if "UNREPLIED" in flags else {"seen_reply"}) == set(row["status"]) - UNSAID
        assert row["tcp_state"] is None or (row["tcp_state"] in flags) is ("offload" not in row["status"])
    else:
        assert not flags


def test_masters_in_json_are_those_of_the_entries():
    entries = everything()
    assert entry_rows(entries, CLOCK, entries, helpers(len(entries)), OWNERS) == with_masters(entries)
    assert all(row["master"] is None for row in entry_rows(entries, CLOCK))


def test_an_entry_as_text_is_the_entry_as_json():
    entries = everything()
    heading, *chunks = entry_lines(entries, CLOCK, LABELS, entries, helpers=helpers(len(entries)), owners=OWNERS)
    lines = "\n".join(chunks).split("\n")
    assert heading.split()[1] == "OWNER" and sum(" pod/" in line for line in lines) == (entries["netns"] == 7).sum()
    for line, row in zip(lines, with_masters(entries), strict=True):
        check_row(line, row)


def test_an_entry_as_csv_is_the_entry_as_json():
    entries = everything()
    read = csv.DictReader("\n".join(csv_lines(entries, entries, CLOCK, helpers(len(entries)), OWNERS)).split("\n"))
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
    found = masters_of(entries, entries[:1])
    there = found.l3num != 0
    assert there.tolist() == (entries["master"] == 256).tolist() and there.any()
    assert (found.addr[there] == tuple_of(entries[:1])["addr"]).all() and (found.port[there] == entries["port"][0, :2]).all()
    assert masters_of(entries, entries[:0]) is None


def test_every_fact_of_an_entry_is_in_json_whether_known_or_not():
    assert entry_rows(everything(500), CLOCK)[0].keys() == {name.partition(".")[0]: None for name in HEADER}.keys()


@pytest.mark.parametrize("columns", [98, 79])
def test_on_a_terminal_no_row_is_longer_than_a_line(columns):
    entries = everything(400)
    folded = "\n".join(entry_lines(entries, CLOCK, LABELS, entries, columns))
    folded += "\n" + "\n".join(fitted(f"  only here: {row}", columns) for row in described(entries, LABELS))
    whole = "\n".join(entry_lines(entries, CLOCK, LABELS, entries))
    whole += "\n" + "\n".join(fitted(f"  only here: {row}", None) for row in described(entries, LABELS))
    lines = folded.split("\n")
    assert max(map(len, lines)) <= columns
    assert not any(line.endswith(" ") for line in lines if line.startswith("        "))
    assert "".join(folded.split()) == "".join(whole.split()), "the same words in the same order"
    rows = [line for line in lines if not line.startswith(" " * 8)]
    assert len(rows) == len(whole.split("\n")) == 1 + 400 + 400, "one line for each, when nobody folds"
