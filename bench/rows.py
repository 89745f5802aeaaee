"""The bench's result as sections of rows, each with its ratio and its bar. What has a bar, and which, is said here alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from bench.big import BUCKETS, MANY_CPUS, NAMESPACES, Big, Run
from bench.measured import Measured
from bench.observers import LISTENER
from bench.replay import COPIED, TABLE
from bench.scrape import HASH, SPACES
from bench.terminal import DROPS, FULL, PER_S, TENTHS

LISTING = "conntrack -L"
NOT_INSTALLED, TOO_LONG = "not installed", "not measured: it takes the square of so many"
MILLION = 1e6
CORE, SHARE = 3_000, 0.03  # million instructions that a core executes in a second, and how much of it the full screen may cost
SCRAPE = 1_000  # million instructions
Asked = Mapping[int, Mapping[str, tuple[float, int]]]  # hosts -> question -> seconds of CPU, bytes
RESIDENT = {"own": "its own", "files": "mapped from files, and the ring"}


class Bar(NamedTuple):
    """What is wanted: at most, or at least, `limit`, of what was measured or of the row's ratio."""

    limit: float
    least: bool = False
    of_ratio: bool = False

    def __str__(self) -> str:
        return f"{'≥' if self.least else '≤'} {number(self.limit)}{' x' if self.of_ratio else ''}"


LINEAR = Bar(12, of_ratio=True)  # ten times as many hosts
# For a new entry: in all, and the kernel's part of it.
BARS = {
    **dict.fromkeys(("ctobserve buckets, kprobe", "ctobserve buckets, fentry"), (Bar(1_500), Bar(600))),
    **dict.fromkeys(("ctobserve export, kprobe", "ctobserve export, fentry"), (Bar(400), None)),
    "ctobserve events": (Bar(6_000), None),
    "ctobserve record": (Bar(2_500), None),
}
# Of whole runs: what each network namespace, in millions of instructions, and each bucket adds at most.
BARS_OF_NAMESPACE = {"list": None, "top": None, "drops": Bar(2), "report": Bar(6)}
BARS_OF_BUCKET = {"list": Bar(250), "buckets": Bar(400), "top": Bar(250), "report": Bar(500)}


class Row(NamedTuple):
    """`ratio` says how many times as `against` says; `part_of` which row it belongs under; `note` what the numbers hide."""

    what: str
    measured: Measured | None
    ratio: float | None = None
    against: str = ""
    bar: Bar | None = None
    part_of: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """What it is, said without the rows around it."""
        return f"{self.part_of}, {self.what}" if self.part_of else self.what

    @property
    def part_of_bar(self) -> float | None:
        """How many times the bar it is: above 1 means missed where the bar is a most, met where it is a least."""
        found = self.ratio if self.bar and self.bar.of_ratio else self.measured and self.measured.value
        return found / self.bar.limit if self.bar and found is not None else None

    @property
    def met(self) -> bool | None:
        """None where there is no bar, or nothing was measured."""
        part = self.part_of_bar
        if self.bar is None or part is None:
            return None
        return part >= 1 if self.bar.least else part <= 1


class Section(NamedTuple):
    """Rows of one unit; `says` is how they were measured."""

    title: str
    unit: str
    says: str
    rows: tuple[Row, ...]


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"


def sections(guest: dict[str, Any], native: dict[str, Measured], asked: Asked | None = None) -> list[Section]:
    """All that was measured, in reading order: `guest` as bench/guest.py prints it, `native` as bench/replay.py gives it, `asked`
    as bench/fleet.py."""
    found = [_new_entries(flood) for flood in guest.get("new", ())]
    found += _recordings(guest.get("new", ()))
    if "idle" in guest:
        found += [_idle(guest["idle"]), _memory(guest["memory"])]
    if "terminal" in guest:
        found.append(_terminal(guest["terminal"]))
    if "scrape" in guest:
        found.append(_scrape(guest["scrape"]))
    if "starts" in guest:
        found.append(_starts(guest["starts"]))
    if "reading" in guest:
        found += [_reading(guest["reading"]), _table_bytes(*guest["table_bytes"])]
    if "big" in guest:
        one, many = Big.of_json(guest["big"]), Big.of_json(guest["big_cpus"])
        found += [_many_cpus(one, many), _many_namespaces(one, many), _many_buckets(one), _much_memory(one, many)]
    if native:
        found.append(_ring(native))
    if asked:
        found += [_questions(asked), _memory_of_questions(asked)]
    return found


