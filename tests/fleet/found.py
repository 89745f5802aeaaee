"""Whether the questions found exactly what was planted in a generated fleet, and nothing else."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ctobserve.documents.fleet import Answer
from ctobserve.fleet.engine import Engine
from ctobserve.fleet.questions import QUESTIONS, chosen, question

Rows = list[dict[str, Any]]
Said = Mapping[str, Any]
MOST = 100_000
LASTS_S = 15  # from the begin of a recording to its last row, and more


def answers(engine: Engine) -> dict[str, Answer]:
    """Of all questions, with their defaults."""
    asked = {name: question(name) for name in QUESTIONS}
    return {name: engine.ask(one.sql, chosen(one, {}), MOST) for name, one in asked.items()}


def check(said: Said, found: Mapping[str, Answer]) -> None:
    """`said` is what the generator gave."""
    rows = {name: [dict(zip(one.columns, row, strict=True)) for row in one.rows] for name, one in found.items()}
    planted = said["planted"]
    lost = {(host, reason, count) for host, reasons in said["lost"].items() for reason, count in reasons.items()}
    assert some(rows["losses"], "host", "reason", "packets") == Counter(lost)
    check_clusters(rows["clusters"], planted)
    abusive = planted["abusive_source"]
    assert some(rows["sources"], "host", "source") == Counter((host, abusive["network"]) for host in abusive["hosts"])
    growing = planted["growing"]
    assert {row["host"] for row in rows["full"]} == set(growing["hosts"])
    assert all(0 < row["hours_left"] <= 24 and row["entries"] == growing["entries"][-1] for row in rows["full"])
    service = planted["churning_service"]
    assert some(rows["churn"], "port", "hosts", "destinations") == Counter([(9200, len(service["hosts"]), 1)])
    check_settings(rows["settings"], planted["small_hash"])
    check_changes(rows["changes"], planted)
    given: Counter[str] = Counter()
    for verdicts in said["verdicts"].values():
        given.update(verdicts)
    del given["healthy"]
    assert sums(rows["verdicts"], "id", "recordings") == given


def check_clusters(rows: Rows, planted: Said) -> None:
    """One for each time at which hosts were hit together."""
    expected = []
    for cause in (planted["abusive_source"], planted["resolver_race"]):
        ((reason, each),) = cause["lost_each"].items()
        expected += [(reason, one["recordings"], one["recordings"] * each, one) for one in cause["begun"]]
    assert some(rows, "reason", "hosts", "packets") == Counter(one[:3] for one in expected)
    for row in rows:
        assert [
            one
            for reason, _, _, one in expected
            if reason == row["reason"] and one["from"] <= row["began_at"] and after_s(one["to"], row["ended_at"]) < LASTS_S
        ]


def check_settings(rows: Rows, planted: Said) -> None:
    assert {row["host"] for row in rows} == set(planted["hosts"])
    assert set(some(rows, "name", "value", "usual")) == {(planted["setting"], planted["value"], planted["others"])}


def check_changes(rows: Rows, planted: Said) -> None:
    """The new image brings the race: that is lost packets, their verdict, and the entries that raced."""
    image, hosts = planted["image"], len(planted["image"]["hosts"])
    assert set(some(rows, "kernel_before", "kernel_after", "image_before", "image_after", "hosts")) == {
        (*image["kernel"], *image["image"], hosts)
    }
    became = {row["what"]: (int(row["before"]), int(row["after"])) for row in rows}
    assert became.keys() - {"new entries per day"} == {"lost per day: clash", "verdict clash_race"}
    assert became["lost per day: clash"][0] == 0 < became["lost per day: clash"][1]
    assert became["verdict clash_race"] == (0, 100)


def some(rows: Rows, *names: str) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(row[name] for name in names) for row in rows)


def sums(rows: Rows, by: str, of: str) -> Counter[str]:
    found: dict[str, int] = defaultdict(int)
    for row in rows:
        found[row[by]] += row[of]
    return Counter(found)


def after_s(first: str, later: str) -> float:
    return (instant(later) - instant(first)).total_seconds()


def instant(text: str) -> datetime:
    return datetime.fromisoformat(f"{text[:26]}+00:00")


def differences(one: Mapping[str, Answer], other: Mapping[str, Answer]) -> Sequence[str]:
    """Rows that two engines do not give alike."""
    return [
        f"{name}: {first} {second}"
        for name in QUESTIONS
        for first, second in zip(
            [one[name].columns, *one[name].rows, len(one[name].rows)],
            [other[name].columns, *other[name].rows, len(other[name].rows)],
            strict=False,
        )
        if first != second
    ]
