"""ctobserve fleet: what is typed, in which forms the answer comes, what is refused, and what damaged files do to it."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ctobserve.errors import by_pip
from ctobserve.fleet import duck
from ctobserve.fleet.asking import Days, wanted
from ctobserve.fleet.engine import Refused
from ctobserve.fleet.questions import QUESTIONS
from ctobserve.host import files
from tests.unit.fleets import Recorded, dataset
from tests.unit.typed import run

FIRST, LATER = "2024-10-04", "2024-10-05"
EVIL = "<script>alert(1)</script>\x1b[31m\u202e"
Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fleet(tmp_path) -> Path:
    lost = Recorded("a").drops(3, "table_full").judged("table_full", "critical", EVIL)
    return dataset(tmp_path / "fleet", lost, Recorded("b", hour=30).drops(2, "clash"))


@pytest.fixture
def typed(monkeypatch, capsys) -> Typed:
    """typed(words): exit code, stdout and stderr."""
    return lambda *words: run(monkeypatch, capsys, "fleet", *map(str, words))


@pytest.fixture
def own(tmp_path) -> Callable[[str], Path]:
    def made(sql: str) -> Path:
        path = tmp_path / "own.sql"
        path.write_text(sql)
        return path

    return made


def test_text_says_what_was_asked_of_what_and_the_rows_below_each_other(fleet, typed):
    code, out, err = typed("losses", fleet)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "Which hosts lost packets, why, and when? 2 rows of 2 hosts, 2 recordings, 2024-10-04T00:00:00Z to",
        "  2024-10-05T07:00:00Z",
        "",
        "HOST  REASON      PACKETS  NAMESPACES  HOURS  WORST_HOUR         IN_WORST_HOUR  FIRST_AT              LAST_AT",
        f"a     table_full        3           1      1  {FIRST}T00:00Z              3  {FIRST}T00:01:00Z  {FIRST}T00:01:00Z",
        f"b     clash             2           1      1  {LATER}T06:00Z              2  {LATER}T06:01:00Z  {LATER}T06:01:00Z",
        "",
    ]


def test_csv_has_the_rows_that_json_has(fleet, typed):
    found = json.loads(typed("losses", fleet, "--format", "json")[1])
    rows = list(csv.DictReader(typed("losses", fleet, "--format", "csv")[1].splitlines()))
    assert rows == [{name: str(value) for name, value in row.items()} for row in found["rows"]]
    assert [one["name"] for one in found["columns"]] == list(rows[0])


def test_json_says_what_was_asked_how_and_of_what(fleet, typed):
    found = json.loads(typed("losses", fleet, "--json", "--set", "least=3")[1])
    assert found["meta"]["command"] == "fleet" and found["meta"]["engine"].startswith("duckdb ")
    assert (found["question"], found["parameters"]) == ("losses", {"least": 3})
    assert (found["hosts"], found["recordings"], found["records_lost"]) == (2, 2, 0)
    assert (found["began"], found["ended"]) == ("2024-10-04T00:00:00.000000000Z", "2024-10-05T07:00:00.000000000Z")


@pytest.mark.parametrize("form", ["text", "json", "csv", "html"])
def test_what_others_wrote_is_shown_and_does_nothing(fleet, typed, form):
    code, out, _ = typed("verdicts", fleet, "--format", form)
    assert code == 0 and "alert(1)" in out
    assert not {"\x1b", "\u202e"} & set(out)
    assert form != "html" or "<script>alert" not in out


def test_a_page_has_the_chart_the_rows_and_the_sql(fleet, typed):
    _, out, _ = typed("losses", fleet, "--format", "html")
    (chart,) = re.findall(r'id="chart">(.*?)</script>', out)
    assert json.loads(chart) == {
        **{"kind": "bars", "x": "host", "y": "packets", "at": ["a", "b"]},
        **{"sorts": {"table_full": [3.0, 0.0], "clash": [0.0, 2.0]}, "left_out": 0},
    }
    assert '<th scope="row">a</th>' in out and "row_number() OVER" in out


def test_a_page_without_rows_has_no_chart(fleet, typed):
    _, out, _ = typed("settings", fleet, "--format", "html")
    assert 'id="chart">null</script>' in out and "no rows" in out and '<div class="chart"' not in out


def test_the_limit_says_that_there_is_more(fleet, typed):
    assert "There are more rows than these 1; give a larger --limit." in typed("losses", fleet, "--limit", "1")[1]
    assert json.loads(typed("losses", fleet, "--limit", "2", "--json")[1])["more_rows"] is False


@pytest.mark.parametrize(
    ("days", "hosts"),
    [
        (["--since", "2024-10-05"], ["b"]),
        (["--until", "2024-10-04"], ["a"]),
        (["--since", "2024-10-04", "--until", "2024-10-05"], ["a", "b"]),
        (["--since", "2024-10-06"], []),
    ],
)
def test_only_recordings_that_began_on_these_days_are_asked(fleet, typed, days, hosts):
    found = json.loads(typed("losses", fleet, "--json", *days)[1])
    assert ([row["host"] for row in found["rows"]], found["recordings"]) == (hosts, len(hosts))


def test_only_tables_that_the_question_names_are_looked_at(fleet):
    assert {table for table, those in wanted(str(fleet), "SELECT * FROM Events", Days()).files.items() if those} == {
        "recordings",
        "events",
    }


def test_sql_of_ones_own_has_the_tables_the_days_and_hosts_and_its_parameters(fleet, typed, own):
    query = own(
        'SELECT host, "date", reason AS "a\x1b[31mb", count(*) n, 1.5::DECIMAL(4,2) d FROM events WHERE reason = $r GROUP BY ALL;'
    )
    code, out, _ = typed("--sql", query, "--set", "r=clash", fleet, "--json")
    found = json.loads(out)
    assert (code, found["question"], found["says"]) == (0, "sql", "your own SQL, own.sql")
    assert found["rows"] == [{"host": "b", "date": "2024-10-05", "a\\x1b[31mb": "clash", "n": 2, "d": 1.5}]
    assert found["columns"][0] == {"name": "host", "says": None}
    _, out, _ = typed("--sql", query, "--set", "r=clash", fleet)
    assert out.startswith("your own SQL, own.sql: 1 row of 2 hosts, ")


def test_two_columns_of_one_name_are_two_and_no_number_is_unknown(fleet, typed, own):
    found = json.loads(
        typed("--sql", own("SELECT 1 AS a, 2 AS a, 'nan'::DOUBLE AS b, DATE '2024-10-04' AS c, true AS d"), fleet, "--json")[1]
    )
    assert found["rows"] == [{"a": 1, "a_2": 2, "b": None, "c": "2024-10-04", "d": True}]


REFUSED = {
    "SELECT * FROM '/etc/passwd'": "/etc/passwd",
    "SELECT * FROM read_csv('/etc/passwd')": "disabled by configuration",
    "SELECT * FROM glob('/etc/*')": "disabled by configuration",
    "SELECT * FROM read_text('/etc/passwd')": "disabled by configuration",
    "COPY (SELECT 1) TO '/tmp/out.csv'": "is not one query",
    "INSTALL httpfs": "is not one query",
    "LOAD httpfs": "is not one query",
    "ATTACH '/tmp/x.db'": "is not one query",
    "SET enable_external_access = true": "is not one query",
    "SELECT 1; SELECT 2": "is not one query",
    "CREATE TABLE x AS SELECT 1": "is not one query",
    "-- nothing": "is not one query",
    "SELECT * FROM found": "found does not exist",
    "SELEC 1": "syntax error",
    "SELECT nowhere FROM events": "nowhere",
    "SELECT $a": "has the parameters a, and was given none",
    "SELECT CAST('x' AS INT)": "x",
}


@pytest.mark.parametrize("sql", REFUSED)
def test_sql_reaches_nothing_but_the_dataset_and_what_is_wrong_is_one_line(fleet, typed, own, sql):
    code, out, err = typed("--sql", own(sql), fleet)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("ctobserve: ") and REFUSED[sql] in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nonsense", "DATASET"], "nonsense is no question; ask one of losses, "),
        (["losses"], "name its folder or URL"),
        (["losses", "/nowhere/at/all"], "/nowhere/at/all"),
        (["losses", "DATASET", "--sql", "x.sql"], "give one of them"),
        (["DATASET", "--sql", "/nowhere.sql"], "no such file"),
        (["DATASET", "--sql", "/dev/zero"], "is no regular file"),
        (["losses", "DATASET", "--set", "most=3"], "losses has no such parameter; it has least"),
        (["losses", "DATASET", "--set", "least=few"], "is no whole number; write it like least=1"),
        (["losses", "DATASET", "--set", "least=1.5"], "is no whole number"),
        (["full", "DATASET", "--set", "fit=good"], "is no number"),
        (["losses", "DATASET", "--set", "least"], "write it like least=100"),
        (["losses", "DATASET", "--since", "yesterday"], "write it like 2026-11-26"),
        (["losses", "DATASET", "--until", "2026-13-01"], "write it like 2026-11-26"),
        (["losses", "DATASET", "--master", "local"], "give --engine spark"),
        (["losses", "DATASET", "--engine", "spark", "--memory", "99"], "leave it out"),
        (["losses", "DATASET", "--memory", "1"], "--memory"),
        (["losses", "DATASET", "--json", "--format", "csv"], "--format csv"),
    ],
)
def test_what_cannot_be_is_one_line_that_says_what_to_do(fleet, typed, words, says):
    code, out, err = typed(*(fleet if word == "DATASET" else word for word in words))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err.lower() or says in err


def test_a_whole_number_will_do_for_a_real_one(fleet, typed):
    assert json.loads(typed("full", fleet, "--json", "--set", "fit=1")[1])["parameters"]["fit"] == 1.0


def damage(path: Path) -> None:
    """Rows that no longer can be unpacked, below a footer that is well."""
    content = bytearray(path.read_bytes())
    content[8 : len(content) // 3] = bytes(len(content) // 3 - 8)
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["losses", "clusters"])
def test_damaged_and_foreign_files_are_named_and_the_rest_answers(fleet, typed, name):
    (of_a,) = fleet.glob("events/*/host=a/*")
    damage(of_a)
    foreign = fleet / "events/date=2024-10-04/host=a/notes.txt"
    foreign.write_text("x")
    cut = fleet / "events/date=2024-10-04/host=c" / of_a.name
    cut.parent.mkdir()
    cut.write_bytes(of_a.read_bytes()[:100])
    found = json.loads(typed(name, fleet, "--json")[1])
    assert [row["reason"] for row in found["rows"]] == ["clash"]
    skipped = {one["path"]: one["why"] for one in found["skipped"]}
    assert skipped.keys() == {str(path.relative_to(fleet)) for path in (of_a, foreign, cut)}
    assert "is damaged" in skipped[str(of_a.relative_to(fleet))]
    text = typed(name, fleet)[1]
    assert text.count("skipped   events/") == 3


def test_a_damaged_file_that_is_not_asked_harms_nothing(fleet, typed):
    (of_a,) = fleet.glob("events/*/host=a/*")
    damage(of_a)
    assert json.loads(typed("verdicts", fleet, "--json")[1])["skipped"] == []


def test_too_little_memory_is_said(fleet, typed, own):
    greedy = own("SELECT max(x) FROM (SELECT list(a.range) x FROM range(100000000) a)")
    code, out, err = typed("--sql", greedy, fleet, "--memory", "64")
    assert (code, out) == (1, "") and "--memory" in err and err.count("\n") == 1


def test_nothing_is_left_and_nothing_lies_in_the_current_directory(fleet, typed, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    before = set(os.listdir("/var/tmp"))
    assert typed("losses", fleet)[0] == 0
    assert not os.listdir(here)
    assert not [name for name in set(os.listdir("/var/tmp")) - before if name.startswith("ctobserve.")]


def test_its_directory_is_ours_alone_while_it_is_there():
    with files.passing_directory() as path:
        assert os.stat(path).st_mode & 0o777 == 0o700
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    ("engine", "library", "install"),
    [("duckdb", "duckdb", by_pip("fleet")), ("spark", "pyspark", by_pip("spark"))],
)
def test_an_engine_that_is_not_installed_is_one_line(fleet, typed, monkeypatch, engine, library, install):
    monkeypatch.setitem(sys.modules, library, None)
    code, out, err = typed("losses", fleet, "--engine", engine)
    assert (code, out, err.count("\n")) == (3, "", 1) and install in err


def test_a_name_of_this_program_is_none_of_the_sql(fleet):
    """Python variables are within reach of DuckDB unless it is told otherwise."""
    found = wanted(str(fleet), "events", Days())
    reachable = found.files["events"]
    with duck.opened(found, 256) as engine, pytest.raises(Refused, match="reachable"):
        assert reachable and engine.ask("SELECT * FROM reachable", {}, 1)


def test_help_names_every_question(typed):
    _, out, _ = typed("--help")
    assert re.findall(r"(?m)^  (\w+) {2,}wh(?:at|ich|ere) ", out) == list(QUESTIONS)
