"""The files of a dataset: those that can be asked, and those that cannot, each with why. Nothing else looks for files there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from ctobserve.capture.store.container import SHOWN_CHARACTERS
from ctobserve.errors import UsageError
from ctobserve.fleet import storage
from ctobserve.fleet.footer import Footers, NotOurs
from ctobserve.fleet.layout import Place, place_of
from ctobserve.fleet.remote import infos
from ctobserve.fleet.schema import RECORDINGS, TABLES
from ctobserve.model import printable
from ctobserve.render.parquet import libraries

HIDDEN = (".", "_")  # who writes keeps such names to himself: here as in Hive and Spark


class File(NamedTuple):
    """One that can be asked. `path` is what `system` of its Listing opens."""

    place: Place
    path: str
    rows: int
    bytes: int


class Skipped(NamedTuple):
    """One that cannot: its path below the dataset, as a terminal can show it, and why."""

    path: str
    why: str


class Listing(NamedTuple):
    """`system` is a file system of pyarrow's, `files` are by table, in the order of their days, hosts and recordings."""

    system: Any
    files: Mapping[str, tuple[File, ...]]
    skipped: tuple[Skipped, ...]


def everything(_: Place) -> bool:
    """All days and hosts."""
    return True


def listing(dataset: str, tables: Collection[str], wanted: Callable[[Place], bool] = everything) -> Listing:
    """Files of these tables that are `wanted`. Of a recording that has none in `recordings` not all is there: none is taken.

    Raises UsageError where there is no dataset, KernelLacks without pyarrow.
    """
    libraries()
    system, base = storage.located(dataset)
    skipped: list[Skipped] = []
    found: dict[Place, tuple[str, int]] = {}
    try:
        for below, size in _below(system, base, {RECORDINGS, *tables}):
            try:
                place = place_of(below)
                found[place] = f"{base}/{below}", _size(size)
            except ValueError as error:
                skipped.append(_skipped(below, error))
    except (OSError, ValueError) as error:
        raise UsageError(f"{storage.shown(dataset)}: {storage.why(error)}") from None
    whole = {(place.host, place.recording) for place in found if place.table == RECORDINGS}
    if not whole:
        raise UsageError(f"{storage.shown(dataset)} has no recordings; `ctobserve convert FILE OUT --dataset` puts some there")
    footers = Footers(system)
    files: dict[str, list[File]] = {table: [] for table in tables}
    for place, (path, size) in sorted(found.items()):
        if place.table in files and wanted(place):
            try:
                if (place.host, place.recording) not in whole:
                    raise NotOurs("not all of its recording is there; give `ctobserve convert` that recording again")
                files[place.table].append(File(place, path, footers.rows(place, path), size))
            except NotOurs as error:
                skipped.append(_skipped("/".join((*place.folders, place.name)), error))
    return Listing(system, {table: tuple(those) for table, those in files.items()}, tuple(skipped))


def _below(system: Any, base: str, tables: Collection[str]) -> Iterator[tuple[str, int | None]]:
    """Path in the dataset and bytes (None: it is no file) of what is in it: of other tables nothing, nor what is hidden."""
    for one in infos(system, base, recursive=False):
        name = one.base_name
        if name.startswith(HIDDEN) or name in set(TABLES) - set(tables):
            continue
        if name not in tables:
            yield name, one.size
            continue
        for file in infos(system, one.path, recursive=True):
            below = file.path.removeprefix(base).lstrip("/")
            if file.type.name != "Directory" and not any(part.startswith(HIDDEN) for part in below.split("/")):
                yield below, file.size


def _size(known: int | None) -> int:
    """Raises ValueError: a pipe would be waited for."""
    if known is None:
        raise ValueError("is no regular file")
    return known


def _skipped(path: str, why: ValueError) -> Skipped:
    return Skipped(printable(path, SHOWN_CHARACTERS), str(why))
