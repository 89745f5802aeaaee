"""`buckets` on a scripted capture: its whole document as text and JSON; lookups, the verdict on the spread, the drawing."""

from __future__ import annotations

import json

import numpy as np

from ctobserve.analysis.lookup import choices, longest_by_part, lookup, verdict, what_if
from ctobserve.capture.filters import Filter
from ctobserve.capture.table import Lengths
from ctobserve.capture.watch import Stretch
from ctobserve.documents.buckets import collect
from ctobserve.documents.request import Request
from ctobserve.event import Kind
from ctobserve.model import UNKNOWN_CHAIN
from ctobserve.render.jsonout import document, plain
from ctobserve.render.spread import bucket_lines
from tests.scripted import CLOCK, HOST, ScriptedCapture, events
from tests.unit.tables import entries

RANDOM = np.random.default_rng(7)
TABLE = entries(3, ct=[256, 512, 768], bucket=[(0, 2), (2, 2), (2, 7)], chain=UNKNOWN_CHAIN, seen_ns=CLOCK.monotonic_ns)


def looked(capture, **asked):
    request = Request(**asked)
    return collect(capture, request, Stretch(request.duration))


def spread(nodes: int, buckets: int) -> np.ndarray:
    return np.bincount(RANDOM.integers(0, buckets, nodes), minlength=buckets).astype(np.uint16)


def small(**asked):
    return looked(ScriptedCapture(entries=TABLE, buckets=8), **asked)


def test_the_whole_document_as_json():
    found = small(limit=1)
    pair = {"src": "10.0.0.1", "dst": "10.0.0.2"}, {"src": "10.0.0.2", "dst": "10.0.0.1"}

    def entry(sport, bucket):
        return {
            "netns": 7, "l3": "ipv4", "proto": "udp", "protonum": 17, "zone": 0, "mark": 0,
            "original": pair[0] | {"sport": sport, "dport": 53}, "reply": pair[1] | {"sport": 53, "dport": sport},
            "status": ["seen_reply", "assured", "confirmed"], "timeout_s": 100, "tcp_state": None,
            "bucket": dict(zip(("original", "reply"), bucket, strict=True)), "chain": {"original": None, "reply": None},
            "master": None,
            "zone_dir": None,
            "helper": None,
            "owner": None,
        }  # fmt: skip

    wanted = {
        "meta": plain(found.meta),
        "buckets": 8,
        "entries": 3,
        "nodes": 6,
        "load_factor": 0.75,
        "histogram": {"0": 5, "1": 2, "2": 0, "3": 0, "4": 1},
        "expected": {"0": 3.779, "1": 2.834, "2": 1.063, "3": 0.266, "4": 0.05},
        "max_chain": 4,
        "chain_limit_from": 50,
        "verdict": verdict(np.array([1, 0, 4, 0, 0, 0, 0, 1], np.uint16)),
        "lookup": {"buckets": 8, "load_factor": 0.75, "known_mean": 2.0, "new_mean": 0.75, "worst": 4},
        "what_if": [
            {"buckets": 4, "load_factor": 1.5, "known_mean": 1.75, "new_mean": 1.5, "worst": 2},
            {"buckets": 16, "load_factor": 0.375, "known_mean": 1.1875, "new_mean": 0.375, "worst": 1},
            {"buckets": 32, "load_factor": 0.1875, "known_mean": 1.09375, "new_mean": 0.1875, "worst": 1},
        ],
        "longest_by_part": [1, 0, 4, 0, 0, 0, 0, 1],
        "longest": [{"bucket": 2, "length": 4, "entries": [entry(1024, (0, 2)), entry(1025, (2, 2)), entry(1026, (2, 7))]}],
        "cells": {"columns": 64, "longest": [1, 0, 4, 0, 0, 0, 0, 1], "worst": list(range(8)), "nodes": [1, 0, 4, 0, 0, 0, 0, 1]},
    }
    assert wanted["meta"]["command"] == "buckets" and wanted["meta"]["netns"] == "all"
    assert document(found) == json.dumps(wanted, indent=2), "to the byte: keys in this order"


