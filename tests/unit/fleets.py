"""Small datasets, made row by row: what is not said of a row is unknown."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from ctobserve.clock import NS_PER_S, iso
from ctobserve.fleet.layout import ID_DIGITS, Place, day_of
from ctobserve.fleet.schema import COLUMNS, EVENTS, NAMESPACES, RECORDINGS, SETTINGS, SNAPSHOTS, VERDICTS, time_at, told
from ctobserve.render.parquet import ParquetTable, schema_of

DAY_NS = 86_400 * NS_PER_S
BEGAN_NS = 20_000 * DAY_NS  # 2024-10-04T00:00:00Z
MINUTE_NS, HOUR_NS = 60 * NS_PER_S, 3600 * NS_PER_S
Row = dict[str, Any]


class Recorded:
    """One recording of a host, hour by hour: rows are added by what they are; `at_s` counts from its begin."""

    def __init__(
        self, host: str, hour: float = 0, hours: float = 1, boot: str = "boot", kernel: str = "6.1", **more: Any
    ) -> None:
        self.host = host
        self.began_ns = BEGAN_NS + round(hour * HOUR_NS)
        ended_ns = self.began_ns + round(hours * HOUR_NS)
        self.name = hashlib.sha256(repr((host, hour, hours, boot)).encode()).hexdigest()[:ID_DIGITS]
        self._common = {"recording": self.name, "boot_id": boot, "kernel": kernel}
        self.rows: list[tuple[str, Row]] = []
        self._add(RECORDINGS, {"began_wall_ns": self.began_ns, "ended_wall_ns": ended_ns, "records_lost": 0, **more})

    def _add(self, table: str, row: Row) -> Recorded:
        self.rows.append((table, self._common | row))
        return self

    def _at(self, table: str, at_s: float, row: Row) -> Recorded:
        wall_ns = self.began_ns + round(at_s * NS_PER_S)
        return self._add(table, {"ts": iso(wall_ns), "wall_ns": wall_ns, "monotonic_ns": wall_ns - BEGAN_NS} | row)

    def drops(self, count: int, reason: str, at_s: float = 60, apart_s: float = 0.01, netns: int = 1) -> Recorded:
        for number in range(count):
            self._at(EVENTS, at_s + number * apart_s, {"event": "drop", "reason": reason, "netns": netns})
        return self

    def came(self, count: int, port: int, lived_s: float | None = None, dst: str = "10.0.0.2", proto: str = "tcp") -> Recorded:
        """New entries of a service, over the first half hour; with `lived_s` each leaves so long after."""
        tuple_ = {"proto": proto, "original.dst": dst, "original.dport": port, "netns": 1}
        for number in range(count):
            at_s = 1 + number * 1800 / count
            self._at(EVENTS, at_s, {"event": "insert", **tuple_})
            if lived_s is not None:
                self._at(EVENTS, at_s + lived_s, {"event": "destroy", "reason": "timeout", "age_s": lived_s, **tuple_})
        return self

    def holds(self, count: int, src: str, number: int = 1, netns: int = 1, l3: str = "ipv4") -> Recorded:
        for _ in range(count):
            self._at(
                SNAPSHOTS, number, {"number": number, "netns": netns, "netns_name": f"n{netns}", "l3": l3, "original.src": src}
            )
        return self

    def counts(self, entries: int, limit: int | None = 1000, at_s: float = 1, netns: int = 1) -> Recorded:
        return self._at(NAMESPACES, at_s, {"netns": netns, "netns_name": f"n{netns}", "entries": entries, "entries_limit": limit})

    def has(self, at_s: float = 1, netns: int = 1, **settings: int) -> Recorded:
        for name, value in settings.items():
            self._at(SETTINGS, at_s, {"netns": netns, "netns_name": f"n{netns}", "name": name, "value": str(value)})
        return self

    def judged(self, rule: str, severity: str = "warning", sentence: str = "so it is") -> Recorded:
        return self._add(
            VERDICTS,
            {"from_wall_ns": self.began_ns, "to_wall_ns": self.began_ns, "id": rule, "severity": severity, "sentence": sentence},
        )


def dataset(root: Path, *recordings: Recorded) -> Path:
    for one in recordings:
        for table, rows in groupby(sorted(one.rows, key=lambda row: row[0]), key=lambda row: row[0]):
            write(root, one.host, one.name, table, [row for _, row in rows])
    return root


def write(root: Path, host: str, recording: str, table: str, rows: Iterable[Row]) -> None:
    """Into a file for each day, as the product writes them."""
    time = COLUMNS[table][time_at(table)].name
    of_days: dict[str, list[Row]] = {}
    for row in rows:
        of_days.setdefault(day_of(row[time]), []).append(row)
    for day, those in of_days.items():
        place = Place(table, day, host, recording)
        path = root.joinpath(*place.folders, place.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(table, those))


def content(table: str, rows: list[Row]) -> bytes:
    made = BytesIO()
    file = ParquetTable(COLUMNS[table], made, told(table))
    schema = schema_of(COLUMNS[table])
    file.add(pa.Table.from_pylist(rows, schema))
    file.close()
    return made.getvalue()
