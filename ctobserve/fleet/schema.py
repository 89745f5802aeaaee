"""What a dataset consists of: its tables, their columns, and what each file says of itself.

Columns of events, entries and counters are those of `ctobserve convert` (render/tables.py), behind the id of the recording.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from ctobserve import __version__
from ctobserve.documents import convert
from ctobserve.render import tables
from ctobserve.render.flat import Column
from ctobserve.render.tables import NAMED, NETNS, WHEN, WHOSE

SCHEMA = 1
KEY = "ctobserve"  # in the metadata of a Parquet file: what it is
RECORDINGS, EVENTS, SNAPSHOTS, COUNTERS, NAMESPACES, SETTINGS, VERDICTS = TABLES = (
    *("recordings", "events", "snapshots", "counters"),
    *("namespaces", "settings", "verdicts"),
)
# What `ctobserve convert` calls them.
CONVERTED: Mapping[str, str] = {
    convert.EVENTS: EVENTS,
    convert.ENTRIES: SNAPSHOTS,
    convert.COUNTERS: COUNTERS,
}
RECORDING = Column("recording", str, "which recording the row is of: the first 32 hex digits of the SHA-256 of its content")
OWNER = Column("owner", str, "who owned that namespace (docs/owner.md)")
COLUMNS: Mapping[str, tuple[Column, ...]] = {
    RECORDINGS: (
        *(RECORDING, *WHOSE),
        Column("began_wall_ns", int, "when it began, ns since 1970"),
        Column("ended_wall_ns", int, "when it ended, ns since 1970"),
        Column("machine", str, "its architecture, as uname -m has it"),
        Column("image", str, "what the host was installed from, as --image said"),
        Column("events", int, "rows of the table events"),
        Column("records_lost", int, "records that the recorder looked for and lost"),
        Column("damaged", int, "rows and facts of the recording that could not be read"),
        Column("ctobserve", str, "version that recorded it"),
    ),
    **{ours: (RECORDING, *tables.COLUMNS[theirs]) for theirs, ours in CONVERTED.items()},
    NAMESPACES: (
        *(RECORDING, *WHOSE, *WHEN, NETNS, NAMED, OWNER),
        Column("entries", int, "how many it counts: nf_conntrack_count"),
        Column("entries_limit", int, "how many it may have: nf_conntrack_max, or the first namespace's where that is less"),
        Column("buckets", int, "size of the hash, which all namespaces share"),
    ),
    SETTINGS: (
        *(RECORDING, *WHOSE, *WHEN, NETNS, NAMED),
        Column("name", str, "of the sysctl: nf_conntrack_..."),
        Column("value", str, "what it was from then on"),
    ),
    VERDICTS: (
        *(RECORDING, *WHOSE),
        Column("from_wall_ns", int, "begin of the time that was judged, ns since 1970: all of the recording"),
        Column("to_wall_ns", int, "its end"),
        Column("id", str, "the rule's name"),
        Column("severity", str, "critical, warning, notice or healthy"),
        Column("sentence", str, "what is wrong, with the numbers in it"),
        *(NETNS, NAMED, OWNER),
        Column("evidence", str, "the numbers behind the sentence, as JSON"),
    ),
}

# When a row was, which says of which day its file is.
TIMES = {RECORDINGS: "began_wall_ns", VERDICTS: "from_wall_ns"}


def time_at(table: str) -> int:
    """Which column of this table has the time of its rows."""
    return [one.name for one in COLUMNS[table]].index(TIMES.get(table, "wall_ns"))


def told(table: str) -> dict[str, str]:
    """What a file of this table says of itself, as metadata."""
    return {KEY: json.dumps({"schema": SCHEMA, "table": table, "version": __version__})}
