"""Times as people write them, and which instant of a recording they mean. All are UTC."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from ctobserve.capture.recorded import RecordedView
from ctobserve.clock import NS_PER_S
from ctobserve.errors import UsageError

DAY_S = 86_400
UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": DAY_S}
BEFORE = re.compile(r"-([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")
TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:\.([0-9]{1,9}))?)?")
DATED = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:\.([0-9]{1,9}))?Z?")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class When(NamedTuple):
    """An instant as `text` says it: ns since 1970, ns since midnight of whatever day, ns before the end, or the begin."""

    text: str
    wall_ns: int | None = None
    of_day_ns: int | None = None
    before_end_ns: int = 0
    begins: bool = False

    def within(self, view: RecordedView) -> int:
        """CLOCK_MONOTONIC of the recorded host. Raises UsageError where the recording is not of that time."""
        at_ns = self._meant(view)
        if not view.begin_ns <= at_ns <= view.end_ns:
            begin, end = view.iso(view.begin_ns), view.iso(view.end_ns)
            raise UsageError(f"{self.text} is no time of the recording, which is from {begin} to {end}")
        return at_ns

    def _meant(self, view: RecordedView) -> int:
        if self.wall_ns is not None:
            return view.monotonic_ns(self.wall_ns)
        if self.begins:
            return view.begin_ns
        if self.of_day_ns is None:
            return view.end_ns - self.before_end_ns
        # Of the last day of the recording on which it was so late.
        end_ns = view.wall_ns()
        midnight_ns = end_ns - end_ns % (DAY_S * NS_PER_S)
        late = midnight_ns + self.of_day_ns > end_ns
        return view.monotonic_ns(midnight_ns + self.of_day_ns - late * DAY_S * NS_PER_S)


BEGIN, END = When("the begin", begins=True), When("the end")


def parse(text: str) -> When:
    """Raises ValueError, with what would be right."""
    before = BEFORE.fullmatch(text)
    if before:
        return When(text, before_end_ns=round(float(before[1]) * UNITS_S[before[2]] * NS_PER_S))
    of_day = TIME_OF_DAY.fullmatch(text)
    if of_day:
        hours, minutes, seconds, part = of_day.groups("0")
        whole_s = (int(hours) * 60 + int(minutes)) * 60 + int(seconds)
        return When(text, of_day_ns=whole_s * NS_PER_S + int(part.ljust(9, "0")))
    dated = DATED.fullmatch(text)
    with suppress(ValueError):
        if dated:
            since = datetime.fromisoformat(f"{dated[1]}+00:00") - EPOCH
            part_ns = int((dated[2] or "").ljust(9, "0"))
            return When(text, wall_ns=(since.days * DAY_S + since.seconds) * NS_PER_S + part_ns)
    raise ValueError("is no time; write it like 12:03:05, 2026-11-26T12:03:05Z or, before the end, -90s")
