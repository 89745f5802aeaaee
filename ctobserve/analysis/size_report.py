"""The report of `ctobserve size`, as plain values: what is, what it takes, what other values would do, what to paste."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ctobserve.analysis import size as sums
from ctobserve.analysis.lifetimes import Lifetimes
from ctobserve.host.slab import Slab
from ctobserve.host.sysctls import INT_MAX, PREFIX, known

Row = dict[str, Any]
MAX, BUCKETS, COUNT, EXPECT = (PREFIX + name for name in ("max", "buckets", "count", "expect_max"))


@dataclass
class Wish:
    """What to reckon with: values in place of the present ones."""

    max: int | None
    buckets: int | None
    timeouts: dict[str, int]
    rate: float | None
    headroom: float


@dataclass
class Known:
    """Everything read, None what could not be; `notes` say why."""

    values: dict[str, tuple[int | None, bool]]
    slab: Slab | None
    defaults: sums.Defaults | None
    memory_bytes: int | None
    table: Lifetimes | None = None
    table_source: str | None = None
    extensions: int | None = None  # entries of the table that have extensions, where a walk told
    rate_per_s: float | None = None
    notes: list[str] = field(default_factory=list)


def report(seen: Known, wish: Wish) -> Row:
    """The JSON contract's body; null is what is not known."""
    limit, buckets, count = (seen.values.get(name, (None, False))[0] for name in (MAX, BUCKETS, COUNT))
    wanted, heads = wish.max or limit, wish.buckets or buckets
    changes = [
        sums.change(name, seen.values.get(name, (None, False))[0], after, seen.table) for name, after in wish.timeouts.items()
    ]
    need = sums.need(wish.rate, seen.rate_per_s, count, wish.headroom)
    return {
        "now": {
            "count": count,
            "max": limit,
            "buckets": buckets,
            "fill": count / limit if limit and count is not None else None,
            "objects_all_netns": seen.slab and seen.slab.objects,
            "slab_bytes": seen.slab.slabs * seen.slab.slab_bytes if seen.slab and seen.slab.slabs is not None else None,
            "hash_bytes": None if buckets is None else sums.whole_buckets(buckets) * sums.HEAD,
        },
        "defaults": None if seen.defaults is None else asdict(seen.defaults) | {"memory_bytes": seen.memory_bytes},
        "full": {
            "max": wanted,
            "buckets": heads,
            "mean_chain": None if not wanted or not heads else 2 * wanted / sums.whole_buckets(heads),
            "textbook": None if not wanted or not heads else _memory(sums.textbook(wanted, heads)),
            "real": None if not wanted or not heads or seen.slab is None else _memory(sums.real(wanted, heads, seen.slab)),
            "real_from": seen.slab and seen.slab.source,
            "why": _why(seen.slab),
        },
        "entries_from": seen.table_source,
        "entries_with_extensions": seen.extensions,
        "entries": None if seen.table is None else [_group(seen, *one) for one in sums.groups(seen.table)],
        "timeouts": [asdict(one) for one in changes],
        "need": asdict(need),
        "sysctls": [_sysctl(seen, name) for name in seen.values],
        "paste": _paste(seen, wish, need, buckets),
        "notes": seen.notes,
    }


def _memory(memory: sums.Memory) -> Row:
    return asdict(memory) | {"total_bytes": memory.total_bytes}


def _why(slab: Slab | None) -> list[str]:
    """Why textbook and kernel differ."""
    if slab is None:
        return []
    each = slab.slab_bytes / slab.objects_per_slab
    took = f"an nf_conn of {slab.object_bytes} bytes" if slab.object_bytes else "an nf_conn"
    return [
        f"{took} takes {each:.0f} bytes of a slab here, not {sums.TEXTBOOK_OBJECT}: newer kernels keep less there",
        f"a bucket is one pointer, {sums.HEAD} bytes, not {sums.TEXTBOOK_HEAD}: a list's head has no way back",
        f"what NAT, accounting, events, helpers add lies outside: {sums.EXTENSION} bytes for an entry with any of them",
    ]


def _group(seen: Known, group: tuple[str, str | None, str | None], entries: int, median: float) -> Row:
    proto, state, name = group
    timeout = seen.values.get(name, (None, False))[0] if name else None
    return {"proto": proto, "state": state, "timeout": name, "timeout_s": timeout, "entries": entries, "median_left_s": median}


def _sysctl(seen: Known, name: str) -> Row:
    value, writable = seen.values[name]
    found = known(name)
    default = found.default if found else None
    if seen.defaults is not None:
        chosen = {MAX: seen.defaults.max, BUCKETS: seen.defaults.buckets}
        default = chosen.get(name, default)
    buckets = seen.values.get(BUCKETS, (None, False))[0]
    if name == EXPECT and buckets:
        default = 4 * max(buckets // 256, 1)  # nf_conntrack_expect_init
    return {
        "name": name,
        "value": value,
        "default": default,
        "unit": found.unit if found else None,
        "writable": writable,
        "meaning": found.meaning if found else None,
    }


def _paste(seen: Known, wish: Wish, need: sums.Need, buckets: int | None) -> Row:
    """Lines that make the wish, or the measured need, last; nothing is asked, nothing is offered."""
    limit = wish.max or (need.max and min(need.max, INT_MAX))
    wanted = wish.buckets or (limit and min(max(limit, buckets or 0), sums.MOST_BUCKETS))
    heads = wanted and sums.whole_buckets(wanted)
    here = seen.values.get(BUCKETS, (None, False))[1]
    lines = {BUCKETS: heads if here else None, MAX: limit} | wish.timeouts
    return {
        "sysctl_d": [f"net.netfilter.{name} = {value}" for name, value in lines.items() if value is not None],
        "modprobe_d": [f"options nf_conntrack hashsize={heads}"] if heads else [],
        "buckets_settable_here": here,
    }
