"""Each question finds what was planted, and nothing else; both engines answer the same SQL, DuckDB here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ctobserve.fleet.questions import QUESTIONS, question, statement
from tests.unit.fleets import Recorded, dataset
from tests.unit.typed import run

PAGE = Path(__file__).parents[2] / "docs/fleet.md"


@pytest.fixture
def ask(tmp_path, monkeypatch, capsys):
    """ask(question, recordings, options): the rows of the answer."""

    def asked(name: str, *recordings: Recorded, options: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        root = dataset(tmp_path / "fleet", *recordings)
        code, out, err = run(monkeypatch, capsys, "fleet", name, str(root), "--json", *options)
        assert (code, err) == (0, "")
        found = json.loads(out)
        assert found["skipped"] == []
        return found["rows"]

    return asked


def only(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


def test_losses_are_told_by_host_and_reason_with_their_worst_hour(ask):
    lost = Recorded("a", hours=3).drops(5, "table_full").drops(7, "table_full", at_s=7000, netns=2).drops(2, "clash", at_s=9)
    rows = ask("losses", lost, Recorded("b").drops(3, "clash"), Recorded("c").drops(9, "invalid").drops(1, "error"))
    assert only(rows, "host", "reason", "packets", "namespaces", "hours", "worst_hour", "in_worst_hour") == [
        ("a", "table_full", 12, 2, 2, "2024-10-04T01:00Z", 7),
        ("b", "clash", 3, 1, 1, "2024-10-04T00:00Z", 3),
        ("a", "clash", 2, 1, 1, "2024-10-04T00:00Z", 2),
    ]
    assert rows[0]["first_at"] == "2024-10-04T00:01:00.000000000Z"
    assert only(ask("losses", options=("--set", "least=3")), "host", "packets") == [("a", 12), ("b", 3)]


def test_what_two_recordings_of_one_boot_tell_counts_once(ask):
    """An incident's recording begins before the one that it follows has ended."""
    first, second = Recorded("a").drops(4, "clash", at_s=1800), Recorded("a", hour=0.25, hours=1)
    second.drops(4, "clash", at_s=900).drops(1, "clash", at_s=3000)
    assert only(ask("losses", first, second), "packets") == [(5,)]


def test_the_same_instant_of_two_boots_counts_twice(ask):
    one, other = Recorded("a").drops(4, "clash"), Recorded("a", boot="other").drops(4, "clash")
    assert only(ask("losses", one, other), "packets") == [(8,)]


def test_losses_cluster_where_no_longer_pause_is_between_them_on_whatever_hosts(ask):
    rows = ask(
        "clusters",
        Recorded("a").drops(10, "clash", at_s=100, apart_s=10).drops(1, "table_full", at_s=150),
        Recorded("b").drops(5, "clash", at_s=200, apart_s=10).drops(3, "clash", at_s=1000),
    )
    assert only(rows, "reason", "began_at", "seconds", "hosts", "packets", "first_host") == [
        ("clash", "2024-10-04T00:01:40.000000000Z", 140.0, 2, 15, "a"),
        ("clash", "2024-10-04T00:16:40.000000000Z", 0.0, 1, 3, "b"),
    ]
    assert only(ask("clusters", options=("--set", "hosts=2")), "packets") == [(15,)]
    assert only(ask("clusters", options=("--set", "pause_s=3600", "--set", "packets=1")), "packets") == [(18,), (1,)]


def test_a_source_that_fills_a_host_is_its_network(ask):
    full = Recorded("a").counts(400, limit=500)
    for last in range(4):
        full.holds(75, f"198.51.100.{last}").holds(10, f"10.0.{last}.1", number=9)
    full.holds(150, "198.51.100.1", number=9)
    calm = Recorded("b").counts(100_000).holds(150, "203.0.113.1")
    rows = ask("sources", full.holds(20, "192.0.2.1"), calm)
    names = "host", "netns_name", "source", "entries", "addresses", "percent_of_entries", "percent_of_limit", "readings"
    assert only(rows, *names) == [("a", "n1", "198.51.100.0/24", 300, 4, 93.8, 60.0, 2)]
    assert only(ask("sources", options=("--set", "of_limit=0")), "host") == [("a",), ("b",)]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:7::1", "2001:db8:0:7::/64"),
        ("2001:db8::2:3:4:5:6", "2001:db8:0:2::/64"),
        ("2001:0:0:1::", "2001:0:0:1::/64"),
        ("fe80::1", "fe80::/64"),
        ("::1", "::/64"),
        ("::", "::/64"),
        ("::2:3:4:5:6:7:8", "0:2:3:4::/64"),
        ("1:2:3:4:5:6:7::", "1:2:3:4::/64"),
    ],
)
def test_of_ipv6_a_source_is_its_64(ask, address, network):
    rows = ask("sources", Recorded("a").counts(1, limit=None).holds(100, address, l3="ipv6"), options=("--set", "of_limit=0"))
    assert only(rows, "source", "percent_of_limit") == [(network, None)]


