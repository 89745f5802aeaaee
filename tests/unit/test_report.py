"""The incident report as people and programs get it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

from ctobserve.diagnosis import rules
from ctobserve.diagnosis.verdict import Severity
from ctobserve.documents.meta import meta_of
from ctobserve.documents.report import ReportDocument, VerdictRow, report_of
from ctobserve.documents.request import Request
from ctobserve.render.htmlout import page
from ctobserve.render.jsonout import document
from ctobserve.render.report import report_lines
from tests.scripted import ScriptedCapture
from tests.unit.tables import NETNS, evidence, namespace, tcp

GOLDEN = """\
CRITICAL  table_full: the table of blue is full: 23 packets of new connections refused in 5.0 s
          (4.6 per s); it holds 14 of 14 entries, 14 of them assured, which early drop never takes
            netns=7  packets=23  packets_per_s=4.6  packets_elsewhere=0  entries=14  limit=14
            entries_assured=14  kernel_drop=-
          $ sysctl -w net.netfilter.nf_conntrack_max=32
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
not judged: tracking_unneeded: no namespace has entries enough to ask for its rules
not judged: unseen: the kernel's counters could not be read in any namespace
"""
META = meta_of("report", ScriptedCapture(), Request())


def judged(limit: int | None = None) -> ReportDocument:
    settings = {"nf_conntrack_count": 14, "nf_conntrack_max": 14, "nf_conntrack_acct": 0}
    blue = namespace(init=False, prefix=("ip", "netns", "exec", "blue"), **settings)
    made = evidence(tcp(14), namespaces={NETNS: blue}, drops={"table_full": 23}, init=namespace(1, "init"))
    return report_of(META, rules.judge(replace(made, invalid=False)), limit)


def test_text():
    lines = list(report_lines(judged()))
    assert "\n".join(lines) + "\n" == GOLDEN
    assert all(len(line) < 100 for line in lines)


def test_a_sentence_is_shown_whole_whatever_it_begins_with():
    """As that of a namespace whose only process is called like a rule."""
    row = VerdictRow("early_drop", Severity.WARNING, "early_drop: [1] runs at its limit", {}, ())
    (line, *_) = report_lines(ReportDocument(META, (row,), 0, ()))
    assert line == "WARNING   early_drop: early_drop: [1] runs at its limit"


def test_what_the_limit_leaves_out_is_counted():
    report = judged(1)
    assert [row.id for row in report.verdicts] == ["table_full"] and report.verdicts_not_shown == 2
    assert "... and 2 more verdicts (--limit)" in list(report_lines(report))
    assert "... and 2 more verdicts" in "\n".join(page(report))
    assert not any("--limit)" in line for line in report_lines(judged()))


def test_json():
    body = json.loads(document(judged()))
    assert list(body) == ["meta", "verdicts", "verdicts_not_shown", "not_judged"]
    assert [list(row) for row in body["verdicts"]] == [["id", "severity", "sentence", "evidence", "do"]] * 3
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
    assert not re.search(r"<script", "\n".join(page(report)))