def as_json(table: list[Section]) -> list[dict[str, object]]:
    """A flat object for each row."""
    return [
        {
            "section": section.title,
            "what": row.name,
            "value": row.measured and row.measured.value,
            "low": row.measured and row.measured.low,
            "high": row.measured and row.measured.high,
            "unit": section.unit,
            "ratio": row.ratio,
            "against": row.against,
            "bar": row.bar and str(row.bar),
            "met": row.met,
            "part_of_bar": row.part_of_bar,
            "note": row.note,
        }
        for section in table
        for row in section.rows
    ]


def _measured(found: list[float] | None) -> Measured | None:
    """As JSON has it."""
    return Measured(*found) if found else None


def _over(one: Measured | None, other: Measured | None) -> float | None:
    return one.value / other.value if one and other and other.value else None


def _new_entries(flood: dict[str, Any]) -> Section:
    alone, listener = _measured(flood["alone"]), None
    rows = [Row("nobody watches: the entry itself", alone)]
    for cost in flood["costs"]:
        name, warm = cost["name"], _measured(cost["warm"])
        if warm is None:
            rows.append(Row(name, None, note=NOT_INSTALLED))
            continue
        listener = warm if name == LISTENER else listener
        of_all, of_kernel = BARS.get(name, (None, None))
        seen = cost["seen"]
        note = "" if seen is None or seen == 1 else f"saw {seen:.0%} of the events"
        ratio, against = _over(listener, warm), f"x as cheap as {LISTENER}"
        if name == LISTENER or listener is None:
            ratio, against = _over(warm, alone), "x the entry itself"
        rows += [
            Row(name, warm, ratio, against, of_all, note=note),
            Row("the kernel's part", _measured(cost["kernel"]), bar=of_kernel, part_of=name),
            Row("its own part", _measured(cost["process"]), part_of=name),
            Row("the first flood, cold", Measured.of([cost["cold"]]), part_of=name),
        ]
    says = (
        "Of the whole machine; beside an observer, what it adds to the entry itself, a UDP datagram without reply. Floods are"
        " warm: the first after the observer began to watch has a row of its own. The kernel's part is what its process did not"
        " spend."
    )
    return Section(f"New entries, floods of {flood['entries']:,}", "instructions per entry", says, tuple(rows))


def _idle(rates: dict[str, list[float]]) -> Section:
    rows = tuple(Row(name, Measured(*rate).over(MILLION), bar=Bar(2)) for name, rate in rates.items())
    return Section("While nothing happens", "million instructions a second", "Whole machine, over nobody watching.", rows)


def _terminal(rates: dict[str, list[float]]) -> Section:
    """The bar is of what the full screen costs beyond `drops`, which watches alike and draws nothing."""
    found = {name: Measured(*rate).over(MILLION) for name, rate in rates.items()}
    drops, full = found[DROPS], found[FULL]
    beyond = Measured(*(value - drops.value for value in full))
    rows = [Row(name, measured) for name, measured in found.items()]
    rows.append(Row(f"beyond {DROPS}", beyond, bar=Bar(SHARE * CORE), part_of=FULL))
    entries, core = f"{PER_S * TENTHS // 10:,}", f"{CORE:,}"
    says = (
        f"Whole machine, over the same flood with nobody watching, of a table that grows from nothing to {entries} entries; a"
        f" frame a second. The bar is {SHARE:.0%} of a core that executes {core} million instructions a second."
    )
    return Section(f"While {PER_S:,} entries a second are new", "million instructions a second", says, tuple(rows))


def _scrape(scraped: dict[str, list[float]]) -> Section:
    rows = tuple(Row(name, Measured(*found).over(MILLION), bar=Bar(SCRAPE)) for name, found in scraped.items())
    says = (
        f"Whole machine, client and all, with {SPACES:,} network namespaces, each named and with an entry, and {HASH:,} buckets."
        " The bar is a second of the guest's, which executes an instruction in a nanosecond."
    )
    return Section("A scrape", "million instructions", says, rows)


