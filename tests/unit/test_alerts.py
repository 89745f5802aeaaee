"""Alerts and recording rules: what promtool says of them, and what a name that somebody else chose can do in an annotation."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from ctobserve.event import DropReason
from tests.prometheus import program, said
from tests.unit.typed import COMMANDS

RULES = Path(__file__).parents[2] / "deploy/prometheus"
TESTS = sorted(RULES.glob("tests/*.yml"))
# The one way in which a namespace is named: as a plain word, or not at all.
GUARDED = (
    '{{ if match "^[A-Za-z0-9_.-]{1,64}(@[0-9a-f]{12})?([[][0-9]+[]])?(#[0-9]+)?$" $labels.netns }}'
    "{{ $labels.netns }}{{ else }}of label netns{{ end }}"
)
OURS = {"$labels.instance", "$labels.reason", "$labels.counter"}  # the site's own words, and ours


def rules(name, kind):
    return [rule for group in yaml.safe_load((RULES / name).read_text())["groups"] for rule in group["rules"] if kind in rule]


ALERTS = rules("alerts.yml", "alert")


@pytest.mark.parametrize("name", ["alerts.yml", "records.yml"])
def test_promtool_takes_the_rules(name):
    assert "SUCCESS" in said(str(program("promtool")), "check", "rules", str(RULES / name))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_promtool_finds_that_each_fires_and_resolves_when_it_should(path):
    assert "SUCCESS" in said(str(program("promtool")), "test", "rules", str(path))


def expected(path):
    """What a file expects of each alert, in the order of time within each test."""
    for one in yaml.safe_load(path.read_text())["tests"]:
        for check in one.get("alert_rule_test", []):
            yield one["name"], check["alertname"], int(check["eval_time"].removesuffix("m")), bool(check["exp_alerts"])


def test_each_alert_is_tested_silent_firing_and_resolved():
    names = {rule["alert"] for rule in ALERTS}
    resolved = set()
    for path in TESTS:
        by_test = {}
        for test, alert, minute, fires in expected(path):
            by_test.setdefault((test, alert), []).append((minute, fires))
        for (_, alert), told in by_test.items():
            fires = [fires for _, fires in sorted(told)]
            if fires[:1] == [False] and True in fires and fires[-1] is False:
                resolved.add(alert)
    assert resolved == names
    assert {alert for _, alert, _, fires in expected(RULES / "tests/healthy.yml") if not fires} == names


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_annotation_holds_no_name_of_somebody_else_but_as_a_plain_word(rule):
    summary, runbook = rule["annotations"]["summary"], rule["annotations"]["runbook"]
    assert "{{" not in runbook
    words = set(re.findall(r"\$labels\.\w+", summary.replace(GUARDED, "")))
    assert words <= OURS and "$labels[" not in summary
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert len(re.sub(r"{{.*?}}", "", summary)) < 220 and "\n" not in summary.strip()


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_a_runbook_names_commands_that_there_are(rule):
    named = re.findall(r"ctobserve ((?:\w+)(?: --[\w-]+(?: (?!--)[\w,]+)?)*)", rule["annotations"]["runbook"])
    assert named or "--ring-mib" in rule["annotations"]["runbook"]
    for line in named:
        name, *words = shlex.split(line)
        options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options


def test_every_reason_of_a_lost_packet_has_its_alert():
    (rest,) = [rule["expr"] for rule in ALERTS if rule["alert"] == "CtobservePacketsLost"]
    (others,) = re.findall(r'reason!~"([a-z_|]+)"', rest)
    own = {found for rule in ALERTS for found in re.findall(r'reason="(\w+)"', rule["expr"])}
    words = {reason.name.lower() for reason in DropReason}
    assert set(others.split("|")) == own | {"invalid", "error"}
    assert set(others.split("|")) <= words


def test_every_alert_has_its_row_in_the_page_with_its_severity():
    page = (RULES.parents[1] / "docs/always-on.md").read_text()
    rows = re.findall(r"^\| ((?:Ctobserve\w+(?:, )?)+) \| (\w+) \|", page, re.M)
    assert {(name, severity) for names, severity in rows for name in names.split(", ")} == {
        (rule["alert"], rule["labels"]["severity"]) for rule in ALERTS
    }
