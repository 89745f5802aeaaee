"""Made evidence of entries beside the rules that would map new ones."""

from __future__ import annotations

import numpy as np

from ctobserve.diagnosis.evidence import Evidence
from ctobserve.host.ruleset import Ruleset
from ctobserve.model import IPS_DST_NAT, Entries
from tests.unit.nat import dnat, meta, payload, ruleset, translating
from tests.unit.tables import REPLIED, UNREPLIED, entries, evidence, tcp

SYSLOG = ruleset([meta("iifname", "eth0"), payload("udp", "dport", 514), dnat("172.17.0.2", 514)])
MAPPED = UNREPLIED | IPS_DST_NAT


def was(rows: Entries, kept: bool = True) -> Entries:
    """The same at the start of the observation; `kept`: packets gave them more time since."""
    before = rows.copy()
    before["timeout"] -= 250 if kept else 0
    return before


def syslog(count: int = 2, **given) -> Entries:
    """Senders of 10.1.0.0/24 to 10.1.0.1:514 that have no NAT."""
    return entries(count, **({"src": "10.1.0.9", "dst": "10.1.0.1", "dport": 514, "status": UNREPLIED} | given))


def mapped_syslog(count: int = 1, **given) -> Entries:
    """Those that have it, by the rule SYSLOG."""
    ct = np.arange(count) + 90_000
    return syslog(count, **({"ct": ct, "sport": np.arange(count) + 5017, "backend": "172.17.0.2", "status": MAPPED} | given))


def old_syslog(
    rules: Ruleset | None = SYSLOG, old: Entries | None = None, new: Entries | None = None, kept: bool = True
) -> Evidence:
    """Entries of before the rule, and one of after it; nobody answers."""
    old, new = syslog() if old is None else old, mapped_syslog() if new is None else new
    return evidence(np.concatenate([old, new]), before=was(old, kept), namespaces=translating(rules))


def leaving() -> Evidence:
    """A SYN that leaves without NAT, from before a rule that masquerades."""
    rows = tcp(1, "SYN_SENT", src="172.17.0.9", dst="10.1.0.50", dport=5060, status=UNREPLIED)
    rules = ruleset([meta("oifname", "eth0"), {"masquerade": None}], hook="postrouting")
    return evidence(rows, before=was(rows), namespaces=translating(rules))


def hairpinned(count: int = 6, state: str = "SYN_SENT", rows: Entries | None = None, **given) -> Evidence:
    """Connections from 172.17.0.9 to 10.1.0.1:443, which DNAT sends to 172.17.0.2, in the network of br0."""
    made = tcp(count, state, src="172.17.0.9", dst="10.1.0.1", dport=443, backend="172.17.0.2", status=MAPPED, left_s=100)
    rules = ruleset([payload("ip", "daddr", "10.1.0.1"), payload("tcp", "dport", 443), dnat("172.17.0.2")])
    return evidence(made if rows is None else rows, **({"namespaces": translating(rules)} | given))


def answered_elsewhere(**given) -> Entries:
    """Somebody from outside who gets answers from the same server."""
    return tcp(1, src="10.1.0.77", dst="10.1.0.1", dport=443, backend="172.17.0.2", status=REPLIED | IPS_DST_NAT, **given)
