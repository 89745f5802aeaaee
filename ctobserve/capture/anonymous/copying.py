"""A recording written again for others: the same facts and rows in the same order and at the same times, of nobody."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NamedTuple

from ctobserve.capture.anonymous.addresses import Addresses
from ctobserve.capture.anonymous.facts import Facts
from ctobserve.capture.anonymous.key import Key
from ctobserve.capture.anonymous.names import Names
from ctobserve.capture.anonymous.rows import OtherRows
from ctobserve.capture.capture import DAMAGED, Fidelity, NamespaceState
from ctobserve.capture.recorded import RecordedView
from ctobserve.capture.store.columns import ROWS
from ctobserve.capture.store.facts import Keyframe
from ctobserve.capture.store.joined import RUN, Recording
from ctobserve.capture.store.reader import Fact
from ctobserve.capture.store.writer import Writer

META = ("sees",)  # what `meta` may say beside the version
LEVEL = 6
TOGETHER = 500  # chunks and facts that are committed at once


class Copied(NamedTuple):
    """So many facts and rows, in so many bytes of compressed rows."""

    facts: int
    rows: int
    compressed_bytes: int


def copy(reader: Recording, path: Path, key: Key, tell: Callable[[float], None]) -> Copied:
    """Into a new recording; `tell` hears how much of it is done, 0 to 1.

    What could not be read is missing in it, and counted as lost. Raises UsageError where the file cannot be made, NotWritten
    where the disk is full, Unreadable where there is nothing to be read.
    """
    RecordedView(reader)  # else there is nothing in it to be shared
    addresses, names = Addresses(key, _broadcasts(reader)), Names(key)
    facts, rows = Facts(addresses, names), OtherRows(addresses, names)
    told = written = 0
    seen = reader.damaged
    last = max(reader.last_number(), 1)
    meta = {name: reader.meta[name] for name in META if name in reader.meta}
    if RUN in reader.meta:
        meta[RUN] = "anonymous"
    with closing(Writer(path, LEVEL, meta)) as writer:
        for count, one in enumerate(reader.told()):
            writer.go_on_at(one.number)
            if isinstance(one, Fact):
                found, seen = _with_damage(one.found, reader.damaged, seen)
                inum = found.inum if isinstance(found, NamespaceState) else None
                writer.fact(one.kind, facts.of(one.kind, found), one.at_ns, inum)
                told += 1
            elif one.kind in ROWS:
                read = reader.chunk(one.kind, one)
                if len(read):
                    writer.chunk(one.kind, rows.of(one.kind, read), one.fact, one.first_ns, one.last_ns)
                written += len(read)
            if count % TOGETHER == TOGETHER - 1:
                writer.commit(settle=True)
            tell(one.number / last)
        writer.commit()
    return Copied(told, written, writer.bytes)


def _broadcasts(reader: Recording) -> list[tuple[IPv4Address, int]]:
    """Of the networks that namespaces are in: who sends to all of a network does so still."""
    networks = {
        one.interface.network
        for fact in reader.all("namespace")
        for one in fact.found.addresses or ()
        if one.interface.version == 4
    }
    return [(one.broadcast_address, one.prefixlen) for one in networks if isinstance(one.broadcast_address, IPv4Address)]


def _with_damage(found: object, damaged: int, seen: int) -> tuple[Any, int]:
    """A fact that says what is lost, and what was damaged until the last reading of the table, which then has to be taken."""
    if isinstance(found, Fidelity) and damaged:
        return found._replace(lost={**found.lost, DAMAGED: damaged}), seen
    if isinstance(found, Keyframe):
        return found._replace(repairs=found.repairs or damaged > seen), damaged
    return found, seen
