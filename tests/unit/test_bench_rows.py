"""What the bench makes of a result: rows with ratios and bars, lines for people, the page. And what it reads natively too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from bench.idle import resident
from bench.instructions import of_process
from bench.measured import Measured
from bench.record import Made, here, page
from bench.replay import COPIED, DECODED, EVENTS, TABLE
from bench.rows import Bar, Row, as_json, number, sections
from bench.text import lines

FORMS = ("ctobserve buckets, kprobe", "ctobserve buckets, fentry")


def cost(name: str, total: float, kernel: float, seen: float | None = 1) -> dict[str, object]:
    of_process = total - kernel
    return {
        "name": name,
        "warm": [total, total - 10, total + 20],
        "kernel": [kernel, kernel - 1, kernel + 1],
        "process": [of_process, of_process - 9, of_process + 19],
        "cold": 3 * total,
        "seen": seen,
        "event_bytes": 14.5 if name == "ctobserve record" else None,
    }


def runs(million: float, mb: int) -> dict[str, list[float]]:
    """Of each command as many instructions and bytes."""
    return {name: [million * 1e6, mb * 10**6] for name in ("list", "buckets", "drops", "top", "report")}


def big(start: float, namespaces: dict[int, dict[str, list[float]]], buckets: object) -> list[object]:
    return [
        {"ctobserve drops": [[start, start, start], 2_000_000]},
        {str(count): found for count, found in namespaces.items()},
        buckets,
    ]


MISSING = {"name": "bpftrace, counting confirms", "warm": None, "kernel": None, "process": None, "cold": None, "seen": None} | {
    "event_bytes": None
}
GUEST = {
    "kernel": "6.1.0-0-amd64",
    "python": "3.11.2",
    "numpy": "1.24.2",
    "new": [
        {
            "entries": 20_000,
            "alone": [9_000, 8_990, 9_100],
            "costs": [
                cost("conntrack -E", 21_000, 9_000, 0.33),
                MISSING,
                cost(FORMS[0], 1_905, 690),
                cost(FORMS[1], 1_500, 600),
                cost("ctobserve events", 5_000, 700),
                cost("ctobserve record", 2_000, 700),
            ],
        },
        {"entries": 200_000, "alone": [9_000, 9_000, 9_000], "costs": [cost(FORMS[1], 1_800, 300)]},
    ],
    "idle": {"ctobserve drops": [1_500_000, 1_400_000, 2_100_000]},
    "terminal": {
        "ctobserve drops": [4_000_000, 3_900_000, 4_100_000],
        "ctobserve top, plain frames": [30_000_000, 29_000_000, 31_000_000],
        "ctobserve top, full screen": [94_000_000, 84_000_000, 104_000_000],
    },
    "memory": {"ctobserve drops": {"resident": 66_000_000, "own": 20_000_000, "files": 46_000_000}},
    "starts": {"list": {"cold": [3.2e9, 3.1e9, 3.3e9], "warm": [2e9, 1.9e9, 2.1e9]}},
    "reading": {
        "conntrack -L": [10_000, 9_900, 10_100],
        "/proc/net/nf_conntrack": None,
        "ctobserve walk": [2_500, 2_400, 2_600],
        "ctobserve lengths": [80, 79, 81],
    },
    "table_bytes": [210, 400],
    "big": big(
        1e9,
        {0: runs(1000, 50), 500: runs(2000, 60), 1000: runs(4000, 70)},
        {"262144": [[150] * 3, [140] * 3, runs(1000, 50)], "4194304": [[150] * 3, [154] * 3, runs(2179.648, 120)]},
    ),
    "big_cpus": big(1.2e9, {0: runs(1100, 55), 100: runs(1600, 60), 200: runs(2100, 65)}, {}),
}
NATIVE = {
    TABLE: Measured(6e6, 5e6, 7e6),
    EVENTS: Measured(2e6, 1.9e6, 2.1e6),
    COPIED: Measured(5e5, 4e5, 6e5),
    DECODED: Measured(2e5, 1e5, 3e5),
}
ROWS = {(section.title, row.name): row for section in sections(GUEST, NATIVE) for row in section.rows}
FLOODED = "While 10,000 entries a second are new"
CPUS, NAMESPACES, BUCKETS = "512 possible CPUs", "1,000 network namespaces", "4,194,304 buckets"
MEMORY = "Memory on a big machine"
FEW, MANY = "New entries, floods of 20,000", "New entries, floods of 200,000"


def test_every_bar_and_how_it_was_met():
    found = {name: (str(row.bar), row.met, round(row.part_of_bar or 0, 2)) for name, row in ROWS.items() if row.bar}
    assert found == {
        (FEW, FORMS[0]): ("≤ 1,500", False, 1.27),
        (FEW, f"{FORMS[0]}, the kernel's part"): ("≤ 600", False, 1.15),
        (FEW, FORMS[1]): ("≤ 1,500", True, 1),
        (FEW, f"{FORMS[1]}, the kernel's part"): ("≤ 600", True, 1),
        (FEW, "ctobserve events"): ("≤ 6,000", True, 0.83),
        (FEW, "ctobserve record"): ("≤ 2,500", True, 0.8),
        (MANY, FORMS[1]): ("≤ 1,500", False, 1.2),
        (MANY, f"{FORMS[1]}, the kernel's part"): ("≤ 600", True, 0.5),
        ("A recording", "a flood of 20,000"): ("≤ 40", True, 0.36),
        ("While nothing happens", "ctobserve drops"): ("≤ 2", True, 0.75),
        (FLOODED, "ctobserve top, full screen, beyond ctobserve drops"): ("≤ 90", True, 1),
        ("Memory", "ctobserve drops"): ("≤ 60", False, 1.1),
        ("Starts", "list, cold: the cache is empty"): ("≤ 1.5 x", False, 1.07),
        ("Reading a table", "ctobserve walk"): ("≥ 5 x", False, 0.8),
        ("Reading a table", "ctobserve lengths"): ("≥ 20 x", True, 6.25),
        ("The followed table", "kept"): ("≤ 300", True, 0.7),
        (CPUS, "ctobserve drops, 512"): ("≤ 1.3 x", True, 0.92),
        (NAMESPACES, "ctobserve drops"): ("≤ 2", False, 1.5),
        (NAMESPACES, "ctobserve drops, the last 500 of them"): ("≤ 1.2 x", False, 1.67),
        (NAMESPACES, "ctobserve report"): ("≤ 6", True, 0.5),
        (NAMESPACES, "ctobserve report, the last 500 of them"): ("≤ 1.2 x", False, 1.67),
        (BUCKETS, "lengths, 4,194,304"): ("≤ 1.05 x", True, 0.95),
        (BUCKETS, "walk, 4,194,304"): ("≤ 1.05 x", False, 1.05),
        (BUCKETS, "ctobserve list"): ("≤ 250", False, 1.2),
        (BUCKETS, "ctobserve buckets"): ("≤ 400", True, 0.75),
        (BUCKETS, "ctobserve top"): ("≤ 250", False, 1.2),
        (BUCKETS, "ctobserve report"): ("≤ 500", True, 0.6),
        **{
            (MEMORY, f"ctobserve {name}, beyond that, {more}"): ("≤ 64", met, part)
            for name in ("list", "buckets", "drops", "top", "report")
            for more, met, part in (
                ("512 possible CPUs", True, 0.08),
                ("1,000 namespaces", True, 0.31),
                ("4,194,304 buckets", False, 1.09),
            )
        },
        (MEMORY, "maps of ctobserve drops, 512 CPUs"): ("≤ 64", True, 0.03),
        ("From the ring", TABLE): ("≥ 5,000,000", True, 1.2),
        ("From the ring", COPIED): ("≥ 10 x", True, 1.2),
    }


def test_ratios_are_of_what_they_say():
    said = {name: (round(row.ratio, 2), row.against) for name, row in ROWS.items() if row.ratio}
    assert said == {
        (FEW, "conntrack -E"): (2.33, "x the entry itself"),
        (FEW, FORMS[0]): (11.02, "x as cheap as conntrack -E"),
        (FEW, FORMS[1]): (14, "x as cheap as conntrack -E"),
        (FEW, "ctobserve events"): (4.2, "x as cheap as conntrack -E"),
        (FEW, "ctobserve record"): (10.5, "x as cheap as conntrack -E"),
        # Others watch the smallest flood alone.
        (MANY, FORMS[1]): (0.2, "x the entry itself"),
        ("Starts", "list, cold: the cache is empty"): (1.6, "x warm"),
        ("Reading a table", "ctobserve walk"): (4, "x as cheap as conntrack -L"),
        ("Reading a table", "ctobserve lengths"): (125, "x as cheap as conntrack -L"),
        (CPUS, "ctobserve drops, 512"): (1.2, "x with 1"),
        (NAMESPACES, "ctobserve drops, the last 500 of them"): (2, "x the first"),
        (NAMESPACES, "ctobserve report, the last 500 of them"): (2, "x the first"),
        (BUCKETS, "lengths, 4,194,304"): (1, "x with 262,144"),
        (BUCKETS, "walk, 4,194,304"): (1.1, "x with 262,144"),
        ("From the ring", EVENTS): (3, "x slower than to table"),
        ("From the ring", COPIED): (12, "x slower than to table"),
        ("From the ring", DECODED): (30, "x slower than to table"),
    }


def test_what_hides_behind_a_number_is_said():
    notes = {name: row.note for name, row in ROWS.items() if row.note}
    assert notes == {
        (FEW, "conntrack -E"): "saw 33% of the events",
        (FEW, "bpftrace, counting confirms"): "not installed",
        ("Reading a table", "/proc/net/nf_conntrack"): "not measured: it takes the square of so many",
    }


def test_a_bar_of_what_was_not_measured_is_neither_met_nor_missed():
    row = Row("nothing", None, bar=Bar(1))
    assert (row.met, row.part_of_bar) == (None, None)


def test_lines_fit_a_page_and_say_every_bar():
    printed = list(lines(sections(GUEST, NATIVE)))
    assert max(map(len, printed)) <= 130
    kprobe = next(line for line in printed if FORMS[0] in line)
    assert kprobe.split("  ")[1] == FORMS[0]
    assert "1,905          1,895 to 1,925  11.0 x as cheap as conntrack -E" in kprobe
    assert kprobe.endswith("≤ 1,500     missed 1.27 x")
    assert next(line for line in printed if "6,000,000" in line).endswith("≥ 5,000,000 met 1.20 x")
    assert "      saw 33% of the events" in printed
    assert "Starts: million instructions" in printed
    assert printed[-1] == "45 bars: 28 met, 17 missed"


def test_rows_as_json_have_their_bar_and_by_how_much():
    rows = {(row["section"], row["what"]): row for row in json.loads(json.dumps(as_json(sections(GUEST, NATIVE))))}
    assert rows.keys() == ROWS.keys()
    assert rows[FEW, FORMS[0]] == {
        "section": FEW,
        "what": FORMS[0],
        "value": 1905,
        "low": 1895,
        "high": 1925,
        "unit": "instructions per entry",
        "ratio": pytest.approx(21_000 / 1_905),
        "against": "x as cheap as conntrack -E",
        "bar": "≤ 1,500",
        "met": False,
        "part_of_bar": pytest.approx(1.27),
        "note": "",
    }
    assert rows[FEW, MISSING["name"]]["value"] is None


def test_a_result_of_some_parts_has_their_sections_alone():
    assert not sections({"kernel": "6.1"}, {})
    assert [section.title for section in sections({"starts": GUEST["starts"]}, NATIVE)] == ["Starts", "From the ring"]


def test_the_page():
    table = sections(GUEST, NATIVE)
    written = list(page(table, Made("2026-11-26", "Linux 6.1.0-0-amd64", "a CPU", "5 floods")))
    assert written[:3] == ["# What observing costs", "", written[2]] and "`make bench`" in written[2]
    for line in (
        "| instructions | QEMU icount, one CPU; Linux 6.1.0-0-amd64 |",
        "| events/s | a CPU |",
        "| repeats | 5 floods |",
        "45 bars: 28 met, 17 missed; beside each verdict, how many times the bar was measured.",
        f"| {FEW}: {FORMS[0]}, the kernel's part | 690 instructions per entry | ≤ 600 | missed 1.15 x |",
        "| Starts: list, cold: the cache is empty | 1.60 x warm | ≤ 1.5 x | missed 1.07 x |",
        f"| {FORMS[0]} | 1,905 | 1,895 to 1,925 | 11.0 x as cheap as conntrack -E | ≤ 1,500 | missed 1.27 x |",
        "| - the first flood, cold | 5,715 |  |  |  |  |",
        "| conntrack -E | 21,000 | 20,990 to 21,020 | 2.33 x the entry itself |  | saw 33% of the events |",
    ):
        assert line in written
    assert [line for line in written if line.startswith("## ")] == ["## Bars", *(f"## {section.title}" for section in table)]
    # A table's rows all have the cells of its head.
    cells = [line.count("|") if line.startswith("|") else 0 for line in written]
    assert all(one == other or 0 in (one, other) for one, other in pairwise(cells))


def test_the_page_says_on_which_machine():
    cpu, said = here().split("; ")
    assert cpu and said.startswith(f"Linux {os.uname().release}, Python {sys.version.split()[0]}, NumPy ")


@pytest.mark.parametrize(
    ("value", "said"), [(21_000.4, "21,000"), (2, "2"), (1.5, "1.5"), (98.76, "98.8"), (0, "0"), (-3.21, "-3.21")]
)
def test_numbers_have_three_digits_or_all_before_the_point(value, said):
    assert number(value) == said


def test_the_median_counts():
    assert Measured.of([3, 1, 2, 900]) == Measured(2.5, 1, 900)
    assert Measured(4, 2, 8).over(2) == Measured(2, 1, 4)


def test_the_clock_of_a_process_is_its_own():
    before, mine = of_process(os.getpid()), time.process_time_ns()
    while time.process_time_ns() - mine < 20_000_000:
        pass
    assert 20_000_000 <= of_process(os.getpid()) - before < 1_000_000_000
    spend = "import time\nwhile time.process_time_ns() < 300_000_000: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", spend], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert 200_000_000 < of_process(other.pid) < 1_000_000_000
        other.stdin.close()
    with pytest.raises(OSError, match="No such process"):
        of_process(other.pid)


def test_memory_of_a_process_by_its_kinds():
    found = resident(os.getpid())
    assert found["resident"] == found["own"] + found["files"] and min(found.values()) > 1 << 20


def test_questions_to_ten_times_as_many_hosts_may_take_little_more_than_ten_times():
    asked = {10: {"losses": (1.0, 1 << 20)}, 100: {"losses": (2.0, 1 << 21)}, 1000: {"losses": (25.0, 3 << 30)}}
    cpu, memory = sections({}, {}, asked)
    first, *parts = cpu.rows
    assert (first.what, first.ratio, first.met) == ("losses, 1,000 hosts", 12.5, False)
    assert [(row.what, row.measured.value) for row in parts] == [("100 hosts", 2.0), ("10 hosts", 1.0)]
    assert [(row.what, row.met) for row in memory.rows] == [("losses, 1,000 hosts", False)]
