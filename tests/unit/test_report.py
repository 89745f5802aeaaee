"""The incident report as people and programs get it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np

from ctobserve import __version__
from ctobserve.capture.capture import NamespaceState
from ctobserve.capture.filters import Filter
from ctobserve.capture.watch import Stretch
from ctobserve.diagnosis import rules
from ctobserve.diagnosis.verdict import Severity
from ctobserve.documents.meta import meta_of
from ctobserve.documents.report import ReportDocument, collect, with_figures
from ctobserve.documents.request import Request
from ctobserve.documents.verdicts import VerdictRow, judged_of
from ctobserve.event import NO_EVENTS, DestroyReason, DropReason, Kind
from ctobserve.host.account import Account
from ctobserve.host.counters import Reading
from ctobserve.host.owner import Owner, OwnerKind
from ctobserve.host.ruleset import Ruleset
from ctobserve.model import join
from ctobserve.render.htmlout import page
from ctobserve.render.jsonout import document
from ctobserve.render.report import report_lines
from tests.scripted import ScriptedCapture, events, reading
from tests.unit.pictured import figures
from tests.unit.tables import NETNS, entries, evidence, many, namespace, tcp

GOLDEN = """\
CRITICAL  table_full: the table of blue is full: 23 packets of new connections refused in 5.0 s
          (4.6 per s); it holds 14 of 14 entries, 14 of them assured, which early drop never takes
            netns=7  packets=23  packets_per_s=4.6  packets_elsewhere=0  entries=14  limit=14
            entries_assured=14  kernel_drop=-
          $ ip netns exec blue sysctl -w net.netfilter.nf_conntrack_max=32

WARNING   netns_limit: blue may have 14 entries, fewer than the 10000 of the first namespace, and
          has 14 (100 %); namespaces with a lower limit: 1
            netns=7  limit=14  limit_init=10000  entries=14  namespaces=1
          $ ip netns exec blue sysctl -w net.netfilter.nf_conntrack_max=10000

NOTICE    acct_off: nf_conntrack_acct is 0 in blue, with 14 entries: packets and bytes of a
          connection are not counted; new entries only, once set
            netns=7  namespaces=1  entries=14  nf_conntrack_acct=0
          $ ip netns exec blue sysctl -w net.netfilter.nf_conntrack_acct=1

not judged: invalid_window: invalid packets were not looked for
not judged: asymmetric_routing: invalid packets were not looked for
not judged: entry_gone: invalid packets were not looked for
not judged: untranslated: invalid packets were not looked for
not judged: late_packets: invalid packets were not looked for
not judged: icmp_refused: invalid packets were not looked for
not judged: bad_checksum: invalid packets were not looked for
not judged: tracking_unneeded: no namespace has entries enough to ask for its rules
not judged: unseen: the kernel's counters could not be read in any namespace
"""
META = meta_of("report", ScriptedCapture(), Request())


def judged(limit: int | None = None) -> ReportDocument:
    settings = {"nf_conntrack_count": 14, "nf_conntrack_max": 14, "nf_conntrack_acct": 0}
    blue = namespace(init=False, prefix=("ip", "netns", "exec", "blue"), **settings)
    blue = replace(blue, counters=None, account=Account(14), listed=14)
    made = evidence(tcp(14), namespaces={NETNS: blue}, drops={"table_full": 23}, init=namespace(1, "init"))
    return with_figures(judged_of(META, rules.judge(replace(made, invalid=False)), limit), figures(made))


def test_text():
    lines = list(report_lines(judged()))
    assert "\n".join(lines) + "\n" == GOLDEN
    assert all(len(line) < 100 for line in lines)


def test_a_sentence_is_shown_whole_whatever_it_begins_with():
    """As that of a namespace whose only process is called like a rule."""
    row = VerdictRow("early_drop", Severity.WARNING, "early_drop: [1] runs at its limit", {}, (), (), None)
    (line, *_) = report_lines(ReportDocument(META, (row,), 0, (), figures()))
    assert line == "WARNING   early_drop: early_drop: [1] runs at its limit"


def test_what_the_limit_leaves_out_is_counted():
    report = judged(1)
    assert [row.id for row in report.verdicts] == ["table_full"] and report.verdicts_not_shown == 2
    assert "... and 2 more verdicts (--limit)" in list(report_lines(report))
    assert "... and 2 more verdicts" in "\n".join(page(report))
    assert not any("--limit)" in line for line in report_lines(judged()))


def test_json():
    body = json.loads(document(judged()))
    assert list(body) == ["meta", "verdicts", "verdicts_not_shown", "not_judged", "figures"]
    assert [list(row) for row in body["verdicts"]] == [
        ["id", "severity", "sentence", "evidence", "do", "do_only_looks", "owner"]
    ] * 3
    assert body["verdicts"][0]["evidence"]["kernel_drop"] is None, "unknown is null"
    assert {row["id"] for row in body["not_judged"]} >= {"invalid_window", "asymmetric_routing"}


class Page(HTMLParser):
    """Its words, and which elements are open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        assert not {"src", "href"} & {name for name, _ in attrs}, "the page stands alone"
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_html_says_what_json_says_and_takes_no_name_for_markup():
    report = judged()
    first, *others = report.verdicts
    first = replace(first, sentence=first.sentence + ", says <script>alert(1)</script> & co")
    report = replace(report, verdicts=(first, *others))
    made = Page("\n".join(page(report)))
    assert made.open == []
    words = "\n".join(made.words)
    body = json.loads(document(report))
    assert body["meta"].keys() <= set(made.words)
    for row in body["verdicts"]:
        assert row["sentence"] in words
        assert all(line in words for line in row["do"])
        assert row["evidence"].keys() <= set(made.words)
    assert all(row["why"] in made.words for row in body["not_judged"])
    assert body["meta"]["table_age_s"] is None and "-" in made.words, "unknown is no number"
    scripts = re.findall(r"<script[^>]*>", "\n".join(page(report)))
    assert scripts == ['<script type="application/json" id="figures">', "<script>", "<script>", "<script>"], (
        "those of the page itself"
    )


