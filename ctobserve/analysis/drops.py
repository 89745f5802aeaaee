"""Which packets did conntrack lose, and do the kernel's counters agree?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

# What one event of ours adds to the kernel's counters; net/netfilter/nf_conntrack_core.c. Counters overlap: never sum them.
COUNTED = {
    "table_full": ("drop",),
    "no_memory": ("drop",),
    "clash": ("drop", "insert_failed"),
    "clash_resolved": ("clash_resolve",),
    "chaintoolong": ("chaintoolong", "insert_failed"),
    "dying": ("insert_failed",),
    "early_drop": ("early_drop",),
    "invalid": ("invalid",),
    "error": ("error",),
}
NONE: Mapping[str, int] = {}
LOSS_COUNTERS = ("invalid", "error", "drop", "early_drop", "insert_failed", "chaintoolong", "clash_resolve")


@dataclass(frozen=True)
class Balance:
    """Our sums by reason beside what the kernel counted; `unaccounted` is what its counters saw and we did not."""

    by_reason: dict[str, int]
    kernel_counters: dict[str, int]
    unaccounted: dict[str, int]


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
