"""A fleet's dataset: each planned recording as its kind, permuted for its host, by the product's own writer."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import pyarrow.compute as pc

from ctobserve.capture.anonymous.addresses import Addresses
from ctobserve.fleet.layout import ID_DIGITS, day_of
from ctobserve.fleet.remote import RemoteStorage, here
from ctobserve.fleet.schema import EVENTS, NAMESPACES, RECORDINGS, SCHEMA, TABLES
from ctobserve.fleet.storage import Storage
from ctobserve.fleet.writing import writing
from tests.fleet.kinds import BUCKETS, FEW_BUCKETS, KINDS, LIMIT, grown
from tests.fleet.permuted import PORTS, Identity, Prepared, key_of, of_host, prepare
from tests.fleet.planted import DAY_NS, IMAGES, KERNELS, Plan, growth, planned, said

EVERY_H = 8
UP_NS = 9 * DAY_NS  # hosts run for so long when the fleet's time begins


def make(out: Path, hosts: int, hours: int, every: int, seed: int) -> dict[str, Any]:
    """Writes it, and says what is in it."""
    plan = planned(hosts, hours, every, seed)
    kinds = prepared(plan)
    rows: Counter[str] = Counter()
    lost: dict[str, Counter[str]] = {}
    storage = RemoteStorage(here(), str(out.absolute()))  # which waits for no disk
    for number, (name, recordings) in enumerate(plan.hosts.items()):
        host = identity(plan, seed, number, 0, plan.begin_ns - UP_NS)
        for at, one in enumerate(recordings):
            if one.anew:
                host = identity(plan, seed, number, 1, plan.booted_ns)
            kind = kinds[one.kind]
            recording = sha256(f"{seed} {name} {at}".encode()).hexdigest()[:ID_DIGITS]
            tables = of_host(kind, host, recording, one.at_ns)
            write(storage, name, recording, tables, day_of(one.at_ns))
            rows.update({table: len(part) for table, part in tables.items()})
            if kind.lost:
                lost.setdefault(name, Counter()).update(kind.lost)
    return {
        "schema": SCHEMA,
        "seed": seed,
        "hosts": hosts,
        "hours": hours,
        "from_wall_ns": plan.begin_ns,
        "to_wall_ns": plan.end_ns,
        "rows": {table: rows[table] for table in TABLES},
        "limit": LIMIT,
        "lost": lost,
        "verdicts": verdicts(plan, kinds),
        "planted": said(plan, facts(plan, kinds)),
    }


def prepared(plan: Plan) -> dict[str, Prepared]:
    """The kinds that are in it."""
    steps = growth(plan)
    makes = KINDS | {kind: grown(at / (len(steps) - 1)) for at, kind in enumerate(steps)}
    with TemporaryDirectory() as folder:
        return {kind: prepare(make, Path(folder, kind)) for kind, make in makes.items()}


def identity(plan: Plan, seed: int, number: int, boot: int, booted_ns: int) -> Identity:
    name = f"{seed} {number}"
    return Identity(
        boot=str(UUID(sha256(f"{name} {boot}".encode()).hexdigest()[:32])),
        kernel=KERNELS[boot],
        image=IMAGES[boot],
        booted_ns=booted_ns,
        addresses=Addresses(key_of(name)),
        planted=plan.addresses,
        port_step=int(sha256(name.encode()).hexdigest()[:8], 16) % PORTS,
        counted={},
    )


def write(storage: Storage, host: str, recording: str, tables: dict[str, Any], day: str) -> None:
    with writing(storage, host, recording) as files:
        for table, rows in tables.items():
            if table != RECORDINGS:
                files.file(table, day).add(rows)
    with writing(storage, host, recording) as files:
        files.file(RECORDINGS, day).add(tables[RECORDINGS])


def verdicts(plan: Plan, kinds: dict[str, Prepared]) -> dict[str, dict[str, int]]:
    """Of each host how often it has which, but for notices."""
    of_kind = {kind: grave(made) for kind, made in kinds.items()}
    return {name: dict(Counter(verdict for one in those for verdict in of_kind[one.kind])) for name, those in plan.hosts.items()}


def grave(made: Prepared) -> list[str]:
    found = made.tables["verdicts"]
    return found.filter(pc.not_equal(found["severity"], "notice"))["id"].to_pylist()


def facts(plan: Plan, kinds: dict[str, Prepared]) -> dict[str, dict[str, Any]]:
    """What kinds hold of what was planted with them."""
    steps = growth(plan)
    events = {kind: Counter(made.tables[EVENTS]["event"].to_pylist()) for kind, made in kinds.items()}
    return {
        "abused": {"lost_each": kinds["abused"].lost, "entries_limit": LIMIT},
        "raced": {"lost_each": kinds["raced"].lost, "resolved_each": events["raced"]["resolved"]},
        "crowded": {"setting": "nf_conntrack_buckets", "value": str(FEW_BUCKETS), "others": str(BUCKETS)},
        "growing": {"entries": [most_entries(kinds[kind]) for kind in steps], "entries_limit": LIMIT},
        "churning": {"inserts_each": events["churning"]["insert"], "inserts_of_healthy": events["middle"]["insert"]},
    }


def most_entries(made: Prepared) -> int:
    return int(pc.max(made.tables[NAMESPACES]["entries"]).as_py())
