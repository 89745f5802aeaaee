"""The report's page and its text say what its document says: leaf by leaf."""

from __future__ import annotations

import html
import json
import re
from dataclasses import fields, replace

from ctobserve.diagnosis.verdict import Severity
from ctobserve.documents.report import ReportDocument
from ctobserve.documents.verdicts import NotJudged, VerdictRow
from ctobserve.render.htmlout import page
from ctobserve.render.jsonout import document
from ctobserve.render.report import report_lines, shown
from tests.unit.pictured import figures
from tests.unit.test_summary import META as TOLD

META = replace(TOLD, netns_names={"4026531840": "init", "77": "blue<b>&"})
EVIDENCE = {"netns": 77, "share": 0.123456, "packets": None, "ports": [53, 54], "rate_per_s": 0.00012}
VERDICT = VerdictRow(
    "table_full",
    Severity.CRITICAL,
    "the table of <blue> is full",
    EVIDENCE,
    ("ctobserve drops", "sysctl -w net.netfilter.nf_conntrack_max=32", "echo '<&>'"),
    (True, False, False),
    "pod/<web>",
)
FIGURES = figures()
REPORT = ReportDocument(META, (VERDICT,), 0, (NotJudged("scan", "no table was read"),), FIGURES)


def test_health_is_said_before_what_is_merely_worth_knowing():
    names = {"early_drop": Severity.WARNING, "acct_off": Severity.NOTICE, "healthy": Severity.HEALTHY}
    rows = tuple(replace(VERDICT, id=name, severity=severity) for name, severity in names.items())
    found = ReportDocument(META, rows, 0, (), FIGURES)
    said = ["early_drop", "healthy", "acct_off"]
    assert re.findall(r"^[A-Z]+ +(\w+):", "\n".join(report_lines(found)), re.M) == said
    assert re.findall(r"<h2>[A-Z]+: (\w+)<", "\n".join(page(found))) == said


def leaves(value):
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in leaves(part)]
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, list) else [value]


def test_the_page_says_all_that_the_document_says():
    made = "\n".join(page(REPORT))
    told = html.unescape(re.sub(r"<[^>]*>", "\n", made.partition("</head>")[2]))
    for leaf in leaves(json.loads(document(REPORT))):
        assert shown(leaf) in told or leaf in (True, False) or (leaf == "critical" and "CRITICAL: table_full" in told), leaf
    for name in (*(one.name for one in fields(META)), *META.netns_names, *META.lost_by_kind, *EVIDENCE):
        assert name in told, name
    assert "<b>" not in made.partition("</head>")[2]
    assert ":</p>\n<pre>ctobserve drops</pre>\n<p>To change:</p>\n<pre>sysctl" in made


def test_the_report_as_text_says_all_that_it_rests_on():
    text = "\n".join(report_lines(REPORT))
    for part in (VERDICT.sentence, VERDICT.id, "CRITICAL", *VERDICT.do, "scan", "no table was read"):
        assert part in text
    assert "\n          look: ctobserve drops\n          $ sysctl" in text
    for name, value in EVIDENCE.items():
        assert f"{name}={shown(value)}" in text
