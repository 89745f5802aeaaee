"""What `size` found, for people: under 100 columns, `-` for unknown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ctobserve.documents.size import SizeDocument
from ctobserve.documents.size_parts import EntryGroup, Full, Need, Paste, SysctlRow, TableMemory, TimeoutChange
from ctobserve.render.folding import folded

MIB = 1 << 20


def size_lines(document: SizeDocument) -> Iterable[str]:
    """All parts that have something to say."""
    yield from _now(document)
    yield ""
    yield from _full(document.full)
    if document.entries is not None:
        yield ""
        yield from _entries(document.entries, document.entries_from)
    if document.timeouts:
        yield ""
        yield from _timeouts(document.timeouts)
    yield ""
    yield from _need(document.need)
    yield ""
    yield from _sysctls(document.sysctls)
    yield ""
    yield from _paste(document.paste)
    for note in document.notes:
        yield from folded(f"Not known: {note}")


def _now(document: SizeDocument) -> Iterable[str]:
    now, default = document.now, document.defaults
    fill = "-" if now.fill is None else f"{100 * now.fill:.1f} %"
    yield f"netns {document.meta.netns}: {_number(now.count)} of {_number(now.max)} entries ({fill})"
    yield f"{'':<12} {'NOW':>12} {'DEFAULT':>12}"
    yield f"{'buckets':<12} {_number(now.buckets):>12} {_number(default.buckets if default else None):>12}"
    yield f"{'max':<12} {_number(now.max):>12} {_number(default.max if default else None):>12}"
    if default:
        yield f"Default for {_mib(default.memory_bytes)} of memory: max = {default.factor} x buckets; 8 x with hashsize="
    slabs = f"slabs {_mib(now.slab_bytes)} for {_number(now.objects_all_netns)} entries of all namespaces"
    yield f"In use: hash {_mib(now.hash_bytes)}; {slabs}"


def _full(full: Full) -> Iterable[str]:
    yield f"Memory of a full table, {_number(full.max)} entries in {_number(full.buckets)} buckets:"
    yield _memory("", "ENTRY", "BUCKET", "ENTRIES", "HASH", "TOTAL", "EXTENSIONS")
    yield _memory("textbook", *_figures(full.textbook))
    yield _memory("real", *_figures(full.real))
    if full.mean_chain is not None:
        yield f"Mean chain when full: {full.mean_chain:.1f} nodes (two nodes an entry; the kernel's default is 2)"
    if full.why:
        yield f"Why they differ (real: from {full.real_from}):"
        for text in full.why:
            yield from folded(f"  - {text}", "    ")


def _memory(name: str, entry: str, bucket: str, entries: str, heads: str, total: str, extensions: str) -> str:
    return f"{name:<10} {entry:>8} {bucket:>7} {entries:>12} {heads:>10} {total:>12} {extensions:>14}"


def _figures(memory: TableMemory | None) -> tuple[str, str, str, str, str, str]:
    if memory is None:
        return "-", "-", "-", "-", "-", "-"
    more = "-" if memory.extensions_bytes is None else f"+ <= {_mib(memory.extensions_bytes)}"
    sums = _mib(memory.entries_bytes), _mib(memory.heads_bytes), _mib(memory.total_bytes)
    return f"{memory.object_bytes:.0f} B", f"{memory.head_bytes} B", *sums, more


def _entries(rows: Sequence[EntryGroup], read_by: str | None) -> Iterable[str]:
    yield f"Entries by protocol and state (read by {read_by}):"
    yield f"  {'PROTO':<8} {'STATE':<18} {'ENTRIES':>9} {'LEFT s':>8} {'TIMEOUT s':>9}  HELD BY"
    for row in rows:
        yield (
            f"  {row.proto:<8} {row.state or '-':<18} {row.entries:>9} {row.median_left_s:>8.0f}"
            f" {_plain(row.timeout_s):>9}  {row.timeout or '-'}"
        )
    if not rows:
        yield "  none"


def _timeouts(changes: Iterable[TimeoutChange]) -> Iterable[str]:
    yield "With other timeouts, of the entries there are now:"
    for row in changes:
        gone = "how many would be gone is not known"
        if row.gone is not None:
            gone = f"{row.gone} of {row.entries} entries would be gone"
            gone += f", not known of {row.unknown}" if row.unknown else ""
        yield f"  {row.name} {_plain(row.before)} -> {row.after} s: {gone}"


def _need(need: Need) -> Iterable[str]:
    if need.entries is None:
        factors = f"{_rate(need.rate_per_s)} x lifetime {_seconds(need.lifetime_s)}"
        yield f"Need: - (rate {factors}; --duration SECONDS measures both)"
        return
    yield (
        f"Need: {_rate(need.rate_per_s)} x {_seconds(need.lifetime_s)} mean lifetime = {_number(need.entries)} entries;"
        f" x {need.headroom:g} = max {_number(need.max)}"
    )


def _sysctls(rows: Iterable[SysctlRow]) -> Iterable[str]:
    yield "net.netfilter.nf_conntrack_... (timeouts in seconds; * = not the default):"
    yield f"  {'NAME':<31} {'VALUE':>10} {'DEFAULT':>10}  MEANING"
    for row in rows:
        mark = "*" if row.default is not None and row.value not in (None, row.default) else " "
        name = row.name.removeprefix("nf_conntrack_")
        text = f"{mark} {name:<31} {_plain(row.value):>10} {_plain(row.default):>10}  "
        yield from folded(text + _meaning(row), " " * len(text))


def _meaning(row: SysctlRow) -> str:
    unit = " (bytes)" if row.unit == "bytes" else ""
    return (row.meaning or "-") + unit


def _paste(paste: Paste) -> Iterable[str]:
    if not paste.sysctl_d and not paste.modprobe_d:
        yield "Lines to paste: give --max, --buckets or --timeout, or measure with --duration"
        return
    if paste.sysctl_d:
        yield "# /etc/sysctl.d/90-conntrack.conf (holds only once nf_conntrack is loaded)"
        yield from paste.sysctl_d
    if paste.modprobe_d:
        yield "# /etc/modprobe.d/90-conntrack.conf (buckets from the moment it is loaded)"
        yield from paste.modprobe_d
    if not paste.buckets_settable_here:
        yield "# max and buckets are global here: set them in the initial network namespace, on the host"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _plain(value: int | None) -> str:
    return "-" if value is None else str(value)


def _mib(value: int | None) -> str:
    if value is None:
        return "-"
    return f"{value / MIB:,.1f} MiB" if value >= MIB or not value else f"{value / 1024:,.0f} KiB"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}/s"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} s"
