"""Where what lies in a dataset: TABLE/date=YYYY-MM-DD/host=HOST/RECORDING.parquet, Hive's partitions."""

from __future__ import annotations

import re
from datetime import date
from typing import NamedTuple

from ctobserve.clock import NS_PER_S, iso
from ctobserve.fleet.schema import TABLES

NS_PER_DAY = 86_400 * NS_PER_S
SUFFIX = ".parquet"
ID_DIGITS = 32
HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,127})")
_ID = re.compile(f"[0-9a-f]{{{ID_DIGITS}}}")


class Place(NamedTuple):
    """Of which table, day (UTC), host and recording a file is."""

    table: str
    day: str
    host: str
    recording: str

    @property
    def folders(self) -> tuple[str, str, str]:
        """Those that it lies in, below the dataset's."""
        return self.table, f"date={self.day}", f"host={self.host}"

    @property
    def name(self) -> str:
        """Its own."""
        return self.recording + SUFFIX


def host_name(text: str) -> str:
    """The same, where it can name a host in a path, a URL and SQL alike; raises ValueError."""
    if not HOST.fullmatch(text):
        raise ValueError(
            "is no name for a host; give 1 to 128 of the letters A to Z and a to z, digits, `.`, `-` and `_`, "
            "the first a letter, a digit or `_`"
        )
    return text


def day_of(wall_ns: int) -> str:
    """The UTC day of an instant, YYYY-MM-DD."""
    return iso(wall_ns)[:10]


def place_of(path: str) -> Place:
    """Of a path below the dataset, with `/` between its parts; raises ValueError, which says what is wrong."""
    parts = path.split("/")
    if len(parts) != 4:
        raise ValueError("lies where no file of a dataset does: TABLE/date=YYYY-MM-DD/host=HOST/RECORDING.parquet")
    table, day, host, name = parts
    if table not in TABLES:
        raise ValueError(f"is of none of the tables {', '.join(TABLES)}")
    place = Place(table, _after("date=", day), _after("host=", host), name.removesuffix(SUFFIX))
    _require_day(place.day)
    host_name(place.host)
    if not _ID.fullmatch(place.recording) or place.name != name:
        raise ValueError(f"has another name than {ID_DIGITS} hex digits and {SUFFIX}")
    return place


def _after(word: str, folder: str) -> str:
    if not folder.startswith(word):
        raise ValueError(f"lies in a folder whose name does not begin with {word}")
    return folder.removeprefix(word)


def _require_day(text: str) -> None:
    try:
        known = date.fromisoformat(text).isoformat() == text
    except ValueError:
        known = False
    if not known:
        raise ValueError("lies in a folder whose date is no day like 2026-11-26")
