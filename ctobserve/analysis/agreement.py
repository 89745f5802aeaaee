"""Are the counts equal to the kernel's own counters, as far as these tell?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ctobserve.analysis.drops import CLASH_RESOLVED, LOSS_COUNTERS, balance
from ctobserve.capture.counts import Count
from ctobserve.event import DestroyReason, Kind, destroy_name
from ctobserve.host.counters import Reading, delta, total

# The others move where each packet is looked at: nobody counts that here.
WATCHED = tuple(name for name in LOSS_COUNTERS if name not in {"invalid", "error"})
EVICTED = destroy_name(DestroyReason.EARLY_DROP)


class Instant(NamedTuple):
    """Losses so far by namespace, and the kernel's counters at an instant when none was under way."""

    losses: Mapping[int, Counter[str]]
    kernel: Reading


def losses_of(counts: Iterable[Count]) -> dict[int, Counter[str]]:
    """What of these moves a counter of the kernel's, by namespace, under the reasons that `balance` knows."""
    found: dict[int, Counter[str]] = {}
    for one in counts:
        word = CLASH_RESOLVED if one.kind == Kind.RESOLVED else one.reason
        if one.kind in (Kind.RESOLVED, Kind.DROP) or (one.kind == Kind.DESTROY and one.reason == EVICTED):
            found.setdefault(one.netns, Counter())[word] += one.number
    return found


def unaccounted(before: Instant, after: Instant) -> dict[int, dict[str, int]]:
    """Of namespaces that were there at both instants, what their counters saw and we did not, or the other way round."""
    cookies = before.kernel.cookies
    lasting = {inum for inum, unique in after.kernel.cookies.items() if cookies.get(inum) == unique}
    moved: dict[int, list[Counter[str]]] = {}
    for (inum, _), counts in delta(before.kernel, after.kernel).items():
        moved.setdefault(inum, []).append(counts)
    result = {}
    for inum in lasting & moved.keys():
        kernel = total(moved[inum])
        ours = after.losses.get(inum, Counter()) - before.losses.get(inum, Counter())
        watched = Counter({name: value for name, value in kernel.items() if name in WATCHED})
        rest = balance(ours, watched).unaccounted
        if rest:
            result[inum] = rest
    return result
