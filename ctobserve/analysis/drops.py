"""Which packets did conntrack lose, and do the kernel's counters agree?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ctobserve.capture.quiet import in_counters
from ctobserve.event import Events, Kind, destroy_name, drop_name
from ctobserve.host.counters import Place

CLASH_RESOLVED = "clash_resolved"
# What one event of ours adds to the kernel's counters; net/netfilter/nf_conntrack_core.c. Counters overlap: never sum them.
COUNTED = {
    "table_full": ("drop",),
    "no_memory": ("drop",),
    "clash": ("drop", "insert_failed"),
    CLASH_RESOLVED: ("clash_resolve",),
    "chaintoolong": ("chaintoolong", "insert_failed"),
    "dying": ("insert_failed",),
    "early_drop": ("early_drop",),
    "invalid": ("invalid",),
    "error": ("error",),
}
NONE: Mapping[str, int] = {}
LOSS_COUNTERS = ("invalid", "error", "drop", "early_drop", "insert_failed", "chaintoolong", "clash_resolve")


class Balance(NamedTuple):
    """Our sums by reason beside what the kernel counted; `unaccounted` is what its counters saw and we did not."""

    by_reason: dict[str, int]
    kernel_counters: dict[str, int]
    unaccounted: dict[str, int]


def sums(events: Events) -> dict[Place, Counter[str]]:
    """Those of these events that move a counter of a loss, by namespace and CPU, under the reasons that `balance` knows."""
    at = np.flatnonzero(in_counters(events))
    netns, cpu, kind = (column[at].astype(np.uint64) for column in (events["entry"]["netns"], events["cpu"], events["kind"]))
    numbers = netns << 32 | cpu << 16 | kind << 8 | events["reason"][at]
    found, counts = np.unique(numbers, return_counts=True)
    result: dict[Place, Counter[str]] = defaultdict(Counter)
    for number, count in zip(found.tolist(), counts.tolist(), strict=True):
        result[number >> 32, number >> 16 & 0xFFFF][_word(number >> 8 & 0xFF, number & 0xFF)] += count
    return result


def _word(kind: int, reason: int) -> str:
    if kind == Kind.RESOLVED:
        return CLASH_RESOLVED
    return drop_name(reason) if kind == Kind.DROP else destroy_name(reason)


def balance(reasons: Counter[str], kernel: Counter[str], uncounted: Mapping[str, int] = NONE) -> Balance:
    """Compare; `reasons` are drop reasons, `early_drop` for evicted entries, `clash_resolved` for packets that were kept.

    A counter that could not be read is not compared: unknown is not 0. `uncounted` are those of the reasons that happened where
    no counter could be read, as in a namespace that has ended.
    """
    explained: Counter[str] = Counter()
    for reason, count in reasons.items():
        for counter in COUNTED.get(reason, ()):
            explained[counter] += count - uncounted.get(reason, 0)
    unaccounted = {
        name: kernel[name] - explained[name] for name in LOSS_COUNTERS if name in kernel and kernel[name] != explained[name]
    }
    return Balance(dict(sorted(reasons.items())), dict(sorted(kernel.items())), unaccounted)
