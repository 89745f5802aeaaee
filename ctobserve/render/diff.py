"""What is different, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ctobserve.documents.diff import DiffDocument, DiffNamespace
from ctobserve.documents.instant import DiffInstant
from ctobserve.render.folding import folded
from ctobserve.render.groups import group_words

NAMESPACES = 3  # of which it is said how full they are
NAMED = 10  # names in a line
WIDTH = 9  # of what begins a line
INDENT = " " * (WIDTH + 1)
BOOTS = {
    False: "Of two hosts, or of two boots of one: namespaces are matched by name alone, and counters are not compared.",
    None: "It is not known whether both are of one boot: namespaces are matched by name alone, and counters are not compared.",
}

EARLIER = "The second is the earlier of the two: what came here has gone since, and counters are not compared; name it first."


def diff_lines(found: DiffDocument) -> Iterator[str]:
    """What is compared, how full the table was and is, what else is different, then the groups that changed."""
    for name, one in (("first", found.first), ("second", found.second)):
        yield f"{name:<{WIDTH}} {_time(one.at)}  {one.file}{_doubt(one)}"
    if not found.one_boot:
        yield from folded(BOOTS[found.one_boot])
    if found.second.at < found.first.at:
        yield from folded(EARLIER)
    yield from _tables(found)
    yield from _namespaces(found.namespaces)
    for setting in found.sysctls:
        yield _line(
            "sysctl", f"{setting.name}: {_or_none(setting.first)} -> {_or_none(setting.second)} in {_names(setting.netns)}"
        )
    if found.counters is not None:
        gained = [f"{name} +{count}" for name, count in found.counters.gained.items() if count]
        since, until = _time(found.counters.since), _time(found.counters.until)
        yield from folded(_line("counters", f"{', '.join(gained) or 'none moved'} from {since} to {until}"), INDENT)
    yield from _groups(found)


def _tables(found: DiffDocument) -> Iterator[str]:
    first, second = found.first, found.second
    moved = f"{found.came} came, {found.went} went, {found.stayed} stayed"
    yield _line("entries", f"{first.entries} -> {second.entries}: {moved}")
    for name, old, new, of in (
        ("buckets", first.buckets, second.buckets, ""),
        ("chains", first.max_chain, second.max_chain, " nodes in the longest"),
        ("kernel", first.kernel, second.kernel, ""),
    ):
        if old != new:
            yield _line(name, f"{old} -> {new}{of}")


def _namespaces(rows: Sequence[DiffNamespace]) -> Iterator[str]:
    for row in rows[:NAMESPACES]:
        yield _line("full", f"{_level(row.first, row.first_max)} -> {_level(row.second, row.second_max)} in {row.netns}")
    came = [row.netns for row in rows if row.first is None]
    gone = [row.netns for row in rows if row.second is None]
    for what, names in (("came", came), ("gone", gone)):
        if names:
            yield from folded(_line("netns", f"{what}: {_names(names)}"), INDENT)


def _groups(found: DiffDocument) -> Iterator[str]:
    if not found.groups:
        return
    yield ""
    yield f"{'CHANGE':>9} {'FIRST':>9} {'SECOND':>9} {'CAME':>9} {'WENT':>9}  {', '.join(name.upper() for name in found.by)}"
    for group in found.groups:
        counts = f"{group.second - group.first:>+9} {group.first:>9} {group.second:>9} {group.came:>9} {group.went:>9}"
        yield f"{counts}  {group_words(found.by, group.values, {})}"
    if found.more_groups:
        yield f"and {found.more_groups} other groups that changed"


def _line(name: str, text: str) -> str:
    return f"{name:<{WIDTH}} {text}"


def _time(iso: str) -> str:
    """To the millisecond, with the date: what is compared may be of two days."""
    return f"{iso[:23]}Z"


def _doubt(one: DiffInstant) -> str:
    lost = f"; {one.events_lost} records lost until then" if one.events_lost else ""
    return lost + (f", the table wrong for up to {one.table_uncertain_s} s" if one.table_uncertain_s else "")


def _level(count: int | None, limit: int | None) -> str:
    if count is None:
        return "not there"
    return f"{count} of {limit} ({100 * count / limit:.1f} %)" if limit else f"{count} of -"


def _or_none(value: int | None) -> str:
    return "-" if value is None else str(value)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