GREEN = 8
SYSCTLS = {"nf_conntrack_max": 10_000, "nf_conntrack_events": 2, "nf_conntrack_acct": 1, "nf_conntrack_count": 4}
OUTSIDE = b"SEQ is over upper bound (over the window of the receiver)"


def incident() -> ScriptedCapture:
    """A namespace that is full, and evicts, and beside it a client whose packets lie outside the window."""
    states = {
        NETNS: NamespaceState(NETNS, "blue", init=True, sysctls=SYSCTLS),
        GREEN: NamespaceState(
            GREEN, "green", names=("green",), sysctls=SYSCTLS | {"nf_conntrack_max": 120, "nf_conntrack_count": 120}
        ),
    }
    buckets = np.arange(240).reshape(120, 2) * 4 + 3
    table = join(
        [tcp(4), entries(120, netns=GREEN, ct=np.arange(120) + 9000, src=many(120), proto=6, tcp_state=7, bucket=buckets)]
    )
    batch = join(
        [
            events(Kind.DROP, entries(23, netns=GREEN, src="10.6.6.6"), reason=DropReason.TABLE_FULL, at_s=1),
            events(Kind.DROP, tcp(11, sport=5), reason=DropReason.INVALID, tcp_flags=0x10, text=OUTSIDE, at_s=2),
            events(Kind.DESTROY, entries(3, netns=GREEN, ct=[1, 2, 3]), reason=DestroyReason.EARLY_DROP, at_s=3),
            events(Kind.RESOLVED, entries(2), at_s=4),
        ]
    )
    before, after = (
        Reading(reading(**blue).counts | reading(GREEN, **green).counts)
        for blue, green in (({}, {}), ({"invalid": 11, "clash_resolve": 2}, {"drop": 23, "early_drop": 3}))
    )
    # The first two steps are those until the first reading of the counters.
    return ScriptedCapture(
        [NO_EVENTS, NO_EVENTS, batch], table, readings=[before, after], states=states, rulesets={GREEN: Ruleset(3, 1, 2)}
    )


def reported(**options) -> ReportDocument:
    capture = incident()
    capture.follow()
    return collect(capture, Request(**options), Stretch(5.0), invalid=True)


