"""What sentences say of entries that left before their packets came: how, in which state, by whom, by which timeout."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from ctobserve.analysis.groups import divide
from ctobserve.clock import NS_PER_S
from ctobserve.diagnosis.evidence import Evidence, NamespaceEvidence
from ctobserve.diagnosis.evidence_keys import VerdictEvidence
from ctobserve.diagnosis.rules.paste import set_sysctl
from ctobserve.diagnosis.rules.words import plural
from ctobserve.event import DestroyReason, Events, destroy_name
from ctobserve.host.sysctls import known, timeout_of
from ctobserve.model import IPS_ASSURED, IPS_SEEN_REPLY, TCP, TCP_STATES, Mask, pick, printable, tcp_state_name

LISTED = 3  # ways to leave in a sentence; the rest is a number
# Timeouts of connections that are over: what still comes is a retransmission, or a reset.
FINISHED = ("TIME_WAIT", "CLOSE", "LAST_ACK")
# One side has closed, and the other may go on for as long as its application likes.
HALF_CLOSED = ("FIN_WAIT", "CLOSE_WAIT")
HALF_CLOSED_S = 3600

FEW_ARE_NORMAL = "few such packets, or resets and the last of connections that are over, are normal"


class Timeout(NamedTuple):
    """Full name of the sysctl by which an entry left, its value there and the kernel's default, in seconds; None: not known."""

    sysctl: str
    value: int | None
    default: int | None


class Gone(NamedTuple):
    """How an entry left: the contract's word, the TCP state it had, the process that asked for it, the timeout that ended it."""

    reason: str
    tcp_state: str | None
    by: str | None
    timeout: Timeout | None

    @property
    def words(self) -> str:
        """Like: timeout in CLOSE_WAIT; deleted by conntrack."""
        state = f" in {self.tcp_state}" if self.tcp_state and not self.by else ""
        return f"{self.reason}{state}{f' by {self.by}' if self.by else ''}"


class Where(NamedTuple):
    """The namespace with the most of some packets, which of them are its own, and how many are others'."""

    namespace: NamespaceEvidence
    rows: Mask
    elsewhere: int


def where(evidence: Evidence, rows: Mask) -> Where:
    """Of these rows of the losses, of which there must be some."""
    entries = evidence.losses["entry"]
    chosen = entries[rows]
    namespaces = divide(chosen, ("netns",))
    inum = int(chosen["netns"][namespaces.first[namespaces.largest(1)[0]]])
    mine: Mask = rows & (entries["netns"] == inum)
    return Where(evidence.namespace(inum), mine, int(rows.sum() - mine.sum()))


def left_before(losses: Events) -> Mask:
    """Packets whose connection, or that of the packet they are about, had an entry that left."""
    before: Mask = losses["left"]["at_ns"] != 0
    return before


def unfinished(losses: Events) -> Mask:
    """Those whose connection was not over when its entry left."""
    left = losses["left"]
    over = (left["reason"] == DestroyReason.TIMEOUT) & np.isin(left["tcp_state"], [TCP_STATES.index(name) for name in FINISHED])
    over &= left["original"]["protonum"] == TCP
    open_: Mask = left_before(losses) & ~over & (left["reason"] != DestroyReason.TCP_REUSE)
    return open_


def connections(losses: Events) -> int:
    """How many entries these packets had, of one namespace."""
    return len({one.tobytes() for one in losses["left"]["original"]})


def ways(namespace: NamespaceEvidence, losses: Events) -> list[tuple[Gone, int]]:
    """How the entries of these packets left, the commonest first, each with so many packets."""
    found = Counter(_gone(namespace, left) for left in losses["left"][left_before(losses)])
    return found.most_common()


def _gone(namespace: NamespaceEvidence, left: np.void) -> Gone:
    protonum, status = int(left["original"]["protonum"]), int(left["status"])
    state = tcp_state_name(protonum, int(left["tcp_state"]))
    timeout = None
    if left["reason"] == DestroyReason.TIMEOUT:
        name = timeout_of(protonum, state, bool(status & IPS_SEEN_REPLY), bool(status & IPS_ASSURED))
        told = known(name) if name else None
        timeout = Timeout(name, namespace.sysctls.get(name), told.default if told else None) if name else None
    by = printable(bytes(left["comm"])) if left["pid"] else None
    return Gone(destroy_name(int(left["reason"])), state, by, timeout)


def listed(found: list[tuple[Gone, int]]) -> str:
    """7 by timeout in CLOSE_WAIT, 2 deleted by conntrack; and the commonest timeout's sysctl."""
    named = ", ".join(f"{count} {gone.words}" for gone, count in found[:LISTED])
    others = f" and {plural(len(found) - LISTED, 'other way')}" if len(found) > LISTED else ""
    timeout = next((gone.timeout for gone, _ in found if gone.timeout), None)
    if timeout is None or timeout.value is None:
        return named + others
    default = "" if timeout.default in (None, timeout.value) else f", {timeout.default} by default"
    return f"{named}{others} ({timeout.sysctl} is {timeout.value} s{default})"


def oldest_s(losses: Events) -> float:
    """The longest time from an entry's end to its packet; of some one must be known."""
    some = pick(losses, left_before(losses))
    ages = some["entry"]["seen_ns"].astype(np.int64) - some["left"]["at_ns"].astype(np.int64)
    return round(int(ages.max()) / NS_PER_S, 3)


def numbers_of(losses: Events, found: list[tuple[Gone, int]]) -> VerdictEvidence:
    """The commonest way to leave, and how long before the packet at most."""
    if not found:
        return {
            **{"left_reason": None, "left_state": None, "left_by": None, "left_timeout": None, "left_timeout_s": None},
            **{"left_packets": 0, "left_before_s": None},
        }
    gone, packets = found[0]
    return {
        "left_reason": gone.reason,
        "left_state": gone.tcp_state,
        "left_by": gone.by,
        "left_timeout": gone.timeout.sysctl if gone.timeout else None,
        "left_timeout_s": gone.timeout.value if gone.timeout else None,
        "left_packets": packets,
        "left_before_s": oldest_s(losses),
    }


def longer(namespace: NamespaceEvidence, found: list[tuple[Gone, int]]) -> tuple[str, ...]:
    """Lines that raise the timeouts by which entries of open connections left: to the default, of half-closed ones to an hour."""
    lines: dict[str, str] = {}
    for gone, _ in found:
        timeout = gone.timeout
        if timeout is None or timeout.value is None or gone.tcp_state in FINISHED:
            continue
        enough = HALF_CLOSED_S if gone.tcp_state in HALF_CLOSED else timeout.default or 0
        value = enough if timeout.value < enough else 2 * timeout.value
        lines[timeout.sysctl] = set_sysctl(namespace, timeout.sysctl, value)
    return tuple(lines.values())