def test_the_whole_document_as_text():
    assert list(bucket_lines(small(limit=2, filter=Filter(sport=(1025, 1026))))) == [
        "3 entries, 6 nodes in 8 buckets; load factor 0.750; longest chain 4",
        "Spread: even, as by a perfect hash: variance/mean 2.25, chi-square p 1, longest chain p 0.058",
        "",
        "LENGTH   BUCKETS    EXPECTED  # seen, | expected",
        "     0         5         3.8  ##############################|#########",
        "     1         2         2.8  ################       |",
        "     2         0         1.1           |",
        "     3         0         0.3  ",
        "     4         1         0.1  ########",
        "",
        "Longest chain in each 8th of the buckets (from 50 nodes on the kernel refuses new entries):",
        "  1.4....1",
        "",
        "  BUCKETS NODES/BUCKET  KNOWN    NEW  WORST  nodes a lookup visits",
        "        8        0.750   2.00   0.75      4  now",
        "        4        1.500   1.75   1.50      2  if so many",
        "       16        0.375   1.19   0.38      1  if so many",
        "       32        0.188   1.09   0.19      1  if so many",
        "",
        "Longest chains:",
        "  bucket 2: 4 nodes",
        "    blue udp 10.0.0.1:1025 > 10.0.0.2:53 ASSURED bucket=2/2",
        "    blue udp 10.0.0.1:1026 > 10.0.0.2:53 ASSURED bucket=2/7",
        "  bucket 0: 1 nodes",
    ], "the filter chooses whose entries are named, not what is counted"


def test_without_entries_nothing_is_spread():
    found = looked(ScriptedCapture(buckets=64, host=HOST._replace(limits_chains=None)))
    assert (found.lookup.known_mean, found.longest, found.chain_limit_from) == (None, (), None)
    assert found.verdict == "no entries: nothing to spread"
    assert "       64        0.000      -   0.00      0  now" in list(bucket_lines(found))


def test_after_a_stretch_of_time_the_table_that_events_made_is_counted():
    born = entries(1, ct=8192, bucket=(5, 5))
    capture = ScriptedCapture([events(Kind.INSERT, born)], TABLE, kernel=TABLE[:1], buckets=8)
    capture.follow()
    found = looked(capture, duration=1.0)
    assert (found.entries, found.longest_by_part) == (4, (1, 0, 4, 0, 0, 2, 0, 1))
    assert found.longest[1].entries.entries["ct"].tolist() == [8192]


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


class Measured(ScriptedCapture):
    """With these chains, whoever is in them."""

    measured: Lengths

    def lengths(self) -> Lengths:
        return self.measured


def measured(lengths, **given):
    capture = Measured(**given)
    capture.measured = Lengths(lengths, int(lengths.sum()) // 2, 0)
    return capture


def test_the_drawing_fits_a_terminal():
    found = looked(measured(spread(500_000, 262_144)), limit=0)
    lines = list(bucket_lines(found))
    assert max(map(len, lines)) < 100
    assert any("from 50 nodes on the kernel refuses" in line for line in lines)
    assert found.entries == 250_000 and found.what_if[0].buckets == 131_072
    bars = [line for line in lines if line.endswith("|") or "#|" in line or "|#" in line]
    assert bars, "what was expected is marked"
    strip = next(
        line for line in lines if line.startswith("  ") and set(line.strip()) <= set("0123456789abcdef") and len(line) > 60
    )
    assert len(strip.strip()) == 64


def test_entries_of_the_longest_chains_fold_on_a_terminal_and_nowhere_else():
    rows = entries(
        2, src="2001:db8:1234:5678:9abc:def0:1234:5678", dst="2001:db8:1234:5678:9abc:def0:1234:9abc", l3num=10, mark=7
    )
    lengths = spread(500, 256)
    rows["bucket"] = int(lengths.argmax())
    found = looked(measured(lengths, entries=rows), limit=1)
    whole, folded = (list(bucket_lines(found, columns)) for columns in (None, 98))
    for text in (whole, folded):
        assert "    blue udp" in "\n".join(text) and "mark=7" in text[-1]
    assert len(whole[-1]) > 98 and len(whole) == len(folded)
    assert max(len(line) for line in "\n".join(folded).split("\n")) <= 98