INCIDENT_TEXT = """\
CRITICAL  table_full: the table of green is full: 23 packets of new connections refused in 5.0 s
          (4.6 per s); 120 entries of it are listed, 120 of them assured; how many it counted is
          not known
            netns=8  packets=23  packets_per_s=4.6  packets_elsewhere=0  entries=120  limit=120
            entries_assured=120  kernel_drop=23
          $ ip netns exec green sysctl -w net.netfilter.nf_conntrack_max=256

WARNING   early_drop: green runs at its limit: 3 living entries evicted in 5.0 s (0.6 per s), 3 by
          early drop for new connections, 0 by the gc worker, which moves no counter; their
          connections lose their NAT and their state
            netns=8  evicted=3  evicted_per_s=0.6  early_drop=3  gc_early_drop=0
            evicted_elsewhere=0  entries=120  limit=120  kernel_early_drop=3
          $ ip netns exec green sysctl -w net.netfilter.nf_conntrack_max=240

WARNING   invalid_window: 11 packets of 1 connection were INVALID in 5.0 s (2.2 per s) for being
          outside the TCP window, most in blue; a rule that rejects INVALID, or NAT that skips it,
          resets them
            packets=11  packets_per_s=2.2  packets_not_kept=0  connections=1  netns=7
            src=10.0.0.1  sport=5  dst=10.0.0.2  dport=53  kernel_says=SEQ is over upper bound
          $ sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1

WARNING   netns_limit: green may have 120 entries, fewer than the 10000 of the first namespace,
          and has 120 (100 %); namespaces with a lower limit: 1
            netns=8  limit=120  limit_init=10000  entries=120  namespaces=1
          $ ip netns exec green sysctl -w net.netfilter.nf_conntrack_max=10000

NOTICE    clash_race: packets of one new connection raced each other in 5.0 s (0.4 per s), most
          for 10.0.0.2:53/udp: 0 lost, 2 given to the winner's entry
            packets=0  packets_per_s=0  packets_not_kept=0  clash_resolved=2
            kernel_insert_failed=0  dst=10.0.0.2  dport=53  proto=udp

not judged: entries_unlisted: how many entries are counted at the end is not known of 2 namespaces
            with entries
not judged: state_piles_up: nf_conntrack_tcp_timeout_time_wait could not be read in green, where
            it holds 120 entries
not judged: idle_established: nf_conntrack_tcp_timeout_established could not be read in any
            namespace
"""
INCIDENT_JSON = {
    "meta": {
        "command": "report",
        "version": __version__,
        "schema": 1,
        "kernel": "6.1.0-test",
        "started": "2023-11-14T22:13:20.000000000Z",
        "ended": "2023-11-14T22:13:25.000000000Z",
        "duration_s": 5.0,
        "netns": "all",
        "netns_names": {"7": "blue", "8": "green"},
        "attach": "fentry",
        "not_attached": [],
        "table_source": "walk",
        "events_seen": 39,
        "events_lost": 0,
        "lost_by_kind": {},
        "evictions_unpaired": 0,
        "table_age_s": 0.0,
        "table_uncertain_s": 0.0,
        "buckets_unread": 0,
        "events_seen_in_netns": None,
        "from_recording": None,
        "netns_owners": {"7": None, "8": None},
    },
    "verdicts": [
        {
            "id": "table_full",
            "severity": "critical",
            "sentence": (
                "the table of green is full: 23 packets of new connections refused in 5.0 s (4.6 per s); 120 entries of it "
                "are listed, 120 of them assured; how many it counted is not known"
            ),
            "evidence": {
                "netns": 8,
                "packets": 23,
                "packets_per_s": 4.6,
                "packets_elsewhere": 0,
                "entries": 120,
                "limit": 120,
                "entries_assured": 120,
                "kernel_drop": 23,
            },
            "do": ["ip netns exec green sysctl -w net.netfilter.nf_conntrack_max=256"],
            "do_only_looks": [False],
            "owner": None,
        },
        {
            "id": "early_drop",
            "severity": "warning",
            "sentence": (
                "green runs at its limit: 3 living entries evicted in 5.0 s (0.6 per s), 3 by early drop for new "
                "connections, 0 by the gc worker, which moves no counter; their connections lose their NAT and their "
                "state"
            ),
            "evidence": {
                "netns": 8,
                "evicted": 3,
                "evicted_per_s": 0.6,
                "early_drop": 3,
                "gc_early_drop": 0,
                "evicted_elsewhere": 0,
                "entries": 120,
                "limit": 120,
                "kernel_early_drop": 3,
            },
            "do": ["ip netns exec green sysctl -w net.netfilter.nf_conntrack_max=240"],
            "do_only_looks": [False],
            "owner": None,
        },
        {
            "id": "invalid_window",
            "severity": "warning",
            "sentence": (
                "11 packets of 1 connection were INVALID in 5.0 s (2.2 per s) for being outside the TCP window, most "
                "in blue; a rule that rejects INVALID, or NAT that skips it, resets them"
            ),
            "evidence": {
                "packets": 11,
                "packets_per_s": 2.2,
                "packets_not_kept": 0,
                "connections": 1,
                "netns": 7,
                "src": "10.0.0.1",
                "sport": 5,
                "dst": "10.0.0.2",
                "dport": 53,
                "kernel_says": ["SEQ is over upper bound"],
            },
            "do": ["sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1"],
            "do_only_looks": [False],
            "owner": None,
        },
        {
            "id": "netns_limit",
            "severity": "warning",
            "sentence": (
                "green may have 120 entries, fewer than the 10000 of the first namespace, and has 120 (100 %); "
                "namespaces with a lower limit: 1"
            ),
            "evidence": {"netns": 8, "limit": 120, "limit_init": 10000, "entries": 120, "namespaces": 1},
            "do": ["ip netns exec green sysctl -w net.netfilter.nf_conntrack_max=10000"],
            "do_only_looks": [False],
            "owner": None,
        },
        {
            "id": "clash_race",
            "severity": "notice",
            "sentence": (
                "packets of one new connection raced each other in 5.0 s (0.4 per s), most for 10.0.0.2:53/udp: 0 "
                "lost, 2 given to the winner's entry"
            ),
            "evidence": {
                "packets": 0,
                "packets_per_s": 0.0,
                "packets_not_kept": 0,
                "clash_resolved": 2,
                "kernel_insert_failed": 0,
                "dst": "10.0.0.2",
                "dport": 53,
                "proto": "udp",
            },
            "do": [],
            "do_only_looks": [],
            "owner": None,
        },
    ],
    "verdicts_not_shown": 0,
    "not_judged": [
        {
            "id": "entries_unlisted",
            "why": "how many entries are counted at the end is not known of 2 namespaces with entries",
        },
        {
            "id": "state_piles_up",
            "why": "nf_conntrack_tcp_timeout_time_wait could not be read in green, where it holds 120 entries",
        },
        {"id": "idle_established", "why": "nf_conntrack_tcp_timeout_established could not be read in any namespace"},
    ],
}


