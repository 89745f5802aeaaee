"""How exported numbers come together: what each scrape reads, and what is looked at by itself, as rarely as its cost demands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress

from ctobserve import __version__
from ctobserve.analysis.agreement import EVICTED, WATCHED, Instant, losses_of, unaccounted
from ctobserve.capture.capture import HostView, NamespaceState
from ctobserve.capture.counts import Counting
from ctobserve.clock import NS_PER_S
from ctobserve.documents.metrics import ChainMetrics, Metrics, NetnsMetrics, chains_of
from ctobserve.documents.spaces import OTHER, Spaces
from ctobserve.errors import CtobserveError
from ctobserve.event import FOUND_BAD, DropReason, Kind, drop_name
from ctobserve.host.owner import Owner

COUNT, MAX, BUCKETS = SYSCTLS = ("nf_conntrack_count", "nf_conntrack_max", "nf_conntrack_buckets")
SHARE = 0.01  # of the time that looking at chains and counters may take
LEAST_S = 15  # between two such looks
READINGS = 5  # of the counters, until one comes in which nothing is lost
# There from the begin, at 0: of a series that begins with its first loss nobody sees an increase. No program tells of want of
# memory (bpf/counts.c): it is in what the kernel's counters have beyond these.
LOSSES = tuple(drop_name(reason) for reason in DropReason if reason not in {*FOUND_BAD, DropReason.NO_MEMORY})


class Metering:
    """`read` for each scrape, `look` once a second; both by one thread."""

    def __init__(self, view: HostView, limit: int, say: Callable[[str], object], lost: Callable[[], int] | None = None) -> None:
        """At most `limit` namespaces have series of their own. `lost` counts the records that a recorder here has lost."""
        self._view = view
        self._spaces = Spaces(limit)
        self._say = say
        self._lost = lost
        self._counting: Counting | None = None
        self._missed = self._missed_before = 0
        self._chains: ChainMetrics | None = None
        self._due_ns = 0
        self._compared: Instant | None = None
        self._verified: float | None = None
        self._unaccounted = Counter(dict.fromkeys(WATCHED, 0))

    def read(self, counting: Counting | None) -> Metrics:
        """All numbers as of now; `counting` is None while nf_conntrack is not loaded."""
        self._take(counting)
        states = self._view.namespaces(SYSCTLS)
        self._spaces.know(states)
        if counting:
            self._spaces.add(counting.counts())
            self._missed = counting.missed()
        host = self._view.host
        return Metrics(
            version=__version__,
            kernel=host.release,
            machine=host.machine,
            attach=counting.attach if counting else None,
            buckets=next((size for state in states.values() if (size := state.sysctls.get(BUCKETS)) is not None), None),
            spaces=self._of_spaces(states),
            chains=self._chains,
            missed=self._missed_before + self._missed,
            records_lost=None if self._lost is None else self._lost(),
            unaccounted=self._unaccounted.copy(),
            verified=self._verified,
        )

    def look(self, counting: Counting | None) -> None:
        """Where it is due: the lengths of all chains, the kernel's counters, and room for namespaces to come."""
        self._take(counting)
        if counting is None or counting.now_ns() < self._due_ns:
            return
        began_ns = counting.now_ns()
        # A hash that is resized again and again, or was unloaded this moment, is looked at the next time.
        with suppress(CtobserveError):
            lengths = counting.lengths()
            took_s = (counting.now_ns() - began_ns) / NS_PER_S
            self._chains = lengths and chains_of(lengths, self._view.wall_ns() / NS_PER_S, took_s)
        self._verify(counting)
        self._spaces.know(self._view.namespaces())
        self._spaces.add(counting.counts())
        counting.forget(self._spaces.gone)
        ended_ns = counting.now_ns()
        self._due_ns = ended_ns + max(LEAST_S * NS_PER_S, round((ended_ns - began_ns) / SHARE))

    def _take(self, counting: Counting | None) -> None:
        if counting is not self._counting:
            self._counting = counting
            self._spaces.restart()
            self._missed_before += self._missed
            self._missed = self._due_ns = 0
            self._chains = self._compared = None

    def _verify(self, counting: Counting) -> None:
        """Compare what was lost since the last time. Once more where it differs: a loss that is under way is in one of both."""
        wrong: dict[int, dict[str, int]] = {}
        for _ in range(READINGS):
            now = self._instant(counting)
            if now is None:
                continue
            before, wrong = self._compared, unaccounted(self._compared, now) if self._compared else {}
            if not wrong:
                self._compared = now
                if before:
                    self._verified = self._view.wall_ns() / NS_PER_S
                return
        if wrong:
            # What differs is said once: from here on they may be equal again.
            self._compared = now
            names = self._view.names()
        for inum, rest in sorted(wrong.items()):
            self._unaccounted.update({name: value for name, value in rest.items() if value > 0})
            told = ", ".join(f"{name} {value:+}" for name, value in sorted(rest.items()))
            self._say(f"{names.get(inum, inum)}: the kernel's counters differ from what was counted: {told}")

    def _instant(self, counting: Counting) -> Instant | None:
        """None where something was lost meanwhile."""
        losses = losses_of(counting.counts())
        kernel = self._view.counters()
        return Instant(losses, kernel) if losses == losses_of(counting.counts()) else None

    def _of_spaces(self, states: Mapping[int, NamespaceState]) -> tuple[NetnsMetrics, ...]:
        own: dict[str, NamespaceState] = {}
        folded = 0
        known = any(state.sysctls.get(COUNT) is not None for state in states.values())
        for inum, state in states.items():
            label = self._spaces.label(inum)
            if label == OTHER:
                folded += state.sysctls.get(COUNT) or 0
            else:
                own[label] = state
        return tuple(
            self._of(label, own[label].sysctls.get(COUNT), own[label].sysctls.get(MAX), own[label].owner)
            if label in own
            else self._of(label, folded if known else None, None, None)
            for label in sorted(self._spaces.sums, key=lambda label: (label == OTHER, label))
        )

    def _of(self, label: str, entries: int | None, limit: int | None, owner: Owner | None) -> NetnsMetrics:
        sums = self._spaces.sums[label]
        told = {
            kind: {reason: number for (of, reason), number in sums.items() if of == kind} for kind in (Kind.DESTROY, Kind.DROP)
        }
        tracked = bool(sums or entries)
        return NetnsMetrics(
            netns=label,
            entries=entries,
            limit=limit,
            inserts=sums[Kind.INSERT, ""],
            destroys=told[Kind.DESTROY],
            drops=(dict.fromkeys(LOSSES, 0) if tracked else {}) | told[Kind.DROP],
            early_drops=sums[Kind.DESTROY, EVICTED],
            clashes_resolved=sums[Kind.RESOLVED, ""],
            owner=owner and owner.label,
        )