def growing(host: str, *counts: int, limit: int = 1000, boot: str = "boot") -> list[Recorded]:
    return [Recorded(host, hour=at, boot=boot).counts(count, limit) for at, count in enumerate(counts)]


def test_a_host_will_be_full_at_its_growth_or_is(ask):
    rows = ask(
        "full",
        *growing("grows", 100, 205, 295, 400),
        *growing("slow", 10, 11, 12, 13),
        *growing("jumps", 10, 900, 10, 500, 10),
        *growing("shrinks", 900, 800, 700),
        *growing("unlimited", 100, 200, 300, limit=0),
        *growing("twice", 100, 400),
        Recorded("is-full").counts(1000),
    )
    assert only(rows, "host", "entries", "entries_limit", "per_hour", "hours_left", "readings") == [
        ("is-full", 1000, 1000, None, 0.0, 1),
        ("grows", 400, 1000, 99.0, 6.1, 4),
    ]


def test_growth_is_that_of_the_last_boot(ask):
    old = growing("a", 100, 500, 900)
    new = [Recorded("a", hour=3 + at, boot="new").counts(10) for at in range(4)]
    assert ask("full", *old, *new) == []


def test_a_namespace_that_is_gone_fills_no_more(ask):
    rows = growing("a", 100, 400, 700)
    for one in rows:
        one.counts(10, netns=2)
    assert only(ask("full", *rows, Recorded("a", hour=3).counts(10, netns=2)), "host") == []


def test_services_churn_whose_entries_come_all_the_time_and_soon_leave(ask):
    rows = ask(
        "churn",
        Recorded("a").came(4000, 443, lived_s=2).came(4000, 22, lived_s=500),
        Recorded("b").came(5000, 443, lived_s=2, dst="10.0.0.3").came(200, 80, lived_s=1),
        options=("--set", "per_s=1"),
    )
    names = "proto", "port", "hosts", "destinations", "new_entries", "new_per_s", "percent_short", "busiest_host", "on_busiest"
    assert only(rows, *names) == [("tcp", 443, 2, 2, 9000, 1.25, 100.0, "b", 5000)]
    slow = ask("churn", options=("--set", "per_s=1", "--set", "short_s=600"))
    assert only(slow, "port") == [(443,), (22,)]
    assert ask("churn") == []


def test_settings_that_few_hosts_have_are_told_beside_the_usual_ones(ask):
    usual = [
        Recorded(f"h{at:02}").has(nf_conntrack_max=1000, nf_conntrack_buckets=64 + at, nf_conntrack_count=at) for at in range(19)
    ]
    other = Recorded("odd").has(nf_conntrack_max=1000).has(at_s=50, nf_conntrack_max=7)
    rows = ask("settings", *usual, other, options=("--set", "rare=0.051"))
    assert [row for row in rows if row["name"] != "nf_conntrack_buckets"] == [
        {
            **{"host": "odd", "netns_name": "n1", "name": "nf_conntrack_max", "value": "7", "usual": "1000"},
            **{"hosts": 1, "hosts_usual": 19, "since_at": "2024-10-04T00:00:50.000000000Z"},
        }
    ]
    assert only(ask("settings", options=("--set", "rare=0.04")), "host") == []