def test_text_of_an_incident():
    assert "\n".join(report_lines(reported())) + "\n" == INCIDENT_TEXT


def bins(**happened: int) -> list[int]:
    """Of an incident of 5 s, in tenths of a second: `at_23=7` is 7 in bin 23, all others are 0."""
    return [happened.get(f"at_{bin_}", 0) for bin_ in range(51)]


def incident_figures() -> dict[str, object]:
    in_green = [120] * 30 + [117] * 20 + [120]  # those that went are still in the table that is read at the end
    bucket = np.zeros(1024, np.int64)
    bucket[0] = 8
    bucket[(np.arange(240) * 4 + 3)] += 1
    own = {"nf_conntrack_acct": 1, "nf_conntrack_count": 4, "nf_conntrack_events": 2, "nf_conntrack_max": 10_000}

    def row(*values: object, entries: int, lost: int = 0) -> dict[str, object]:
        return {"values": list(values), "entries": entries, "new_per_s": 0.0, "lost": lost}

    return {
        "timeline": {
            "began": "2023-11-14T22:13:20.000000000Z",
            "width_s": 0.1,
            "bins": 51,
            "last_s": 0.0,
            "entries": [count + 4 for count in in_green],
            "entries_by_netns": {"8": in_green, "7": [4] * 51},
            "new": bins(),
            "gone": {"early_drop": bins(at_30=3)},
            "lost": {"table_full": bins(at_10=23)},
            "found_bad": {"invalid": bins(at_20=11)},
            "clash_resolved": bins(at_40=2),
        },
        "chains": {
            "buckets": 1024,
            "nodes": 248,
            "load_factor": 0.2421875,
            "max_chain": 8,
            "chain_limit_from": 50,
            "verdict": "even, as by a perfect hash: variance/mean 0.98, chi-square p 3.8e-09, longest chain p 2.4e-07",
            "histogram": {"0": 783, "1": 240, "2": 0, "3": 0, "4": 0, "5": 0, "6": 0, "7": 0, "8": 1},
            "expected": {
                **{"0": 803.747, "1": 194.657, "2": 23.572, "3": 1.903, "4": 0.115, "5": 0.006, "6": 0.0, "7": 0.0, "8": 0.0},
            },
            "cells": {"columns": 64, "longest": bucket.tolist(), "worst": list(range(1024)), "nodes": bucket.tolist()},
        },
        "groups": [
            {
                "by": ["src"],
                "groups": [
                    row("10.0.0.1", entries=4),
                    *(row(src, entries=1) for src in many(19)),
                    row("10.6.6.6", entries=0, lost=23),
                ],
                "not_grouped": 0,
            },
            {
                "by": ["dst", "dport", "proto"],
                "groups": [row("10.0.0.2", 53, "tcp", entries=124), row("10.0.0.2", 53, "udp", entries=0, lost=23)],
                "not_grouped": 0,
            },
            {"by": ["netns"], "groups": [row(8, entries=120, lost=23), row(7, entries=4)], "not_grouped": 0},
        ],
        "age_bounds_s": [0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0],
        "lifetimes": [{"proto": "udp", "protonum": 17, "reason": "early_drop", "counts": [0] * 8, "unknown": 3}],
        "namespaces": [
            {
                **{"netns": 8, "name": "green", "entries": 120, "limit": 120, "new": 0, "gone": 3, "lost": 23},
                "settings": own | {"nf_conntrack_max": 120, "nf_conntrack_count": 120},
            },
            {
                **{"netns": 7, "name": "blue", "entries": 4, "limit": 10_000, "new": 0, "gone": 0, "lost": 0},
                "settings": own,
            },
        ],
        "namespaces_not_shown": 0,
        "setting_defaults": {"nf_conntrack_acct": 0, "nf_conntrack_events": 2},
    }


