"""ctobserve convert: a recording as tables for other programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import BinaryIO

import click

from ctobserve.capture.store.container import shown
from ctobserve.commands.dataset import HOST, add_to_dataset
from ctobserve.commands.help import DATASET, LOOK, OUTPUT, Command, Example, option
from ctobserve.commands.making import making
from ctobserve.commands.opening import out
from ctobserve.commands.progress import progress
from ctobserve.commands.replaying import reading
from ctobserve.commands.values import PATH, some_of
from ctobserve.documents.convert import TABLES, collect
from ctobserve.errors import UsageError
from ctobserve.host import files
from ctobserve.render.jsonlines import json_lines
from ctobserve.render.parquet import ParquetTable, libraries
from ctobserve.render.tables import COLUMNS, Batch, batches

STDOUT = Path("-")
Write = Callable[[Batch], None]


@click.command(
    cls=Command,
    examples=(
        Example("tables for DuckDB, Polars, pandas: incident/events.parquet and more", "ctobserve convert FILE incident"),
        Example("what many hosts recorded, side by side", "ctobserve convert FILE fleet --dataset --host web-1"),
    ),
)
@click.argument("path", type=PATH, metavar="FILE")
@click.argument("made", metavar="OUT")
@option(
    LOOK, "--tables", type=some_of(TABLES), metavar="LIST",
    help=f"Comma-separated: {', '.join(TABLES)}. Default: all.",
)  # fmt: skip
@option(
    DATASET, "--dataset", is_flag=True,
    help="Add FILE to the dataset OUT, a folder or a URL like s3://BUCKET/FOLDER: files by table, day and host.",
)  # fmt: skip
@option(
    DATASET, "--host", type=HOST, metavar="NAME",
    help="Name of the host that was recorded, which is not in FILE. Needed with --dataset.",
)  # fmt: skip
@option(
    DATASET, "--image", metavar="TEXT",
    help="What that host was installed from, to tell hosts before and after a change.",
)  # fmt: skip
@option(
    OUTPUT, "--format", "form", type=click.Choice(["parquet", "jsonl"]), metavar="FORM",
    help="parquet, which needs pyarrow, or jsonl: a line of JSON for each row. Default: parquet; jsonl where OUT is -.",
)  # fmt: skip
def convert(
    path: Path, made: str, tables: tuple[str, ...] | None, dataset: bool, host: str | None, image: str | None, form: str | None
) -> None:
    """Write the recording FILE as tables of flat columns into the new directory OUT, for other programs.

    Each event, each entry at each reading of the table, the kernel's counters, and facts. OUT - is stdout: lines of JSON.
    docs/recording.md has the columns. With --dataset OUT is where recordings of many hosts are kept: docs/fleet.md.
    """
    if dataset:
        add_to_dataset(path, made, _host_of(host, tables, form), image)
    elif host or image is not None:
        raise UsageError(f"--{'host' if host else 'image'} is of a dataset; give --dataset, or leave it out")
    else:
        _write(path, Path(made), tables or TABLES, form)


def _host_of(host: str | None, tables: tuple[str, ...] | None, form: str | None) -> str:
    """Raises UsageError where something is asked that a dataset does not have."""
    if tables or form:
        raise UsageError(f"a dataset has all tables as Parquet, so there is no use for --{'tables' if tables else 'format'}")
    if host is None:
        raise UsageError("a recording does not know what its host is called, and no guess may mix two of them; give --host NAME")
    return host


def _write(path: Path, made: Path, tables: tuple[str, ...], form: str | None) -> None:
    piped = made == STDOUT
    form = form or ("jsonl" if piped else "parquet")
    if piped and form != "jsonl":
        raise UsageError("OUT - takes lines of JSON alone; give --format jsonl, or the name of a directory")
    counts: Counter[str] = Counter()
    with reading(path) as reader, nullcontext(_untold) if piped else progress("converting") as tell:
        recorded = collect(reader, tables, tell)
        with nullcontext(_print) if piped else _directory(made, tables, form) as write:
            for batch in batches(recorded):
                write(batch)
                counts[batch.table] += batch.rows
    if not piped:
        out([f"{shown(made)}: {', '.join(f'{table} {counts[table]}' for table in tables)}"])


def _untold(_: float) -> None:
    """Who prints lines shows no bar."""


def _print(batch: Batch) -> None:
    out(json_lines(batch))


@contextmanager
def _directory(made: Path, tables: tuple[str, ...], form: str) -> Iterator[Write]:
    """Writes rows into files of a new directory. Raises UsageError where it cannot be made."""
    if form == "parquet":
        libraries(", or give --format jsonl")  # before anything is made
    with ExitStack() as opened:
        try:
            within = opened.enter_context(files.new_directory(made))
        except (OSError, ValueError) as error:
            why = (getattr(error, "strerror", None) or str(error)).lower()
            raise UsageError(f"{shown(made)}: {why}; OUT is a directory that does not exist yet, or -") from None
        opened.enter_context(making(made))
        writes: dict[str, Write] = {}
        for table in tables:
            file = opened.enter_context(files.new(f"{table}.{form}", within))
            if form == "parquet":
                writes[table] = opened.enter_context(closing(ParquetTable(COLUMNS[table], file))).write
            else:
                writes[table] = partial(_write_lines, file)
        yield lambda batch: writes[batch.table](batch)


def _write_lines(file: BinaryIO, batch: Batch) -> None:
    file.writelines(f"{line}\n".encode() for line in json_lines(batch))
