"""Parts of the full screen, each a pure function from what is seen to lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctobserve.analysis.hash_cells import Cells, cells
from ctobserve.analysis.timeline import Counts
from ctobserve.clock import NS_PER_S
from ctobserve.diagnosis.verdict import Severity
from ctobserve.event import FOUND_BAD, drop_name
from ctobserve.render.groups import group_words
from ctobserve.render.owners import with_owner
from ctobserve.render.top import full_in, lasting
from ctobserve.terminal.lines import Line, Role, Span, cut, joined, line, wide, wrapped
from ctobserve.terminal.rates import Rates, departures, losses, per_second, seconds
from ctobserve.terminal.seen import Place, Seen, Standing

COLUMNS = 64  # of the hash's picture
BARS = " ▁▂▃▄▅▆▇█"
# Chains of so many nodes at most, as characters from light to dark; longer ones as the last.
SHADES: tuple[tuple[int, str, Role], ...] = ((0, "·", "muted"), (2, "░", "cold"), (5, "▒", "mild"), (10, "▓", "warm"))
DARKEST: tuple[str, Role] = ("█", "hot")
LONG = 10  # a chain of more nodes is worth a mark
HIGH, SOON = 0.8, 300.0  # of its limit, or seconds until it is full: a namespace that is filling up
WORDS: dict[Severity, Role] = {
    Severity.CRITICAL: "critical",
    Severity.WARNING: "warning",
    Severity.NOTICE: "notice",
    Severity.HEALTHY: "healthy",
}
MOST_GAUGE, LEAST_GAUGE = 40, 10


def count(number: float) -> str:
    """In at most six characters, or a little more."""
    for size, unit in ((1e9, "G"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:.0f}" if number >= 1000 else f"{number:.1f}"


def header(seen: Seen, words: str, state: Sequence[Span], width: int) -> Line:
    """What is looked at, when, what state it is in, which entries: `words`."""
    at = f"{seen.moment.frame.ts[11:19]}Z"
    fixed = [Span(" ctobserve top ", "title"), Span(f" {at} "), *state]
    room = width - sum(wide(span.text) for span in fixed) - 1
    source = cut(seen.source, max(room - (wide(words) + 3 if words else 0), 8))
    return line(*fixed, f" {source}", *([Span(f" [{cut(words, max(room - wide(source) - 3, 8))}]", "key")] if words else []))


def verdicts(seen: Seen, width: int, rows: int) -> list[Line]:
    """The gravest first, whole as far as there is room, then one line each."""
    if seen.verdicts is None:
        what = "what was seen from now on, for some seconds" if seen.place is None else "what happened in the minutes before"
        return [line(Span(f"judging    {what}", "muted"))]
    standing, doubt = seen.verdicts.standing, seen.verdicts.doubt
    if not standing and not doubt:
        return [line(Span("no verdict", "muted"))]
    whole = [_verdict(one, at, width) for at, one in enumerate(standing)]
    made = _doubted(f"healthy until {seen.verdicts.at[11:19]}Z; since then {doubt}", width)[:rows] if doubt else []
    for at, lines in enumerate(whole):
        left = rows - len(made)
        if left <= 0:
            break
        # Each of the others has a line, if there is room for that.
        others = min(len(whole) - at - 1, max(rows - 2 - len(made), 0)) if made else min(len(whole) - 1, 2)
        space = max(left - others, 1)
        if standing[at].row.severity is Severity.HEALTHY and sum(map(len, whole)) > rows:
            space = min(space, 2)  # what is worth knowing says more
        made += lines if len(lines) <= space else _shortened(lines, space, width)
    hidden = len(standing) - len({part.target for part in made if part.target})
    if hidden and made:
        made[-1] = line(
            *made[-1].spans[:-1],
            Span(cut(made[-1].spans[-1].text, width - 24)),
            Span(f" +{hidden} (v)", "key"),
            target=made[-1].target,
        )
    return made


def _doubted(words: str, width: int) -> list[Line]:
    first, *others = wrapped(words, width - 11)
    return [line(Span(" JUDGING  ", "critical"), " ", first), *(line(" " * 11, other) for other in others)]


def _verdict(one: Standing, at: int, width: int) -> list[Line]:
    if one.gone:
        words = f"{one.row.id}: was so until {one.gone[11:19]}Z"
        return [line(Span(f"{'gone':<10}", "past"), Span(cut(words, width - 10), "past"), target=("verdict", at))]
    severity = one.row.severity
    text = wrapped(f"{one.row.id}: {one.row.sentence}", width - 11)
    first = line(Span(f" {severity.value.upper():<8} ", WORDS[severity]), " ", text[0], target=("verdict", at))
    return [first, *(line(" " * 11, part, target=("verdict", at)) for part in text[1:])]


def _shortened(lines: list[Line], rows: int, width: int) -> list[Line]:
    """The first lines of a verdict; the last ends in a mark that there is more."""
    last = lines[rows - 1]
    text = last.spans[-1].text
    return [*lines[: rows - 1], Line((*last.spans[:-1], Span(cut(text, width - 13).removesuffix("…") + "…")), last.targets)]


def fills(seen: Seen, width: int, rows: int) -> list[Line]:
    """Namespaces, the fullest against its own limit first, with the time until it is full."""
    frame, labels = seen.moment.frame, seen.moment.labels
    numbers, most = frame.entries_by_netns, frame.max_by_netns
    shares = {inum: number / limit if (limit := most.get(inum)) else 0.0 for inum, number in numbers.items()}
    fullest = sorted(numbers, key=lambda inum: (-shares[inum], -numbers[inum]))
    if not fullest:
        return [line(Span("no entry in any namespace", "muted"))]
    shown = fullest[:rows] if len(fullest) <= rows else fullest[: rows - 1]
    gauge = min(max(width - 50, LEAST_GAUGE), MOST_GAUGE)
    made = []
    for inum in shown:
        left, limit, share = frame.full_in_s_by_netns.get(inum), most.get(inum), shares[inum]
        role: Role = "full" if left == 0 else "filling" if share >= HIGH or (left or SOON) < SOON else "calm"
        level = f"{100 * share:5.1f} %" if limit else "    - %"
        soon = " FULL" if left == 0 else full_in(left)
        filled = round(gauge * min(share, 1))
        bar = (Span("▕"), Span("█" * filled, role), Span("·" * (gauge - filled), "muted"), Span("▏"))
        numbers_of = f"{level} {numbers[inum]} of {limit or '-'} "
        owner = Span(with_owner("", frame.owner_by_netns.get(inum)), "muted")
        made.append(line(*bar, numbers_of, labels.get(int(inum), inum), Span(soon, role), owner, target=("netns", int(inum))))
    others = fullest[len(shown) :]
    if others:
        made.append(line(Span(f"and {sum(numbers[inum] for inum in others)} entries in {len(others)} other namespaces", "muted")))
    return made


def rates(seen: Seen, width: int, rows: int) -> list[Line]:
    """New, gone, lost per second now, and how it went; `rows` for each."""
    frame, bins = seen.moment.frame, seen.moment.history
    counts = bins.everywhere
    columns = max(width - 17, 10)
    made: list[Line] = []
    series: tuple[tuple[Role, float, Rates], ...] = (
        ("new", frame.new_per_s, per_second(bins, counts.new, seen.at_ns, columns)),
        ("gone", frame.gone_per_s, per_second(bins, departures(counts), seen.at_ns, columns)),
        ("lost", frame.lost_per_s, per_second(bins, losses(counts), seen.at_ns, columns)),
    )
    for role, now, values in series:
        drawn = chart(values, rows)
        head = f"{role + '/s':<7}{count(now):>8} "
        for at, text in enumerate(drawn):
            last = at == len(drawn) - 1
            top = f"{'most':>9}{count(float(values.max())):>6} " if at == 0 and not last else " " * 16
            made.append(
                line(Span(head if last else top, role if last and now else "muted" if not last else ""), Span(text, role))
            )
    return made


def chart(values: Rates, rows: int) -> list[str]:
    """As bars of `rows` lines, the highest of them as high as can be; whatever is more than 0 is seen."""
    most = float(values.max(initial=0))
    steps = np.ceil(values / most * 8 * rows).astype(np.int64) if most else np.zeros(len(values), np.int64)
    return ["".join(BARS[min(max(step - 8 * row, 0), 8)] for step in steps.tolist()) for row in range(rows - 1, -1, -1)]


def reasons(seen: Seen, width: int) -> Line:
    """Packets lost by reason in the time of the lines above, and those that were INVALID, lost or not."""
    counts, of_s = seen.moment.history.everywhere, seconds(seen.moment.history, seen.at_ns)
    lost, bad = _sums(counts, bad=False), _sums(counts, bad=True)
    spans = [Span(f"lost in {lasting(of_s)}: ")]
    if lost:
        spans += joined((Span(f"{name} {number}", "lost") for name, number in lost), ", ")
    else:
        spans.append(Span("nothing", "muted"))
    if bad:
        spans += [Span("; INVALID, lost or not: "), *joined((Span(f"{name} {number}", "filling") for name, number in bad), ", ")]
    elif not seen.invalid:
        spans.append(Span("; INVALID packets are not looked for", "muted"))
    resolved = int(counts.resolved.sum())
    if resolved:
        spans.append(Span(f"; clashes resolved {resolved}"))
    return line(*spans)


def _sums(counts: Counts, bad: bool) -> list[tuple[str, int]]:
    sums = ((drop_name(reason), int(lost.sum())) for reason, lost in counts.lost.items() if (reason in FOUND_BAD) == bad)
    return sorted(((name, number) for name, number in sums if number), key=lambda pair: -pair[1])


def groups(seen: Seen, chosen: int, width: int, rows: int) -> list[Line]:
    """A heading and the heaviest groups; the chosen one is always among them."""
    frame = seen.moment.frame
    heads = {"entries": f"{'ENTRIES':>9}", "new": f"{'NEW/s':>10}", "lost": f"{'LOST':>8}"}
    spans = [Span(head, "key" if name == seen.wish.order else "title") for name, head in heads.items()]
    made = [line(*spans, Span("  " + ", ".join(name.upper() for name in frame.by), "title"))]
    first = max(0, min(chosen - (rows - 2), len(frame.groups) - (rows - 1)))
    for at, group in list(enumerate(frame.groups))[first : first + rows - 1]:
        words = group_words(frame.by, group.values, seen.moment.labels)
        role: Role = "chosen" if at == chosen else ""
        numbers = f"{group.entries:>9}{group.new_per_s:>10}"
        lost = Span(f"{group.lost:>8}", role or ("lost" if group.lost else ""))
        rest = width - wide(numbers) - wide(lost.text)
        made.append(line(Span(numbers, role), lost, Span(cut(f"  {words}", rest).ljust(rest), role), target=("group", at)))
    if not frame.groups:
        made.append(line(Span(f"{'-':>9}  nothing that the filter lets pass", "muted")))
    return made


def hash_cells(seen: Seen, rows: int) -> Cells:
    """What the picture has: cells of about equal numbers of buckets."""
    return cells(seen.moment.lengths.of_bucket, rows, COLUMNS)


def picture(seen: Seen, rows: int) -> list[Line]:
    """The hash, each cell as dark as its longest chain; the worst one marked. Beside it, or below it, what that means."""
    found = hash_cells(seen, rows)
    longest = found.longest.tolist()
    worst = int(found.longest.argmax())
    made = []
    for row in range(-(-len(longest) // found.columns)):
        spans: list[Span] = []
        for at in range(row * found.columns, min((row + 1) * found.columns, len(longest))):
            text, role = _shade(longest[at])
            if at == worst and longest[at] > LONG:
                text, role = "X", "worst"
            if spans and spans[-1].role == role:
                spans[-1] = Span(spans[-1].text + text, role)
            else:
                spans.append(Span(text, role))
        made.append(line(*spans, target=("cells", row)))
    return made


def _shade(nodes: int) -> tuple[str, Role]:
    return next(((text, role) for most, text, role in SHADES if nodes <= most), DARKEST)


def legend(seen: Seen) -> list[Line]:
    """The picture in numbers, each line at most 15 characters, the most important first."""
    frame = seen.moment.frame
    long = frame.max_chain > LONG
    nodes = seen.moment.lengths.nodes
    return [
        line(Span(f"longest {frame.max_chain}", "worst" if long else ""), Span(" (b)", "key"), target=("worst", 0)),
        line(f"{frame.buckets} buckets"),
        line(f"{nodes / max(frame.buckets, 1):.2f} nodes each"),
        line(Span("bucket " + ("-" if frame.longest_bucket is None else str(frame.longest_bucket)))),
        line(Span("nodes of longest", "muted")),
        *(line(Span(text, role), Span(f" up to {most}", "muted")) for most, text, role in SHADES[1:]),
        line(Span(*DARKEST), Span(" more", "muted")),
    ]


TIMES = 20  # cells of both ends of a time line


def time_line(seen: Seen, place: Place, width: int) -> list[Line]:
    """A recording from begin to end: where packets were lost, and where we are."""
    bins = place.bins
    columns = max(width - TIMES, 10)
    span_ns = place.end_ns - place.begin_ns
    clock = seen.moment.frame.ts
    lost = losses(bins.everywhere)
    marks: list[Span] = [Span("─", "muted")] * columns
    for at in np.flatnonzero(lost).tolist():
        marks[_column(bins.began_ns + at * bins.width_ns, place, columns)] = Span("!", "lost")
    here = _column(place.at_ns, place, columns)
    marks[here] = Span("●", "chosen")
    first, last = (Span(f" {_time(clock, at_ns - place.at_ns)} ") for at_ns in (place.begin_ns, place.end_ns))
    lengths = f"{lasting((place.at_ns - place.begin_ns) / NS_PER_S)} of {lasting(span_ns / NS_PER_S)}"
    keys = "space play  ←→ scrub  l L loss  j J verdict  +- speed"
    return [line(first, *marks, last, target=("time", 0)), line(Span(f" {keys}", "key"), Span(f"  {lengths}", "muted"))]


def _column(at_ns: int, place: Place, columns: int) -> int:
    share = (at_ns - place.begin_ns) / max(place.end_ns - place.begin_ns, 1)
    return min(max(int(share * (columns - 1) + 0.5), 0), columns - 1)


def time_of(place: Place, cell: int, width: int) -> int:
    """The instant (CLOCK_MONOTONIC) of a cell of a time line that is so wide."""
    share = (cell - TIMES // 2) / max(width - TIMES - 1, 1)
    return place.begin_ns + round(min(max(share, 0.0), 1.0) * (place.end_ns - place.begin_ns))


def _time(clock: str, later_ns: int) -> str:
    """A time of day, so much later than this ISO time, without its date."""
    hours, minutes, rest = clock[11:29].split(":")
    ns = (int(hours) * 60 + int(minutes)) * 60 * NS_PER_S + round(float(rest) * NS_PER_S) + later_ns
    whole = ns // NS_PER_S % 86_400
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def status(seen: Seen) -> Line:
    """Always in sight: whether anything of this is in doubt."""
    number = sum(seen.lost.values())
    lost = Span(f" {number} RECORDS LOST", "lost") if number else Span(" no records lost", "calm")
    spans = [lost, Span(" · ", "muted"), *_proof(seen)]
    if seen.busy:
        spans += [Span(" · ", "muted"), Span(seen.busy, "filling")]
    if number:
        spans.append(Span(" · lost: " + ", ".join(f"{kind} {some}" for kind, some in seen.lost.items()), "muted"))
    return line(*spans)


def _proof(seen: Seen) -> list[Span]:
    proof = seen.proved
    if proof is None:
        return [Span("no proof yet", "muted")]
    ago = f"{lasting((seen.at_ns - proof.at_ns) / NS_PER_S)} ago" if seen.place is None else "then"
    if proof.equal is None:
        return [Span(f"no proof {ago}: {proof.says}", "muted")]
    if proof.equal:
        return [Span(f"table EQUAL to the kernel's {ago}", "calm"), Span(f", {proof.says}", "muted")]
    return [Span(f"table NOT EQUAL to the kernel's {ago}", "critical"), Span(f", {proof.says}", "muted")]