def test_json_of_an_incident():
    assert document(reported()) == json.dumps({**INCIDENT_JSON, "figures": incident_figures()}, indent=2)


def test_a_verdict_says_who_owns_its_namespace_unless_it_is_the_host():
    pod, host = Owner(OwnerKind.POD, "<b>web-0", "8a", "c" * 64), Owner(OwnerKind.HOST)
    capture = incident()
    capture.owners = {NETNS: host, 8: pod}
    capture.follow()
    found = collect(capture, Request(), Stretch(1.0), invalid=True)
    owners = {row.evidence["netns"]: row.owner for row in found.verdicts if "netns" in row.evidence}
    assert owners[8] == "pod/<b>web-0" and set(owners) <= {NETNS, 8}
    text = "\n".join(report_lines(found))
    assert "netns=8  owner=pod/<b>web-0" in text and "owner=host" not in text
    body = "\n".join(page(found))
    assert "pod/&lt;b&gt;web-0" in body and "<b>web" not in body.partition("<script")[0]


def test_what_the_options_ask_for_is_what_is_reported():
    report = reported(limit=1, filter=Filter(netns=NETNS))
    assert [row.id for row in report.verdicts] == ["invalid_window"] and report.verdicts_not_shown == 1
    assert report.meta.netns == NETNS
    assert {row.id for row in report.not_judged} == {
        *("netns_share", "idle_established", "tracking_unneeded", "entries_unlisted"),
    }


def test_the_observation_begins_when_all_is_known_and_lasts_as_long_as_asked():
    capture, begun = incident(), []
    capture.follow()
    report = collect(capture, Request(), Stretch(0.5, lambda: begun.append(capture.now_ns())), invalid=False)
    assert begun == [capture.started.monotonic_ns]
    assert report.meta.duration_s == 0.5
    assert {row.why for row in report.not_judged if row.id == "entry_gone"} == {"invalid packets were not looked for"}


class Asked(ScriptedCapture):
    """While its namespaces are asked, packets are lost."""

    def namespaces(self, *what):
        assert self.ceased, "no event need be kept"
        self.held = events(Kind.DROP, entries(9), reason=DropReason.TABLE_FULL)
        return super().namespaces(*what)


def test_what_comes_while_the_namespaces_are_asked_is_no_part_of_the_report():
    capture = Asked(entries=entries(4))
    capture.follow()
    report = collect(capture, Request(), Stretch(5.0), invalid=True)
    assert report.meta.events_seen == 0 and "table_full" not in {row.id for row in report.verdicts}
