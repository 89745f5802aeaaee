"""Everything a rule may look at: one observation of the whole table, its losses and its settings, as plain data."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ctobserve.analysis.drops import CLASH_RESOLVED
from ctobserve.analysis.translation import Surroundings
from ctobserve.capture.capture import Expected
from ctobserve.capture.read_via import ReadVia
from ctobserve.capture.table import Lengths
from ctobserve.clock import Clock
from ctobserve.diagnosis.by_rules import Place
from ctobserve.diagnosis.clashes import for_a_port
from ctobserve.diagnosis.hairpins import Hairpins, hairpins, past_us
from ctobserve.diagnosis.mappings import Mappings, mappings
from ctobserve.event import NO_EVENTS, DropReason, Events, drop_name, entries_in
from ctobserve.host.account import Account
from ctobserve.host.addresses import Address
from ctobserve.host.ip_packets import IpPackets
from ctobserve.host.ruleset import Ruleset
from ctobserve.host.sysctls import TIMEOUTS, allowed, known
from ctobserve.model import ENTRY, EXPECTATION, Entries, Mask, NDArray, pick, printable

RESOLVED = 0  # `reason` of an event of that kind: a clash that cost no packet
Numbers = NDArray[np.integer[Any]]
NONE_EXPECTED = Expected(np.empty(0, EXPECTATION), ReadVia.NETLINK, frozenset())


def loss_name(reason: int) -> str:
    """The contract's word for the reason of a packet lost or INVALID, or saved from a clash."""
    return CLASH_RESOLVED if reason == RESOLVED else drop_name(reason)


def tally(netns: Numbers, reasons: Numbers, name: Callable[[int], str]) -> defaultdict[int, Counter[str]]:
    """How many by namespace (inode number) and reason (below 256), in the words that `name` has for it."""
    found: defaultdict[int, Counter[str]] = defaultdict(Counter)
    keys, counts = np.unique(netns.astype(np.int64) << 8 | reasons, return_counts=True)
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        found[key >> 8][name(key & 0xFF)] += count
    return found


def by_namespace(entries: Entries) -> Counter[int]:
    """How many each namespace has."""
    inums, counts = np.unique(entries["netns"], return_counts=True)
    return Counter(dict(zip(inums.tolist(), counts.tolist(), strict=True)))


class Timeout(NamedTuple):
    """What an entry is given in a namespace, and what the kernel's default would give it, in seconds."""

    value_s: int
    default_s: int


@dataclass(frozen=True)
class NamespaceEvidence:
    """One network namespace: its name, its own sysctls (net.netfilter.*) and what its counters gained meanwhile.

    `prefix` are the words that a line to paste needs before its own to work there, None where no words help. `counters` is None
    where they cannot be read, `ruleset` and `addresses` where nobody looked; a sysctl that this kernel lacks is missing.
    `account` is of the end; `listed` are the entries that were read from the hash then, whatever the filter, `unlisted_before`
    how many were counted and not listed at the start, `passed` the IP packets that passed meanwhile: each None where unknown.
    `cap` is the first namespace's limit, which is every other's, too, or where these have their own the most that they may have;
    `limits_itself`: it has.
    """

    inum: int
    label: str
    prefix: tuple[str, ...] | None = None
    init: bool = False
    sysctls: Mapping[str, int] = field(default_factory=dict)
    counters: Mapping[str, int] | None = None
    ruleset: Ruleset | None = None
    account: Account = field(default_factory=Account)
    listed: int | None = None
    unlisted_before: int | None = None
    passed: IpPackets | None = None
    addresses: tuple[Address, ...] | None = None
    cap: int | None = None
    limits_itself: bool = False

    def __post_init__(self) -> None:
        """A label goes into every sentence: whoever makes a namespace, no rule can forget to make it printable."""
        if not self.label.isprintable():
            object.__setattr__(self, "label", printable(self.label))

    @cached_property
    def place(self) -> Place:
        """Its rules and its surroundings, to be held against entries."""
        return Place(self.ruleset, None if self.addresses is None else Surroundings(self.addresses))

    @property
    def count(self) -> int | None:
        """Entries that the limit is compared with: nf_conntrack_count, or where nobody tells it those that were listed."""
        return self.sysctls.get("nf_conntrack_count", self.listed)

    @property
    def own_limit(self) -> int | None:
        """Its nf_conntrack_max; None where unknown or, with 0, unlimited."""
        return self.sysctls.get("nf_conntrack_max") or None

    @property
    def limit(self) -> int | None:
        """Entries that the namespace may have: the smaller of its own limit and the cap; None where unknown, or unlimited."""
        return allowed(self.sysctls.get("nf_conntrack_max", self.cap), self.cap)

    @property
    def limit_is_known(self) -> bool:
        """Whether it is known, if only that there is none."""
        return "nf_conntrack_max" in self.sysctls or self.cap is not None

    @property
    def unlisted(self) -> int | None:
        """Entries that are counted and in no chain: unconfirmed or dying ones that packets hold. None where unknown."""
        return None if self.account.counted is None or self.listed is None else max(self.account.counted - self.listed, 0)

    @cached_property
    def timeouts(self) -> dict[str, Timeout]:
        """Those that could be read, by full name of the sysctl."""
        defaults = ((name, sysctl.default) for name in TIMEOUTS if (sysctl := known(name)))
        return {
            name: Timeout(self.sysctls[name], default)
            for name, default in defaults
            if default is not None and name in self.sysctls
        }