def _memory(memory: dict[str, dict[str, int]]) -> Section:
    rows = []
    for name, found in memory.items():
        for what, size in found.items():
            measured = Measured.of([size / MILLION])
            if what == "resident":
                rows.append(Row(name, measured, bar=Bar(60) if name == "ctobserve drops" else None))
            else:
                rows.append(Row(RESIDENT[what], measured, part_of=name))
    says = (
        "Resident after five seconds, page by page: the ring too, of 32 MiB, of losses alone 8, once for each of the two times"
        " that it is mapped."
    )
    return Section("Memory", "MB", says, tuple(rows))


def _starts(starts: dict[str, dict[str, list[float]]]) -> Section:
    rows = []
    for command, start in starts.items():
        cold, warm = Measured(*start["cold"]).over(MILLION), Measured(*start["warm"]).over(MILLION)
        rows.append(Row(f"{command}, warm", warm))
        rows.append(Row(f"{command}, cold: the cache is empty", cold, _over(cold, warm), "x warm", Bar(1.5, of_ratio=True)))
    says = "Whole machine, from exec until the ready file is there. The programs come compiled."
    return Section("Starts", "million instructions", says, tuple(rows))


def _reading(reading: dict[str, list[float] | None]) -> Section:
    listing = _measured(reading[LISTING])
    bars = {"ctobserve walk": Bar(5, least=True, of_ratio=True), "ctobserve lengths": Bar(20, least=True, of_ratio=True)}
    rows = []
    for name, found in reading.items():
        measured = _measured(found)
        ratio = None if name == LISTING else _over(listing, measured)
        rows.append(Row(name, measured, ratio, f"x as cheap as {LISTING}", bars.get(name), note="" if measured else TOO_LONG))
    says = "Of the reading process, user and system, without its start."
    return Section("Reading a table", "instructions per entry", says, tuple(rows))


def _table_bytes(kept: float, most: float) -> Section:
    rows = (Row("kept", Measured.of([kept]), bar=Bar(300)), Row("while it is filled, at most", Measured.of([most])))
    return Section("The followed table", "bytes per entry", "Allocated by Python and NumPy.", rows)


def _recordings(floods: Iterable[dict[str, Any]]) -> list[Section]:
    """What one takes on the disk; nothing where none was made."""
    rows = tuple(
        Row(f"a flood of {flood['entries']:,}", Measured.of([cost["event_bytes"]]), bar=Bar(40))
        for flood in floods
        for cost in flood["costs"]
        if cost["event_bytes"] is not None
    )
    says = "Of the compressed rows: inserts, and the destroys of a flush; the table at begin and end is in them."
    return [Section("A recording", "bytes per event", says, rows)] if rows else []


def _ring(native: dict[str, Measured]) -> Section:
    ours = native[TABLE]
    rows = [Row(TABLE, ours, bar=Bar(5e6, least=True))]
    for way, rate in native.items():
        if way != TABLE:
            bar = Bar(10, least=True, of_ratio=True) if way == COPIED else None
            rows.append(Row(way, rate, _over(ours, rate), f"x slower than {TABLE}", bar))
    says = "Of one core, of CPU time, from a ring that was recorded: no kernel and no VM is in it."
    return Section("From the ring", "events/s of this machine", says, tuple(rows))


def _questions(asked: Asked) -> Section:
    """What a start takes is in the first, so that of ten times as many hosts less than ten times is wanted."""
    few, *_, some, many = sorted(asked)
    rows = []
    for name in asked[many]:
        cpu = {hosts: asked[hosts][name][0] for hosts in asked}
        rows += [
            Row(f"{name}, {many:,} hosts", Measured.of([cpu[many]]), cpu[many] / cpu[some], f"x {some:,} hosts", LINEAR),
            *(Row(f"{hosts:,} hosts", Measured.of([cpu[hosts]]), part_of=name) for hosts in (some, few)),
        ]
    says = "Whole runs of `ctobserve fleet` by DuckDB, of a generated fleet with three recordings a day of each host."
    return Section("A question to a fleet", "seconds of CPU of this machine", says, tuple(rows))


def _memory_of_questions(asked: Asked) -> Section:
    rows = [
        Row(f"{name}, {max(asked):,} hosts", Measured.of([peak / MILLION]), bar=Bar(2 * 1024**3 / MILLION))
        for name, (_, peak) in asked[max(asked)].items()
    ]
    return Section("Memory of a question", "MB", "The most that was resident in these runs.", tuple(rows))


