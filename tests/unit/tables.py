"""Made tables and evidence: entries by the thousand, and around them a namespace where nothing is wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from ctobserve.analysis.drops import LOSS_COUNTERS
from ctobserve.capture.table import Lengths
from ctobserve.diagnosis.evidence import RESOLVED, Evidence, NamespaceEvidence
from ctobserve.event import NO_DIRECTION, Events, Kind
from ctobserve.host.account import Account
from ctobserve.model import ENTRY, IPS_ASSURED, IPS_CONFIRMED, IPS_SEEN_REPLY, TCP, TCP_STATES, UDP, Entries
from tests.scripted import CLOCK, NETNS, events
from tests.unit.samples import packed

REPLIED = IPS_CONFIRMED | IPS_SEEN_REPLY | IPS_ASSURED
UNREPLIED = IPS_CONFIRMED
SETTINGS = {
    "nf_conntrack_max": 10_000,
    "nf_conntrack_events": 2,
    "nf_conntrack_acct": 1,
    "nf_conntrack_tcp_timeout_established": 432_000,
}


def spread(value: Any, count: int) -> list[Any]:
    return list(value) if isinstance(value, (list, range)) else [value] * count


def entries(count: int, **given: Any) -> Entries:
    """`count` replied UDP entries from 10.0.0.1 and rising ports to 10.0.0.2:53; columns are one value or one for each.

    `left_s` is the time until they expire, `backend` the address that replies, `nat` (address, ports) where replies go to.
    """
    made = np.zeros(count, ENTRY)
    made["ct"] = given.pop("ct", np.arange(1, count + 1) * 256)
    made["netns"], made["l3num"], made["has_ct"] = NETNS, 2, 1
    src, dst = spread(given.pop("src", "10.0.0.1"), count), spread(given.pop("dst", "10.0.0.2"), count)
    sport, dport = given.pop("sport", np.arange(count) % 60_000 + 1024), given.pop("dport", 53)
    backend = spread(given.pop("backend", dst), count)
    nat, nat_ports = given.pop("nat", (src, sport))
    for at, addresses in enumerate((src, dst, backend, spread(nat, count))):
        known = {address: packed(address) for address in set(addresses)}
        made["addr"][:, at] = np.array([known[address] for address in addresses], np.uint8).reshape(count, 16)
    for at, ports in enumerate((sport, dport, dport, nat_ports)):
        made["port"][:, at] = ports
    made["protonum"], made["status"] = given.pop("proto", UDP), given.pop("status", REPLIED)
    made["timeout"] = CLOCK.jiffies + np.asarray(given.pop("left_s", 100)) * CLOCK.hz
    for name, value in given.items():
        made[name] = value
    return made


def tcp(count: int, state: str = "ESTABLISHED", **given: Any) -> Entries:
    return entries(count, proto=TCP, tcp_state=TCP_STATES.index(state), **({"left_s": 431_990} | given))


def many(count: int) -> list[str]:
    return [f"10.{1 + at // 62_500}.{at // 250 % 250}.{at % 250 + 1}" for at in range(count)]


def losses(rows: Entries | None = None, reason: int = 1, direction: int = NO_DIRECTION, **columns: Any) -> Events:
    """A packet of each of these entries that was lost, INVALID or, with RESOLVED, saved."""
    kind = Kind.RESOLVED if reason == RESOLVED else Kind.DROP
    return events(kind, entries(0) if rows is None else rows, reason=reason, direction=direction, **columns)


def namespace(
    inum: int = NETNS, label: str = "blue", init: bool = True, prefix: tuple[str, ...] = (), **more: Any
) -> NamespaceEvidence:
    counters = dict.fromkeys(LOSS_COUNTERS, 0)
    return NamespaceEvidence(inum, label, prefix=prefix, init=init, sysctls=SETTINGS | more, counters=counters)


def lengths(nodes: int, buckets: int = 4096, seed: int = 1) -> Lengths:
    """Chains of a hash that spreads well."""
    chosen = np.random.default_rng(seed).integers(0, buckets, nodes)
    return Lengths(np.bincount(chosen, minlength=buckets).astype(np.uint16), nodes // 2, 0)


def evidence(rows: Entries | None = None, **given: Any) -> Evidence:
    """A namespace of 10,000 at most in which these entries are, and in which nothing happened for 5 s."""
    rows = entries(0) if rows is None else rows
    made = Evidence(
        entries=rows,
        before=entries(0),
        lengths=lengths(2 * len(rows)),
        namespaces={NETNS: replace(namespace(nf_conntrack_count=len(rows)), account=Account(len(rows)), listed=len(rows))},
        losses=losses(),
        drops={},
        destroys={},
        inserts={},
        duration_s=5.0,
        clock=CLOCK,
        asked=NETNS,
    )
    given.setdefault("init", next((one for one in given.get("namespaces", made.namespaces).values() if one.init), None))
    for name in ("drops", "destroys"):
        if name in given:
            given[name] = {NETNS: Counter(given[name])}
    return replace(made, **given)
