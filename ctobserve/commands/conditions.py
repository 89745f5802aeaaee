"""What a flight recorder is told: how much to keep, and what for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from ctobserve.capture.when import UNITS_S
from ctobserve.commands.values import Value, number
from ctobserve.documents.triggers import DROP, EARLY_DROP, VERDICTS, Conditions

LONGEST_S = 7 * 86_400
SPAN = re.compile(r"([0-9]{1,9})(s|m|h|d)")
UNITS_BYTES = {"MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
SIZE = re.compile(r"([0-9]{1,9})(MiB|GiB|TiB)")
FILL = re.compile(r"fill>=([0-9]{1,3})%")
LIKE = 5  # verdicts that are named to who misspells one


def span(low_s: int) -> Value:
    """A time from `low_s` to a week, in seconds."""

    def parse(text: str) -> int:
        found = SPAN.fullmatch(text)
        seconds = number(str(int(found[1])), 0, LONGEST_S) * UNITS_S[found[2]] if found else 0
        if not low_s <= seconds <= LONGEST_S:
            raise ValueError(f"is no time from {low_s}s to 7d; write it like 90s, 15m or 2h")
        return int(seconds)

    return Value(parse)


def size(low_mib: int) -> Value:
    """So many bytes, `low_mib` MiB at least."""

    def parse(text: str) -> int:
        found = SIZE.fullmatch(text)
        count = int(found[1]) * UNITS_BYTES[found[2]] if found else 0
        if not low_mib << 20 <= count < 1 << 50:
            raise ValueError(f"is no size from {low_mib}MiB on; write it like 256MiB or 2GiB")
        return count

    return Value(parse)


def _condition(text: str) -> Conditions:
    if text == DROP:
        return Conditions(drop=True)
    if text == EARLY_DROP:
        return Conditions(early_drop=True)
    found = FILL.fullmatch(text)
    if found and 1 <= int(found[1]) <= 100:
        return Conditions(fills=(int(found[1]) / 100,))
    what, _, name = text.partition(":")
    if what == "verdict":
        if name in VERDICTS:
            return Conditions(verdicts=(name,))
        like = get_close_matches(name, VERDICTS, LIKE, 0.4) or [one for one in VERDICTS if name and name in one][:LIKE]
        near = f"; there are {', '.join(like)}" if like else "; docs/json.md lists them under Rules"
        raise ValueError(f"names no verdict of the report{near}")
    raise ValueError(f"is none of {DROP}, {EARLY_DROP}, 'fill>=90%', verdict:ID")


CONDITION = Value(_condition, (DROP, EARLY_DROP, "fill>=90%", *(f"verdict:{name}" for name in VERDICTS)))


def together(conditions: Iterable[Conditions]) -> Conditions:
    """All of them."""
    every = list(conditions)
    return Conditions(
        any(one.drop for one in every),
        any(one.early_drop for one in every),
        frozenset(share for one in every for share in one.fills),
        frozenset(name for one in every for name in one.verdicts),
    )
