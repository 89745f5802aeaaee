"""The parts of a report's page that show its figures: numbers at a glance, charts of time, the hash, tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, pairwise

from ctobserve.analysis.groups import Key
from ctobserve.documents.base import Labels
from ctobserve.documents.figures import Figures, NamespaceFigures, TimelineFigures
from ctobserve.documents.report import ReportDocument
from ctobserve.host.sysctls import known
from ctobserve.render.hash_svg import Spread, bars, hash_pictures, within_html
from ctobserve.render.markup import Markup, Shaded, folded_away, scrolled, table, text
from ctobserve.render.report import shown

COLUMNS = 6  # namespaces beside each other
NEARLY, LEAST = 0.9, 0.001  # of the limit: full enough to be shown as such; less is not told apart
LONGEST = 10
NAMED = 3  # namespaces in a sentence
BUTTONS = (
    ("in", "+", "zoom in"),
    ("out", "\u2212", "zoom out"),
    ("earlier", "\u25c0", "earlier"),
    ("later", "\u25b6", "later"),
    ("whole", "all", "all of the time"),
)
# What explains an incident more often than others; a setting that differs from its default is shown as well.
MATTERS = tuple(
    f"nf_conntrack_{name}"
    for name in (
        *("max", "buckets", "acct", "events", "checksum", "helper", "log_invalid", "tcp_be_liberal", "tcp_loose", "timestamp"),
        *("tcp_timeout_established", "tcp_timeout_time_wait", "tcp_timeout_close_wait", "udp_timeout", "udp_timeout_stream"),
        *("generic_timeout", "icmp_timeout"),
    )
)


def total(counts: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """By reason, those that happened, most first."""
    sums = {reason: sum(numbers) for reason, numbers in counts.items()}
    return dict(sorted(((reason, count) for reason, count in sums.items() if count), key=lambda one: -one[1]))


def at_a_glance(report: ReportDocument) -> Markup:
    """How full, what was lost, what came and went, the longest chain: beside the verdicts."""
    line, seconds, spread = report.figures.timeline, report.meta.duration_s, report.figures.chains
    lost, bad, gone = total(line.lost), total(line.found_bad), total(line.gone)
    new, left = sum(line.new), sum(gone.values())
    evicted = sum(count for reason, count in gone.items() if reason.endswith("early_drop"))
    limit = spread.chain_limit_from
    refused = f"; from {limit} nodes on new entries may be refused" if limit and 2 * spread.max_chain >= limit else ""
    parts = [_fill(report.figures.namespaces), _number("Packets lost", sum(lost.values()), _reasons(lost), bad=bool(lost))]
    if bad:
        parts.append(_number("Found bad, a rule may drop them", sum(bad.values()), _reasons(bad)))
    rate = shown(round(new / seconds, 1)) if seconds else "-"
    if evicted:
        parts.append(_number("Entries evicted", evicted, "while they lived, for want of room", bad=True))
    parts.append(_number("New entries", new, f"{rate} per s; {left} left"))
    load = f"{spread.load_factor:.2g}" if spread.load_factor < 1 else f"{spread.load_factor:.1f}"
    says = f"{load} in the mean of {spread.buckets} buckets{refused}"
    parts.append(
        _number("Nodes in the longest chain", spread.max_chain, says, bad=limit is not None and spread.max_chain >= limit)
    )
    if report.meta.events_lost:
        parts.append(_number("Records lost by ctobserve", report.meta.events_lost, "this report is incomplete", bad=True))
    return f'<aside aria-label="Numbers at a glance">\n<dl>\n{chr(10).join(parts)}\n</dl>\n</aside>'


def _fill(namespaces: Sequence[NamespaceFigures]) -> Markup:
    """Of the namespace that is nearest to its limit."""
    limited = [(one.entries / one.limit, one) for one in namespaces if one.entries is not None and one.limit]
    if not limited:
        entries = [one.entries for one in namespaces if one.entries is not None]
        return _number("Entries", sum(entries) if entries else None, "no limit is known")
    share, fullest = max(limited, key=lambda one: one[0])
    meter = (
        '<svg class="meter" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="all" width="100" height="6"/>'
        f'<rect class="{"full" if share >= NEARLY else "part"}" width="{100 * min(share, 1.0):.1f}" height="6"/></svg>'
    )
    percent = f"{100 * share:.{0 if share >= 0.1 else 1}f} %" if share >= LEAST or not share else f"below {100 * LEAST:.1f} %"
    says = f"{fullest.entries} of {fullest.limit} entries in {fullest.name}"
    return _number("Fullest namespace", percent, says, share >= NEARLY, meter)


def _number(name: str, number: object, says: str, bad: bool = False, more: Markup = "") -> Markup:
    kind = ' class="bad"' if bad else ""
    return f"<div><dt>{text(name)}</dt><dd{kind}><strong>{text(number)}</strong>{more}<small>{text(says)}</small></dd></div>"


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items()) or "none"


def over_time(figures: Figures) -> Iterable[Markup]:
    """Three charts on one axis of time, how to zoom, and the numbers behind them."""
    line = figures.timeline
    names = {str(one.netns): one.name for one in figures.namespaces}
    yield '<section class="time">\n<h2>Over time</h2>'
    yield "<noscript><p>The charts need JavaScript; their numbers are in the table below them.</p></noscript>"
    tools = "".join(
        f'<button type="button" data-does="{does}" aria-label="{says}" title="{says}">{sign}</button>'
        for does, sign, says in BUTTONS
    )
    yield f'<div class="tools" role="group" aria-label="Zoom of all charts of time">{tools}'
    yield '<output id="shown" aria-live="polite"></output></div>'
    width = shown(line.width_s)
    yield _chart("fill", "Entries in the table", _fill_in_words(figures, names))
    gone = total(line.gone)
    yield _chart(
        "rates",
        "New entries, and entries that left by reason, per second",
        f"{sum(line.new)} new, {max(line.new)} at most in {width} s; left: {_reasons(gone)}",
    )
    lost = {**total(line.lost), **{f"found bad: {reason}": count for reason, count in total(line.found_bad).items()}}
    lost |= {"clash resolved, not lost": sum(line.clash_resolved)} if any(line.clash_resolved) else {}
    if lost:
        yield _chart("losses", f"Packets lost or found bad by reason, in each {width} s", _reasons(lost))
    else:
        yield "<p>No packet was lost or found bad in this time, so there is no chart of losses.</p>"
    columns = _columns(line, names)
    rows = ([f"{at * line.width_s:.1f}", *numbers] for at, numbers in enumerate(zip(*columns.values(), strict=True)))
    says = f"Numbers of each {width} s, from {line.began} on"
    yield folded_away("Numbers behind these charts", scrolled(says, table(says, ["second", *columns], rows, sortable=False)))
    yield "</section>"


def _chart(name: str, title: str, says: str) -> Markup:
    return (
        f"<figure>\n<figcaption><strong>{text(title)}</strong>{text(says)}</figcaption>\n"
        f'<div class="chart" data-chart="{name}" data-says="{text(f"{title}: {says}")}"></div>\n</figure>'
    )


def _fill_in_words(figures: Figures, names: Mapping[str, str]) -> str:
    line, limits = figures.timeline, {str(one.netns): f" of {one.limit}" for one in figures.namespaces if one.limit}
    most = max(line.entries)
    at = line.entries.index(most) * line.width_s
    parts = [f"{names.get(inum, inum)} {numbers[-1]}{limits.get(inum, '')}" for inum, numbers in line.entries_by_netns.items()]
    some = ", ".join([*parts[:NAMED], *([f"{len(parts) - NAMED} more below"] if len(parts) > NAMED else [])])
    peak = f", {most} at most, {at:.1f} s after the begin" if most not in (line.entries[0], line.entries[-1]) else ""
    return f"{line.entries[0]} at first, {line.entries[-1]} at the end{peak}; at the end {some or 'none'}"


def _columns(line: TimelineFigures, names: Mapping[str, str]) -> dict[str, Sequence[int]]:
    return {
        "entries": line.entries,
        **{f"entries of {names.get(inum, inum)}": numbers for inum, numbers in line.entries_by_netns.items()},
        "new": line.new,
        **{f"gone: {reason}": numbers for reason, numbers in line.gone.items()},
        **{f"lost: {reason}": numbers for reason, numbers in line.lost.items()},
        **{f"found bad: {reason}": numbers for reason, numbers in line.found_bad.items()},
        **({"clash resolved": line.clash_resolved} if any(line.clash_resolved) else {}),
    }


def chains(spread: Spread) -> Iterable[Markup]:
    """The two pictures of the hash, with the numbers behind each."""
    yield f'<h2>The hash</h2>\n<p>Spread: {text(spread.verdict)}.</p>\n<div class="columns">'
    for picture in hash_pictures(spread):
        yield f"<figure>\n<figcaption><strong>{text(picture.title)}</strong>{text(picture.says)}</figcaption>"
        yield f"{within_html(picture)}\n</figure>"
    yield "</div>"
    rows = [(bar.label, bar.seen, round(bar.perfect, 1)) for bar in bars(spread)]
    by_length = table("Buckets by the length of their chain", ["nodes", "buckets", "by a perfect hash"], rows)
    cells = spread.cells
    order = sorted(range(len(cells.longest)), key=lambda at: (-cells.longest[at], at))[:LONGEST]
    worst = [(cells.worst[at], cells.longest[at], cells.nodes[at]) for at in order if cells.longest[at]]
    longest = table("The longest chains, one of each cell at most", ["bucket", "nodes", "nodes in its cell"], worst)
    yield folded_away("Numbers behind these pictures", f'<div class="columns">\n{by_length}\n{longest}\n</div>')


def groups(figures: Figures, labels: Labels) -> Iterable[Markup]:
    """Who fills the table: by each grouping a table that can be sorted."""
    yield '<h2>Who fills the table</h2>\n<div class="columns">'
    for grouping in figures.groups:
        rows = ((*_named(grouping.by, row.values, labels), row.entries, row.new_per_s, row.lost) for row in grouping.groups)
        says = f"By {', '.join(grouping.by)}: those with most entries, then those that lost most packets"
        yield scrolled(says, table(says, [*grouping.by, "entries", "new per s", "packets lost"], rows))
    yield "</div>"
    if figures.groups and figures.groups[0].not_grouped:
        yield f"<p>{figures.groups[0].not_grouped} new entries and lost packets of the smallest groups are in none of these.</p>"


def _named(by: Sequence[str], values: Sequence[Key], labels: Labels) -> Iterable[Key]:
    for name, value in zip(by, values, strict=True):
        yield labels.get(value, value) if name == "netns" and isinstance(value, int) else value


def lifetimes(figures: Figures) -> Iterable[Markup]:
    """How old entries were when they left, as a table whose cells are the darker the more of a row they hold."""
    yield "<h2>How old entries were when they left</h2>"
    if not figures.lifetimes:
        yield "<p>No entry left the table in this time.</p>"
        return
    ends = [_age(bound) for bound in figures.age_bounds_s]
    heads = [
        f"below {ends[0]}",
        *(f"{low} to {high}" for low, high in pairwise(ends)),
        f"{ends[-1]} or more",
        "not known",
    ]
    rows = []
    for row in figures.lifetimes:
        counts = (*row.counts, row.unknown)
        rows.append((f"{row.proto} {row.reason}", sum(counts), *(Shaded(count, _shade(count, sum(counts))) for count in counts)))
    says = "Entries by protocol, reason and age"
    yield scrolled(says, table(says, ["left for", "entries", *heads], rows))


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{shown(seconds / size)} {unit}"
    return f"{shown(seconds)} s"


def _shade(count: int, of: int) -> int:
    return 0 if not count else 1 + (3 * count > of) + (3 * count > 2 * of)


def settings(figures: Figures) -> Iterable[Markup]:
    """Sysctls by namespace beside the kernel's defaults: those that matter and those that were changed, then all."""
    yield "<h2>Settings</h2>"
    shown_ones = figures.namespaces[:COLUMNS]
    names = sorted(set(chain.from_iterable(one.settings for one in shown_ones)))
    changed = {name for name in names if _changed(figures, shown_ones, name)}
    some = [name for name in dict.fromkeys((*MATTERS, *names)) if name in names and (name in MATTERS or name in changed)]
    heads = ["net.netfilter.", *(one.name for one in shown_ones), "default", "changed", "what it is"]

    def rows(of: Iterable[str]) -> Iterable[Sequence[object]]:
        for name in of:
            sysctl = known(name)
            says = f"{sysctl.meaning} ({sysctl.unit})" if sysctl else "-"
            values = [one.settings.get(name) for one in shown_ones]
            yield name, *values, figures.setting_defaults.get(name), "changed" if name in changed else "", says

    says = "Settings that matter, and those that differ from the kernel's default"
    yield scrolled(says, table(says, heads, rows(some)))
    rest = [name for name in names if name not in some]
    if rest:
        yield folded_away("All others", scrolled("All other settings", table("All other settings", heads, rows(rest))))
    hidden = len(figures.namespaces) - len(shown_ones) + figures.namespaces_not_shown
    if hidden:
        yield f"<p>Namespaces not shown here: {hidden}.</p>"


def _changed(figures: Figures, namespaces: Sequence[NamespaceFigures], name: str) -> bool:
    default = figures.setting_defaults.get(name)
    return default is not None and any(one.settings.get(name, default) != default for one in namespaces)
