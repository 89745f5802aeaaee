"""A recording as tables, and the same as those of another host at another time: addresses, ports, times, counters, boots.

Addresses are exchanged as `ctobserve anonymise` does, prefixes kept, but for those that were planted; verdicts say the others.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ctobserve.capture.anonymous.addresses import Addresses
from ctobserve.capture.anonymous.key import Key
from ctobserve.capture.store.joined import opened
from ctobserve.fleet.rows import Source, about, converted, judged, told
from ctobserve.fleet.schema import COLUMNS, COUNTERS, EVENTS, RECORDINGS, TABLES, VERDICTS
from ctobserve.render.parquet import schema_of
from ctobserve.render.tables import COUNTER_NAMES
from tests.fleet.kinds import Make
from tests.fleet.real import FIRST_PORT, LAST_PORT
from tests.scripted import CLOCK
from tests.unit.recordings import record

PORTS = LAST_PORT - FIRST_PORT
ADDRESS = re.compile(r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3})(?::(\d{1,5}))?(?![\w])")
SCHEMAS = {table: schema_of(COLUMNS[table]) for table in TABLES}
Tables = Mapping[str, pa.Table]


@dataclass(frozen=True)
class Prepared:
    """A recording of one kind: rows by table, packets lost by reason, and the gains of each counter, in the order of its rows."""

    tables: Tables
    lost: Mapping[str, int]
    gained: Mapping[str, Any]


@dataclass
class Identity:
    """A host from one boot to the next. `counted` is where its counters stand, `booted_ns` when it was, of the wall clock."""

    boot: str
    kernel: str
    image: str
    booted_ns: int
    addresses: Addresses
    planted: Mapping[str, str]
    port_step: int
    counted: dict[str, Any]

    def address(self, text: str) -> str:
        return self.planted.get(text) or str(self.addresses.one(ip_address(text)))

    def port(self, port: int) -> int:
        return (port - FIRST_PORT + self.port_step) % PORTS + FIRST_PORT if FIRST_PORT <= port < LAST_PORT else port

    def text(self, text: str) -> str:
        def other(found: re.Match[str]) -> str:
            return self.address(found[1]) + (f":{self.port(int(found[2]))}" if found[2] else "")

        return ADDRESS.sub(other, text)

    def evidence(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: self.evidence(part, name) for name, part in value.items()}
        if isinstance(value, list):
            return [self.evidence(part, key) for part in value]
        if isinstance(value, str):
            return self.text(value)
        return self.port(value) if type(value) is int and key.endswith("port") else value


def key_of(text: str) -> Key:
    return Key(text.encode().ljust(16, b"."))


def prepare(make: Make, path: Path) -> Prepared:
    """Recorded, converted and judged."""
    record(make(), path)
    made: dict[str, list[pa.Table]] = {table: [] for table in TABLES}
    with closing(opened(path)) as recording, closing(opened(path)) as again:
        source = Source(recording, "")
        batches = [*converted(source, lambda _: None), *told(source), *judged(Source(again, ""), lambda _: None)]
        events = sum(batch.rows for batch in batches if batch.table == EVENTS)
        for batch in [*batches, *about(source, None, events, recording.damaged)]:
            schema = SCHEMAS[batch.table]
            columns = [
                pa.nulls(batch.rows, one.type) if values is None else pa.array(values, one.type)
                for one, values in zip(schema, batch.values, strict=True)
            ]
            made[batch.table].append(pa.Table.from_arrays(columns, schema=schema))
    tables = {table: pa.concat_tables(parts).combine_chunks() for table, parts in made.items() if parts}
    counters = tables[COUNTERS]
    half = len(counters) // 2  # read at the begin and at the end, each place in the same order
    columns = {name: counters[name].combine_chunks() for name in COUNTER_NAMES}
    gained = {name: pc.subtract(column[half:], column[:half]) for name, column in columns.items()}
    return Prepared(tables, lost_in(tables[EVENTS]), gained)


def lost_in(events: pa.Table) -> dict[str, int]:
    return dict(Counter(events.filter(pc.equal(events["event"], "drop"))["reason"].to_pylist()))


def of_host(prepared: Prepared, host: Identity, recording: str, at_wall_ns: int) -> dict[str, pa.Table]:
    """That recording as one of this host, begun at this time."""
    made = {table: _permuted(table, rows, host, recording, at_wall_ns) for table, rows in prepared.tables.items()}
    for name, gained in prepared.gained.items():
        before = host.counted.get(name)
        if before is not None:
            both = pa.concat_arrays([before, before])
            made[COUNTERS] = _with(made[COUNTERS], name, pc.add(made[COUNTERS][name].combine_chunks(), both))
        host.counted[name] = gained if before is None else pc.add(before, gained)
    return made


def _permuted(table: str, rows: pa.Table, host: Identity, recording: str, at_wall_ns: int) -> pa.Table:
    wall = at_wall_ns - CLOCK.wall_ns
    constant = {"recording": recording, "boot_id": host.boot, "kernel": host.kernel}
    if table == RECORDINGS:
        constant["image"] = host.image
    for name, value in constant.items():
        rows = _with(rows, name, pa.array([value] * len(rows), pa.string()))
    for name in rows.column_names:
        column = rows[name]
        last = name.rpartition(".")[2]
        if column.null_count == len(rows):
            continue
        if name.endswith("wall_ns"):
            rows = _with(rows, name, pc.add(column, wall))
        elif name == "monotonic_ns":
            rows = _with(rows, name, pc.add(column, at_wall_ns - host.booted_ns - CLOCK.monotonic_ns))
        elif last in ("src", "dst"):
            rows = _with(rows, name, _mapped(column, host.address))
        elif last in ("sport", "dport"):
            rows = _with(rows, name, _mapped(column, host.port))
        elif name in ("text", "sentence"):
            rows = _with(rows, name, _mapped(column, host.text))
        elif table == VERDICTS and name == "evidence":
            rows = _with(rows, name, _mapped(column, lambda text: _dumped(host.evidence(json.loads(text)))))
    if "ts" in rows.column_names:
        stamps = pc.strftime(rows["wall_ns"].cast(pa.timestamp("ns")), format="%Y-%m-%dT%H:%M:%SZ")
        rows = _with(rows, "ts", stamps)
    return rows


def _dumped(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _mapped(column: Any, other: Any) -> Any:
    """Each distinct value once."""
    encoded = column.combine_chunks().dictionary_encode()
    values = pa.array([other(value) for value in encoded.dictionary.to_pylist()], column.type)
    return values.take(encoded.indices)


def _with(rows: pa.Table, name: str, column: Any) -> pa.Table:
    at = rows.schema.get_field_index(name)
    return rows.set_column(at, rows.schema.field(at), column)
