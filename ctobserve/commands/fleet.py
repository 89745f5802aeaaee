"""ctobserve fleet: one question to the recordings of many hosts."""

from __future__ import annotations

import re
from datetime import date
from functools import partial
from pathlib import Path

import click

from ctobserve.commands.help import DATASET, ENGINE, LOOK, OUTPUT, Command, Example, option
from ctobserve.commands.opening import Stop, out
from ctobserve.commands.options import JSON, chosen_form, limit_to, options_of
from ctobserve.commands.values import PATH, Value, whole
from ctobserve.documents.fleet import FleetDocument, Question, collect
from ctobserve.documents.request import Request
from ctobserve.errors import UsageError
from ctobserve.fleet import duck, spark, storage
from ctobserve.fleet.asking import Days, ask, wanted
from ctobserve.fleet.questions import QUESTIONS, chosen, own, question
from ctobserve.model import printable
from ctobserve.render.fleet import fleet_csv, fleet_lines
from ctobserve.render.fleet_page import fleet_page
from ctobserve.render.jsonout import document

LINES, MEMORY_MIB = 1000, 2048
SETTING = re.compile(r"(\w{1,64})=(.{0,1000})", re.DOTALL)


def _day(text: str) -> str:
    try:
        if date.fromisoformat(text).isoformat() == text:
            return text
    except ValueError:
        pass
    raise ValueError("is no day; write it like 2026-11-26")


def _setting(text: str) -> tuple[str, str]:
    found = SETTING.fullmatch(text)
    if not found:
        raise ValueError("sets nothing; write it like least=100")
    return found[1], found[2]


@click.command(
    cls=Command,
    examples=(
        Example("which hosts lost packets, why, and when", "ctobserve fleet losses /srv/fleet"),
        Example(
            "a page on what fills up since Monday",
            "ctobserve fleet full /srv/fleet --since 2026-11-23 --format html > full.html",
        ),
    ),
)
@click.argument("first", metavar="[QUESTION]")
@click.argument("second", required=False, metavar="DATASET")
@option(
    LOOK, "--set", "given", type=Value(_setting), multiple=True, metavar="NAME=VALUE",
    help="Another value of a parameter of the question (docs/fleet.md). Repeatable.",
)  # fmt: skip
@option(LOOK, "--sql", type=PATH, metavar="FILE", help="In place of a QUESTION: a query of your own.")
@option(
    DATASET, "--since", "first_day", type=Value(_day), metavar="DAY", help="Recordings that began on that day (UTC) or later."
)
@option(DATASET, "--until", "last_day", type=Value(_day), metavar="DAY", help="Recordings that began on that day or earlier.")
@option(
    ENGINE, "--engine", type=click.Choice(["duckdb", "spark"]), default="duckdb", metavar="NAME",
    help="duckdb, in this process, or spark, by PySpark. Default: duckdb.",
)  # fmt: skip
@option(
    ENGINE, "--memory", type=whole(64), metavar="MIB",
    help=f"What duckdb may take before it writes to disk, in /var/tmp. Default: {MEMORY_MIB}.",
)  # fmt: skip
@option(
    ENGINE, "--master", metavar="URL",
    help=f"Where spark runs: local[*], spark://HOST:PORT, yarn. Default: {spark.MASTER}: here, on all CPUs.",
)  # fmt: skip
@option(
    OUTPUT, "--format", "form", type=click.Choice(["text", "json", "csv", "html"]), metavar="FORM",
    help="text, json, csv, or html: one page that stands alone. Default: text.",
)  # fmt: skip
@options_of(limit_to(f"Show at most N rows. Default: {LINES}."), JSON)
def fleet(
    request: Request,
    first: str,
    second: str | None,
    given: tuple[tuple[str, str], ...],
    sql: Path | None,
    first_day: str | None,
    last_day: str | None,
    engine: str,
    memory: int | None,
    master: str | None,
    form: str | None,
) -> None:
    """One question to all hosts whose recordings `ctobserve convert --dataset` has put into DATASET, a folder or a URL.

    \b
    losses    which hosts lost packets, why, and when
    clusters  where losses cluster in time
    sources   which sources fill which hosts
    full      which hosts will be full within a day, at their growth
    churn     which services have new entries all the time
    settings  which hosts have other settings than the rest
    changes   what changed after another kernel or image
    verdicts  which verdicts were given, on how many hosts, over time

    docs/fleet.md has their parameters and columns. Damaged and foreign files are named and skipped. Needs no root.
    """
    Stop()  # SIGTERM too lets an engine remove what it wrote
    form = chosen_form(request, form, "text")
    asked, dataset = _asked(first, second, sql)
    values = chosen(asked, dict(given))
    found = wanted(dataset, asked.sql, Days(first_day, last_day))
    if engine == "spark":
        if memory is not None:
            raise UsageError("--memory is of duckdb; leave it out with --engine spark")
        opened = partial(spark.opened, master=master or spark.MASTER)
        answered = ask(found, opened, asked, values, _most(request))
    else:
        if master is not None:
            raise UsageError("--master is of spark; give --engine spark with it")
        answered = ask(found, partial(duck.opened, memory_mib=memory or MEMORY_MIB), asked, values, _most(request))
    told = collect(
        asked,
        values,
        answered.answer,
        answered.covered,
        engine=answered.engine,
        dataset=storage.shown(dataset),
        skipped=answered.skipped,
    )
    _show(told, asked, form)


def _asked(first: str, second: str | None, sql: Path | None) -> tuple[Question, str]:
    """What is asked, and of which dataset."""
    if sql is not None:
        if second is not None:
            raise UsageError("--sql is asked in place of a QUESTION; give one of them, and the DATASET")
        return own(sql), first
    if first not in QUESTIONS:
        raise UsageError(f"{printable(first)} is no question; ask one of {', '.join(QUESTIONS)}, or give --sql FILE")
    if second is None:
        raise UsageError(f"{first} is asked of a dataset; name its folder or URL: ctobserve fleet {first} DATASET")
    return question(first), second


def _most(request: Request) -> int:
    return LINES if request.limit is None else request.limit


def _show(told: FleetDocument, asked: Question, form: str) -> None:
    if form == "json":
        out([document(told)])
    elif form == "csv":
        out(fleet_csv(told))
    else:
        out(fleet_page(told, asked) if form == "html" else fleet_lines(told))
