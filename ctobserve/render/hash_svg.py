"""The two pictures of the hash as SVG: chains seen beside those of a perfect hash, and the hash as cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from ctobserve.documents.chains import HashCells
from ctobserve.render.markup import Markup, text

WIDTH, LEFT, RIGHT = 480, 52, 6
PLOT_TOP, PLOT_HEIGHT = 24, 180
MOST_BARS = 60
# The longest chain of a cell, from so many nodes on; the first are empty cells.
LEVELS = (0, 1, 3, 5, 9, 17, 33)
STEP, SIDE = 7.3, 6.6
TITLE = 32


class Spread(Protocol):
    """What a document says of the chains."""

    @property
    def histogram(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def expected(self) -> Mapping[str, float]: ...  # noqa: D102
    @property
    def buckets(self) -> int: ...  # noqa: D102
    @property
    def max_chain(self) -> int: ...  # noqa: D102
    @property
    def chain_limit_from(self) -> int | None: ...  # noqa: D102
    @property
    def verdict(self) -> str: ...  # noqa: D102
    @property
    def cells(self) -> HashCells: ...  # noqa: D102


class Picture(NamedTuple):
    """WIDTH wide, so high: what is drawn, and what it shows in words."""

    kind: str
    title: str
    says: str
    height: int
    drawn: tuple[Markup, ...]


class Bar(NamedTuple):
    """Buckets with chains of `first` to `last` nodes."""

    first: int
    last: int
    seen: int
    perfect: float

    @property
    def label(self) -> str:
        """As an axis names it."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def bars(spread: Spread) -> list[Bar]:
    """From the shortest chain that there is, or should be, to the longest; several lengths in one where they are many."""
    lengths = [int(nodes) for nodes, count in spread.histogram.items() if count or spread.expected[nodes] >= 0.5]
    first, last = min(lengths), max(lengths)
    step = math.ceil((last - first + 1) / MOST_BARS)
    return [
        Bar(
            start,
            end := min(start + step - 1, last),
            sum(spread.histogram[str(nodes)] for nodes in range(start, end + 1)),
            sum(spread.expected[str(nodes)] for nodes in range(start, end + 1)),
        )
        for start in range(first, last + 1, step)
    ]


def hash_pictures(spread: Spread) -> tuple[Picture, Picture]:
    """Both, of the same chains."""
    return chains_picture(spread), cells_picture(spread)


def chains_picture(spread: Spread) -> Picture:
    """A bar for each length, a line across it where a perfect hash would end; buckets on a scale of powers of ten."""
    shown = bars(spread)
    decades = max(1, math.ceil(math.log10(max(max(bar.seen, bar.perfect) for bar in shown))))
    width = (WIDTH - LEFT - RIGHT) / len(shown)
    bottom = PLOT_TOP + PLOT_HEIGHT

    def height(count: float) -> float:
        """Of one bucket a little, so that it is seen."""
        return 0.0 if count < 0.5 else PLOT_HEIGHT * (math.log10(max(count, 1.0)) + 0.08) / (decades + 0.08)

    def drawn() -> Iterable[Markup]:
        for decade in range(decades + 1):
            y = bottom - height(10**decade)
            yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text class="faint" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(10**decade)}</text>'
        for at, bar in enumerate(shown):
            x, tall = LEFT + at * width, height(bar.seen)
            says = f"{bar.label} nodes: {bar.seen} buckets, {bar.perfect:.1f} by a perfect hash"
            yield f'<g class="bar"><title>{text(says)}</title>'
            yield (
                f'<rect class="seen" x="{x + width * 0.12:.1f}" y="{bottom - tall:.1f}" '
                f'width="{width * 0.76:.1f}" height="{tall:.1f}"/>'
            )
            if bar.perfect >= 0.5:
                y = bottom - height(bar.perfect)
                yield f'<line class="perfect" x1="{x:.1f}" x2="{x + width:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield "</g>"
        every = max(1, math.ceil(len(shown) * max(len(bar.label) for bar in shown) * 9 / (WIDTH - LEFT)))
        for at in range(0, len(shown), every):
            yield (
                f'<text class="faint" x="{LEFT + (at + 0.5) * width:.1f}" y="{bottom + 16}" '
                f'text-anchor="middle">{shown[at].label}</text>'
            )
        limit = spread.chain_limit_from
        if limit is not None and shown[0].first < limit <= shown[-1].last:
            at = next(at for at, bar in enumerate(shown) if bar.last >= limit)
            x = LEFT + at * width
            yield f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{PLOT_TOP - 4}" y2="{bottom}"/>'
            left = x > WIDTH / 2
            place = f'x="{x + (-5 if left else 5):.1f}" y="{PLOT_TOP + 6}" text-anchor="{"end" if left else "start"}"'
            yield f'<text class="limit-text" {place}>refused from {limit} on</text>'
        yield '<text x="0" y="12">buckets</text>'
        yield f'<text x="{WIDTH - RIGHT}" y="{bottom + 34}" text-anchor="end">nodes in a chain</text>'
        yield f'<rect class="seen" x="{LEFT}" y="{bottom + 24}" width="14" height="11"/>'
        yield f'<text x="{LEFT + 20}" y="{bottom + 34}">seen</text>'
        yield f'<line class="perfect" x1="{LEFT + 70}" x2="{LEFT + 88}" y1="{bottom + 30}" y2="{bottom + 30}"/>'
        yield f'<text x="{LEFT + 94}" y="{bottom + 34}">by a perfect hash</text>'

    return Picture("chains", "Chains seen beside those of a perfect hash", chains_in_words(spread), bottom + 42, tuple(drawn()))