def test_what_changed_after_another_kernel_or_image(ask):
    recorded = []
    for at in range(4):
        before = Recorded(f"h{at}", kernel="6.1", image="x").drops(1, "clash").came(10, 53).has(nf_conntrack_max=5)
        after = Recorded(f"h{at}", hour=1, boot="b", kernel="6.12", image="x").drops(at + 10, "clash").came(11, 53)
        recorded += [before, after.has(nf_conntrack_max=9).judged("clash_race")]
    same = [Recorded("same", hour=at).drops(at * 9, "clash") for at in range(3)]
    rows = ask("changes", *recorded, *same)
    names = "kernel_before", "kernel_after", "image_before", "image_after", "hosts", "what", "before", "after"
    assert only(rows, *names) == [
        ("6.1", "6.12", "x", "x", 4, "lost per day: clash", "24", "276"),
        ("6.1", "6.12", "x", "x", 4, "setting nf_conntrack_max", "5", "9"),
        ("6.1", "6.12", "x", "x", 4, "verdict clash_race", "0", "100"),
    ]


def test_another_image_is_a_change_as_well(ask):
    rows = ask("changes", Recorded("a", image=None), Recorded("a", hour=1, image="y").drops(9, "helper"))
    assert only(rows, "image_before", "image_after", "what") == [(None, "y", "lost per day: helper")]


def test_verdicts_are_told_by_the_hour_the_gravest_first(ask):
    given = [
        Recorded(f"h{at}", hour=13.5).judged("few_buckets", sentence=f"on {at}").judged("healthy", "healthy") for at in range(3)
    ]
    rows = ask("verdicts", *given, Recorded("h1", hour=13.7).judged("table_full", "critical").judged("acct_off", "notice"))
    assert only(rows, "hour", "severity", "id", "hosts", "recordings", "first_host", "sentence") == [
        ("2024-10-04T13:00Z", "critical", "table_full", 1, 1, "h1", "so it is"),
        ("2024-10-04T13:00Z", "warning", "few_buckets", 3, 3, "h0", "on 0"),
    ]
    mild = ask("verdicts", options=("--set", "severity=notice"))
    assert only(mild, "id") == [("table_full",), ("few_buckets",), ("acct_off",)]
    assert only(ask("verdicts", options=("--set", "severity=critical")), "id") == [("table_full",)]


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_of_no_rows_is_answered(ask, name):
    assert ask(name, Recorded("a")) == []


@pytest.mark.parametrize("name", QUESTIONS)
def test_its_head_says_all_of_a_question(name):
    asked = question(name)
    sql = re.sub("(?m)^--.*$", "", asked.sql)
    assert asked.says.endswith("?") and asked.more.endswith(".") and asked.chart
    assert [one.name for one in asked.parameters] == list(dict.fromkeys(one.name for one in asked.parameters))
    assert {one.name for one in asked.parameters} == set(re.findall(r"\$(\w+)", sql))
    assert {asked.chart.x, asked.chart.y, asked.chart.by} <= asked.columns.keys()


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_columns_it_says_are_those_of_the_answer(tmp_path, monkeypatch, capsys, name):
    root = dataset(tmp_path, Recorded("a"))
    _, out, _ = run(monkeypatch, capsys, "fleet", name, str(root), "--json")
    columns = json.loads(out)["columns"]
    assert [(one["name"], one["says"]) for one in columns] == list(question(name).columns.items())


def test_every_question_is_a_file_and_every_file_is_read():
    there = {path.stem for path in Path(statement.__code__.co_filename).with_name("sql").glob("*.sql")}
    assert there == {*QUESTIONS, "spans", "covered"}


def test_the_page_has_each_question_with_its_columns_and_parameters():
    (shown,) = re.findall(r"<!-- questions -->\n(.*?)<!-- end -->", PAGE.read_text(), re.S)
    rows = [
        (
            f"| {one.name} | {one.says} | {', '.join(f'`{name}`' for name in one.columns)} | "
            f"{', '.join(f'`{parameter.name}` = {parameter.default}' for parameter in one.parameters)} |"
        )
        for one in map(question, QUESTIONS)
    ]
    assert shown.splitlines()[2:] == rows


def test_the_page_has_the_view_that_counts_once():
    words = re.sub("(?m)^--.*$", "", statement("spans")).split()
    assert " ".join(words).replace("( ", "(") in " ".join(PAGE.read_text().split())
