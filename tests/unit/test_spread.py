from __future__ import annotations

import numpy as np

from ctobserve.analysis.buckets import distribution
from ctobserve.analysis.lookup import choices, longest_by_part, lookup, verdict, what_if
from ctobserve.capture.filters import Filter
from ctobserve.capture.table import Lengths
from ctobserve.clock import Clock
from ctobserve.commands.buckets import as_rows
from ctobserve.render.lines import described
from ctobserve.render.spread import bucket_lines
from tests.unit.tables import CLOCK, NETNS, entries

RANDOM = np.random.default_rng(7)


def spread(nodes: int, buckets: int) -> np.ndarray:
    return np.bincount(RANDOM.integers(0, buckets, nodes), minlength=buckets).astype(np.uint16)


def test_a_lookup_of_a_known_tuple_stops_at_its_node():
    found = lookup(np.array([0, 1, 3, 0], np.uint16))
    assert (found.known_mean, found.new_mean, found.worst, found.load_factor) == ((1 + 1 + 2 + 3) / 4, 1.0, 3, 1.0)
    empty = lookup(np.zeros(4, np.uint16))
    assert (empty.known_mean, empty.worst) == (None, 0)


def test_what_other_numbers_of_buckets_would_do():
    half, double, four = choices(20_000, 8192)
    assert [half.buckets, double.buckets, four.buckets] == [4096, 16384, 32768]
    assert double.new_mean == 20_000 / 16384 and double.known_mean == 1 + 10_000 / 16384
    assert half.worst > double.worst > four.worst
    assert what_if(0, 64).known_mean is None
    # The longest chain of a random table is what is expected of it, give or take two.
    assert abs(int(spread(20_000, 16384).max()) - double.worst) <= 2


def test_the_spread_is_judged():
    assert verdict(spread(20_000, 8192)).startswith("even, as by a perfect hash")
    crowded = spread(20_000, 8192)
    crowded[:100] = 40
    assert verdict(crowded).startswith("uneven: a lookup visits")
    assert verdict(np.zeros(64, np.uint16)).startswith("no entries")


def test_parts_keep_the_order_of_buckets():
    lengths = np.zeros(262_144, np.uint16)
    lengths[0], lengths[-1] = 4, 11
    parts = longest_by_part(lengths)
    assert (len(parts), parts[0], parts[-1], sum(parts)) == (64, 4, 11, 15)


def test_the_drawing_fits_a_terminal():
    lengths = spread(500_000, 262_144)
    found = distribution(Lengths(lengths, 250_000, 0), 0, lambda bucket: None)
    report = as_rows(found, Clock.at(0), Filter(), True)
    lines = list(bucket_lines(report, {}))
    assert max(map(len, lines)) < 100
    assert any("from 50 nodes on the kernel refuses" in line for line in lines)
    assert report["entries"] == 250_000 and report["what_if"][0]["buckets"] == 131_072
    bars = [line for line in lines if line.endswith("|") or "#|" in line or "|#" in line]
    assert bars, "what was expected is marked"
    strip = next(
        line for line in lines if line.startswith("  ") and set(line.strip()) <= set("0123456789abcdef") and len(line) > 60
    )
    assert len(strip.strip()) == 64


def test_entries_of_the_longest_chains_fold_on_a_terminal_and_nowhere_else():
    lengths = spread(500, 256)
    rows = entries(
        2, src="2001:db8:1234:5678:9abc:def0:1234:5678", dst="2001:db8:1234:5678:9abc:def0:1234:9abc", l3num=10, mark=7
    )
    found = distribution(Lengths(lengths, 250, 0), 1, lambda bucket: rows)
    report = as_rows(found, CLOCK, Filter(), None)
    named = [described(rows, {NETNS: "blue"})]
    whole, folded = (list(bucket_lines(report, named, columns)) for columns in (None, 98))
    for text in (whole, folded):
        assert "    blue udp" in "\n".join(text) and "mark=7" in text[-1]
    assert len(whole[-1]) > 98 and len(whole) == len(folded)
    assert max(len(line) for line in "\n".join(folded).split("\n")) <= 98