def cells_picture(spread: Spread) -> Picture:
    """Each cell a stretch of buckets, the darker the longer its longest chain; a dot where the kernel may refuse entries."""
    cells = spread.cells
    limit = spread.chain_limit_from
    rows = math.ceil(len(cells.longest) / cells.columns)
    below = 4 + rows * STEP

    def drawn() -> Iterable[Markup]:
        for at, longest in enumerate(cells.longest):
            row, column = divmod(at, cells.columns)
            x, y = 6 + column * STEP, 4 + row * STEP
            refuses = limit is not None and longest >= limit
            says = f"<title>bucket {cells.worst[at]}: {longest} nodes; {cells.nodes[at]} in this cell</title>" if longest else ""
            place = f'x="{x:.1f}" y="{y:.1f}" width="{SIDE}" height="{SIDE}"'
            yield f'<rect class="cell {"refuses" if refuses else _level(longest)}" {place}>{says}</rect>'
            if refuses:
                yield f'<circle class="dot" cx="{x + SIDE / 2:.1f}" cy="{y + SIDE / 2:.1f}" r="1.3"/>'
        keys = [(f"h{at}", _range(at)) for at in range(len(LEVELS)) if LEVELS[at] <= spread.max_chain]
        keys += [("refuses", f"refused from {limit}")] if limit is not None and spread.max_chain >= limit else []
        x, y = 6.0, below + 14
        for kind, says in keys:
            wide = 17 + 7.6 * len(says) + 8
            if x + wide > WIDTH:
                x, y = 6.0, y + 18
            yield f'<rect class="{kind}" x="{x:.1f}" y="{y}" width="12" height="12"/>'
            yield f'<text x="{x + 17:.1f}" y="{y + 11}">{says}</text>'
            x += wide
        yield f'<text class="faint" x="6" y="{y + 32}">nodes in the longest chain of a cell</text>'

    return Picture("cells", "The hash, bucket 0 at the top left", cells_in_words(spread), round(below + 70), tuple(drawn()))


def chains_in_words(spread: Spread) -> str:
    """What the first picture shows."""
    shown = bars(spread)
    most = max(shown, key=lambda bar: bar.seen)
    longest = max((bar.last for bar in shown if bar.perfect >= 0.5), default=0)
    return (
        f"{spread.buckets} buckets; most, {most.seen}, have {most.label} nodes; the longest chain has {spread.max_chain}, "
        f"a perfect hash's would have about {longest}"
    )


def cells_in_words(spread: Spread) -> str:
    """What the second picture shows."""
    cells = spread.cells
    worst = max(range(len(cells.longest)), key=lambda at: cells.longest[at])
    if not spread.max_chain:
        return f"{len(cells.longest)} cells, all empty"
    busy = sum(longest > 0 for longest in cells.longest)
    each = math.ceil(spread.buckets / len(cells.longest))
    return (
        f"{len(cells.longest)} cells of {each} {'bucket' if each == 1 else 'buckets'} at most, {busy} with entries; "
        f"the longest chain is that of bucket {cells.worst[worst]}: {spread.max_chain} nodes"
    )


def within_html(picture: Picture) -> Markup:
    """As an element of a page, as wide as there is room."""
    return _svg(picture, "hash ", "")


def standing_alone(pictures: Sequence[Picture], style: str) -> Iterable[str]:
    """Lines of an SVG document with these, one below the other, each below its title."""
    high = sum(picture.height + TITLE for picture in pictures)
    yield f'<svg xmlns="http://www.w3.org/2000/svg" class="hash" viewBox="-12 -8 {WIDTH + 24} {high + 8}" width="{2 * WIDTH}">'
    yield f"<style>{style}</style>"
    yield f'<rect class="paper" x="-12" y="-8" width="{WIDTH + 24}" height="{high + 8}"/>'
    below = 0
    for picture in pictures:
        yield f'<text class="title" x="0" y="{below + 20}">{text(picture.title)}</text>'
        below += TITLE
        yield _svg(picture, "", f' y="{below}" width="{WIDTH}" height="{picture.height}"')
        below += picture.height
    yield "</svg>"


def _svg(picture: Picture, kinds: str, place: Markup) -> Markup:
    kind, title, says, height, drawn = picture
    names = f"{kind}-title {kind}-says"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{kinds}{kind}" viewBox="0 0 {WIDTH} {height}"{place} role="img" '
        f'aria-labelledby="{names}">\n<title id="{kind}-title">{text(title)}</title>\n'
        f'<desc id="{kind}-says">{text(says)}</desc>\n{chr(10).join(drawn)}\n</svg>'
    )


def _level(longest: int) -> str:
    return f"h{max(at for at, least in enumerate(LEVELS) if longest >= least)}"


def _range(at: int) -> str:
    last = LEVELS[at + 1] - 1 if at + 1 < len(LEVELS) else None
    return f"{LEVELS[at]} or more" if last is None else str(last) if last == LEVELS[at] else f"{LEVELS[at]}-{last}"


def _short(count: int) -> str:
    return f"{count // 10**6}M" if count >= 10**6 else f"{count // 1000}k" if count >= 1000 else str(count)