def _many_cpus(one: Big, many: Big) -> Section:
    rows = []
    for name, watching in one.watching.items():
        start, more = watching.start.over(MILLION), many.watching[name].start.over(MILLION)
        rows += [
            Row(f"{name}, 1", start),
            Row(f"{name}, {MANY_CPUS}", more, _over(more, start), "x with 1", Bar(1.3, of_ratio=True)),
        ]
    says = "A start, of the whole machine, from exec until the ready file is there, with so many possible CPUs."
    return Section(f"{MANY_CPUS} possible CPUs", "million instructions", says, tuple(rows))


def _many_namespaces(one: Big, many: Big) -> Section:
    """The second half must cost no more than the first: else the cost grows with the square."""
    _, half, all_of = NAMESPACES[1]
    rows = []
    for name, bar in BARS_OF_NAMESPACE.items():
        first, second = (_each(one.namespaces, name, *pair) for pair in ((0, half), (half, all_of)))
        rows.append(Row(f"ctobserve {name}", _each(one.namespaces, name, 0, all_of), bar=bar))
        if bar:
            rows.append(
                Row(
                    f"the last {half} of them",
                    second,
                    _over(second, first),
                    "x the first",
                    Bar(1.2, of_ratio=True),
                    rows[-1].what,
                )
            )
        rows.append(
            Row(
                f"with {MANY_CPUS} possible CPUs",
                _each(many.namespaces, name, *NAMESPACES[MANY_CPUS][::2]),
                part_of=f"ctobserve {name}",
            )
        )
    says = f"Of the process, whole runs: what each of {all_of:,} network namespaces adds, each named and with an entry."
    return Section(f"{all_of:,} network namespaces", "million instructions per namespace", says, tuple(rows))


def _each(runs: dict[int, dict[str, Run]], name: str, few: int, many: int) -> Measured:
    return Measured.of([(runs[many][name].instructions - runs[few][name].instructions) / (many - few) / MILLION])


def _many_buckets(big: Big) -> Section:
    few, many = BUCKETS
    rows = []
    for what in ("lengths", "walk"):
        usual, more = (getattr(big.buckets[count], what) for count in BUCKETS)
        rows += [
            Row(f"{what}, {few:,}", usual),
            Row(f"{what}, {many:,}", more, _over(more, usual), f"x with {few:,}", Bar(1.05, of_ratio=True)),
        ]
    runs = {count: passes.runs for count, passes in big.buckets.items()}
    for name, bar in BARS_OF_BUCKET.items():
        rows.append(Row(f"ctobserve {name}", _each(runs, name, few, many).over(1 / MILLION), bar=bar))
    says = "Of the process, of a table that is nearly empty: a pass over all buckets; and what each more adds to whole runs."
    return Section(f"{many:,} buckets", "instructions per bucket", says, tuple(rows))


def _much_memory(one: Big, many: Big) -> Section:
    (few, buckets), (none, _, namespaces) = BUCKETS, NAMESPACES[1]
    rows = []
    for name, run in one.namespaces[none].items():
        beyond = {
            f"beyond that, {MANY_CPUS} possible CPUs": many.namespaces[none][name].peak_bytes - run.peak_bytes,
            f"beyond that, {namespaces:,} namespaces": one.namespaces[namespaces][name].peak_bytes - run.peak_bytes,
            f"beyond that, {buckets:,} buckets": one.buckets[buckets].runs[name].peak_bytes
            - one.buckets[few].runs[name].peak_bytes,
        }
        rows.append(Row(f"ctobserve {name}", Measured.of([run.peak_bytes / MILLION])))
        rows += [Row(what, Measured.of([size / MILLION]), bar=Bar(64), part_of=rows[-1].what) for what, size in beyond.items()]
    for name, watching in many.watching.items():
        rows.append(
            Row(
                f"maps of {name}, {MANY_CPUS} CPUs",
                Measured.of([watching.maps_bytes / MILLION]),
                bar=Bar(64),
            )
        )
    says = (
        f"The most that was resident in a whole run, with 1 possible CPU, {few:,} buckets and no namespace but the first; maps in"
        " the kernel without the ring."
    )
    return Section("Memory on a big machine", "MB", says, tuple(rows))