class Explained(NamedTuple):
    """Losses that a verdict speaks of: all with one of these `reasons`, and these `rows` (a mask) of Evidence.losses."""

    reasons: tuple[str, ...] = ()
    rows: Mask | None = None


@dataclass(frozen=True)
class Evidence:
    """`entries` at the end, those the user's filter lets pass; `before` the same at the start.

    `lengths` counts all nodes of the shared hash, whatever the filter. `losses` are the events of packets lost, INVALID, or saved
    from a clash: so many of each reason. `drops` and `destroys` count by namespace and reason, also what found no room in
    `losses`. `invalid` says whether invalid packets were looked for, `narrowed` whether only one namespace was, `filtered`
    whether a filter hides more than that (never of `destroys` and `inserts`), `blind_to_losses` whether it asks for what is not
    known of a packet that has no entry; `init` is the first namespace, where the global sysctls are set, even then. `unconfirmed`
    are events of entries that died before the table, as of packets that a rule dropped: so many, and some of a flood; `removed`
    are those of entries that were flushed or deleted, whatever the filter. `winners` are entries that a lost packet of the same
    connection met, whether or not they are still there. `expected` are the expectations at the end, None
    where a recording ended before it had any. Of what was lost `damaged` is what cannot be read of a recording;
    `probes_off_s` is for how long nothing was seen at all. `uncounted` says at which end of a stretch of a recording nobody
    read the kernel's counters. `not_attached` are functions that a program was to hang on, and none does. `asked` is the
    namespace that is looked at, else the one we are in. Times are in seconds of the observation.
    """

    entries: Entries
    before: Entries
    lengths: Lengths
    namespaces: Mapping[int, NamespaceEvidence]
    losses: Events
    drops: Mapping[int, Counter[str]]
    destroys: Mapping[int, Counter[str]]
    inserts: Mapping[int, int]
    duration_s: float
    clock: Clock
    events_seen: int = 0
    events_lost: int = 0
    damaged: int = 0
    probes_off_s: int = 0
    uncertain_s: float = 0.0
    unread: int = 0
    invalid: bool = True
    narrowed: bool = False
    filtered: bool = False
    blind_to_losses: bool = False
    init: NamespaceEvidence | None = None
    unconfirmed: Events = field(default_factory=lambda: NO_EVENTS)
    removed: Events = field(default_factory=lambda: NO_EVENTS)
    winners: Entries = field(default_factory=lambda: np.empty(0, ENTRY))
    expected: Expected | None = NONE_EXPECTED
    uncounted: str = ""
    not_attached: tuple[str, ...] = ()
    asked: int = 0

    @cached_property
    def counts(self) -> dict[int, int]:
        """Entries by namespace."""
        return dict(by_namespace(self.entries))

    @cached_property
    def remaining_s(self) -> NDArray[np.int64]:
        """Seconds until each entry expires, at the end of the observation."""
        now = np.full(len(self.entries), self.clock.monotonic_ns, np.uint64)
        return self.clock.remaining_s(self.entries["timeout"], now)

    @cached_property
    def mappings(self) -> Mappings:
        """Where unanswered entries send packets, and where new packets would go instead."""
        return mappings(self.entries, self.before, lambda inum: self.namespace(inum).place)

    @cached_property
    def hairpins(self) -> Hairpins:
        """Which of them DNAT sends back into the client's own network."""
        return hairpins(self.mappings, lambda inum: self.namespace(inum).place, lambda inum: self.namespace(inum).account.bridges)

    @cached_property
    def past_us(self) -> Mask:
        """Which of `losses` are packets that the two ends of such an entry sent each other directly."""
        return past_us(self.mappings, self.hairpins, self.losses)

    @cached_property
    def clashed(self) -> Mask:
        """Which of `losses` are packets lost to a clash."""
        clashed: Mask = self.losses["reason"] == DropReason.CLASH
        return clashed

    @cached_property
    def short_of_ports(self) -> Mask:
        """Which of them met another connection on their mapped port; the others met the winner of a race."""
        rows = self.clashed.copy()
        if rows.any():
            rows[rows] = for_a_port(entries_in(self.losses, rows), self.entries, self.before, self.winners)
        return rows

    def namespace(self, inum: int) -> NamespaceEvidence:
        """One that nobody can enter any more has an inode number and nothing else."""
        return self.namespaces.get(inum, NamespaceEvidence(inum, str(inum)))

    def unreadable(self, sysctl: str) -> int:
        """How many namespaces have entries, and this sysctl could not be read there."""
        return sum(sysctl not in self.namespace(inum).sysctls for inum in self.counts)

    def without(self, parts: Iterable[Explained]) -> Evidence:
        """The same, but for losses that verdicts explain."""
        parts = list(parts)
        whole = {reason for part in parts for reason in part.reasons}
        explained = np.zeros(len(self.losses), np.bool_)
        for part in parts:
            if part.rows is not None:
                explained |= part.rows
        known = _by_reason(pick(self.losses, explained))
        drops = {
            inum: Counter({name: count - known[inum][name] for name, count in reasons.items() if name not in whole})
            for inum, reasons in self.drops.items()
        }
        reasons = np.unique(self.losses["reason"]).tolist()
        explained |= np.isin(self.losses["reason"], [reason for reason in reasons if loss_name(reason) in whole])
        return replace(self, losses=pick(self.losses, ~explained), drops=drops)

    def kept_of(self, reason: int) -> tuple[int, int]:
        """Rows with this reason in `losses`, and packets that there were: of those beyond the rows nothing else is known."""
        name = loss_name(reason)
        return int((self.losses["reason"] == reason).sum()), sum(reasons[name] for reasons in self.drops.values())

    @cached_property
    def not_kept(self) -> dict[int, Counter[str]]:
        """Packets lost or INVALID, by namespace and reason, that found no room in `losses`."""
        kept, free = _by_reason(self.losses), loss_name(RESOLVED)
        return {
            inum: +Counter({name: count - kept[inum][name] for name, count in reasons.items() if name != free})
            for inum, reasons in self.drops.items()
        }

    def lost(self, inum: int, reason: DropReason) -> int:
        """Packets that this namespace lost for this reason."""
        return self.drops.get(inum, Counter())[drop_name(reason)]

    def evicted(self, inum: int) -> tuple[int, int]:
        """Entries evicted by early_drop, and by the gc worker."""
        reasons = self.destroys.get(inum, Counter())
        return reasons["early_drop"], reasons["gc_early_drop"]

    def rate(self, count: float) -> float:
        """Per second of the observation."""
        return round(count / self.duration_s, 3) if self.duration_s else 0.0


def _by_reason(losses: Events) -> defaultdict[int, Counter[str]]:
    return tally(losses["entry"]["netns"], losses["reason"], loss_name)
