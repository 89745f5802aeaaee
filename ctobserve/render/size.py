"""The report of `ctobserve size` for people: under 100 columns, `-` for unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ctobserve.render.folding import folded

MIB = 1 << 20
Report = Mapping[str, Any]


def size_lines(report: Report) -> Iterable[str]:
    """All parts that have something to say."""
    yield from _now(report)
    yield ""
    yield from _full(report["full"])
    if report["entries"] is not None:
        yield ""
        yield from _entries(report)
    if report["timeouts"]:
        yield ""
        yield from _timeouts(report["timeouts"])
    yield ""
    yield from _need(report["need"])
    yield ""
    yield from _sysctls(report["sysctls"])
    yield ""
    yield from _paste(report["paste"])
    for note in report["notes"]:
        yield from folded(f"Not known: {note}")


def _now(report: Report) -> Iterable[str]:
    now, default = report["now"], report["defaults"]
    fill = "-" if now["fill"] is None else f"{100 * now['fill']:.1f} %"
    yield f"netns {report['meta']['netns']}: {_number(now['count'])} of {_number(now['max'])} entries ({fill})"
    yield f"{'':<12} {'NOW':>12} {'DEFAULT':>12}"
    for name in ("buckets", "max"):
        yield f"{name:<12} {_number(now[name]):>12} {_number(default and default[name]):>12}"
    if default:
        yield f"Default for {_mib(default['memory_bytes'])} of memory: max = {default['factor']} x buckets; 8 x with hashsize="
    slabs = f"slabs {_mib(now['slab_bytes'])} for {_number(now['objects_all_netns'])} entries of all namespaces"
    yield f"In use: hash {_mib(now['hash_bytes'])}; {slabs}"


def _full(full: Report) -> Iterable[str]:
    yield f"Memory of a full table, {_number(full['max'])} entries in {_number(full['buckets'])} buckets:"
    yield f"{'':<10} {'ENTRY':>8} {'BUCKET':>7} {'ENTRIES':>12} {'HASH':>10} {'TOTAL':>12} {'EXTENSIONS':>14}"
    for name in ("textbook", "real"):
        memory = full[name] or {}
        more = memory.get("extensions_bytes")
        yield (
            f"{name:<10} {_bytes(memory.get('object_bytes')):>8} {_bytes(memory.get('head_bytes')):>7}"
            f" {_mib(memory.get('entries_bytes')):>12} {_mib(memory.get('heads_bytes')):>10}"
            f" {_mib(memory.get('total_bytes')):>12}"
            f" {'-' if more is None else f'+ <= {_mib(more)}':>14}"
        )
    chain = full["mean_chain"]
    if chain is not None:
        yield f"Mean chain when full: {chain:.1f} nodes (two nodes an entry; the kernel's default is 2)"
    if full["why"]:
        yield f"Why they differ (real: from {full['real_from']}):"
        for text in full["why"]:
            yield from folded(f"  - {text}", "    ")


def _entries(report: Report) -> Iterable[str]:
    yield f"Entries by protocol and state (read by {report['entries_from']}):"
    yield f"  {'PROTO':<8} {'STATE':<18} {'ENTRIES':>9} {'LEFT s':>8} {'TIMEOUT s':>9}  HELD BY"
    for row in report["entries"]:
        yield (
            f"  {row['proto']:<8} {row['state'] or '-':<18} {row['entries']:>9} {row['median_left_s']:>8.0f}"
            f" {_plain(row['timeout_s']):>9}  {row['timeout'] or '-'}"
        )
    if not report["entries"]:
        yield "  none"


def _timeouts(changes: list[Report]) -> Iterable[str]:
    yield "With other timeouts, of the entries there are now:"
    for row in changes:
        gone = "how many would be gone is not known"
        if row["gone"] is not None:
            gone = f"{row['gone']} of {row['entries']} entries would be gone"
            gone += f", not known of {row['unknown']}" if row["unknown"] else ""
        yield f"  {row['name']} {_plain(row['before'])} -> {row['after']} s: {gone}"


def _need(need: Report) -> Iterable[str]:
    if need["entries"] is None:
        factors = f"{_rate(need['rate_per_s'])} x lifetime {_seconds(need['lifetime_s'])}"
        yield f"Need: - (rate {factors}; --duration SECONDS measures both)"
        return
    yield (
        f"Need: {_rate(need['rate_per_s'])} x {_seconds(need['lifetime_s'])} mean lifetime = {_number(need['entries'])} entries;"
        f" x {need['headroom']:g} = max {_number(need['max'])}"
    )


def _sysctls(rows: list[Report]) -> Iterable[str]:
    yield "net.netfilter.nf_conntrack_... (timeouts in seconds; * = not the default):"
    yield f"  {'NAME':<31} {'VALUE':>10} {'DEFAULT':>10}  MEANING"
    for row in rows:
        mark = "*" if row["default"] is not None and row["value"] not in (None, row["default"]) else " "
        name = row["name"].removeprefix("nf_conntrack_")
        text = f"{mark} {name:<31} {_plain(row['value']):>10} {_plain(row['default']):>10}  "
        yield from folded(text + _meaning(row), " " * len(text))


def _meaning(row: Report) -> str:
    unit = " (bytes)" if row["unit"] == "bytes" else ""
    return (row["meaning"] or "-") + unit


def _paste(paste: Report) -> Iterable[str]:
    if not paste["sysctl_d"] and not paste["modprobe_d"]:
        yield "Lines to paste: give --max, --buckets or --timeout, or measure with --duration"
        return
    if paste["sysctl_d"]:
        yield "# /etc/sysctl.d/90-conntrack.conf (holds only once nf_conntrack is loaded)"
        yield from paste["sysctl_d"]
    if paste["modprobe_d"]:
        yield "# /etc/modprobe.d/90-conntrack.conf (buckets from the moment it is loaded)"
        yield from paste["modprobe_d"]
    if not paste["buckets_settable_here"]:
        yield "# max and buckets are global here: set them in the initial network namespace, on the host"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _plain(value: int | None) -> str:
    return "-" if value is None else str(value)


def _bytes(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} B"


def _mib(value: int | None) -> str:
    if value is None:
        return "-"
    return f"{value / MIB:,.1f} MiB" if value >= MIB or not value else f"{value / 1024:,.0f} KiB"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}/s"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} s"
