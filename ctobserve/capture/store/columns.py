"""What rows a recording keeps, and each of their columns: name, form, unit, what it says. The file carries this description."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ctobserve.capture.extensions import EXTENSION
from ctobserve.capture.store.words import SAYS
from ctobserve.event import EVENT
from ctobserve.host.counters import NAMES
from ctobserve.host.dump import HELPED
from ctobserve.model import ENTRY, EXPECTATION

# Counters of one namespace and CPU (host/counters.py); `has` has a bit for each counter in NAMES that the kernel told.
COUNTED = np.dtype(
    [("netns", "<u4"), ("cpu", "<u4"), ("cookie", "<u8"), ("has", "<u4"), *((f"value.{name}", "<u8") for name in NAMES)]
)
TOUCHED = np.dtype([("ct", "<u8")])
HELPED_OF = np.dtype([("netns", "<u4"), ("row", HELPED)])

# Rows by the kind of their chunks.
ROWS: dict[str, np.dtype[np.void]] = {
    "event": EVENT,
    "entry": ENTRY,
    "extension": EXTENSION,
    "touched": TOUCHED,
    "counters": COUNTED,
    "helped": HELPED_OF,
    "expectation": EXPECTATION,
}
# How the bytes of a column are turned before they are stored (chunks.py).
PLAIN, DELTA, MIRRORED, WALKED = "", "delta", "mirrored", "walked"
DELTAS = {"ct", "timeout", "entry.ct", "entry.seen_ns", "entry.timeout"}
MIRRORS = {"addr", "port", "entry.addr", "entry.port"}
MIRRORED_KINDS = ("event", "entry")


class Column(NamedTuple):
    """One column of a kind of rows. `form` is a NumPy type, `shape` how many of them a row has (4,16: four times sixteen)."""

    kind: str
    name: str
    form: str
    shape: str
    how: str
    unit: str
    says: str


def columns_of(kind: str) -> tuple[Column, ...]:
    """In the order in which they lie in a row, which has no gaps."""
    return tuple(_columns(kind))


def _columns(kind: str) -> Iterator[Column]:
    for name, dtype in _leaves(ROWS[kind], ""):
        base, shape = dtype.subdtype or (dtype, ())
        unit, says = SAYS[kind][name]
        yield Column(kind, name, base.str, ",".join(map(str, shape)), _how(kind, name), unit, says)


def _how(kind: str, name: str) -> str:
    if (kind, name) == ("entry", "seen_ns"):
        return WALKED  # a reading of the table finds one after the other
    if kind in MIRRORED_KINDS and name in MIRRORS:
        return MIRRORED
    return DELTA if name in DELTAS else PLAIN


def _leaves(dtype: np.dtype[Any], prefix: str) -> Iterator[tuple[str, np.dtype[Any]]]:
    for name in dtype.names or ():
        assert dtype.fields
        inner = dtype.fields[name][0]
        if inner.names:
            yield from _leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner
