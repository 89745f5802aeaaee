"""Times as people write them: what each means, of a recording of a few minutes around midnight."""

from __future__ import annotations

import pytest

from ctobserve.capture.when import BEGIN, END, parse
from ctobserve.clock import NS_PER_S, iso
from ctobserve.errors import UsageError
from tests.scripted import CLOCK

MIDNIGHT_NS = 1_700_006_400 * NS_PER_S  # 2023-11-15


class Recording:
    """From 23:58:20 to 00:01:40."""

    begin_ns, end_ns = CLOCK.monotonic_ns, CLOCK.monotonic_ns + 200 * NS_PER_S
    began_ns = MIDNIGHT_NS - 100 * NS_PER_S

    def monotonic_ns(self, wall_ns: int) -> int:
        return wall_ns - self.began_ns + self.begin_ns

    def iso(self, at_ns: int) -> str:
        return iso(at_ns - self.begin_ns + self.began_ns)

    def wall_ns(self) -> int:
        return self.end_ns - self.begin_ns + self.began_ns


@pytest.mark.parametrize(
    ("text", "at_s"),
    [
        ("-0s", 200),
        ("-90s", 110),
        ("-1.5m", 110),
        ("-250ms", 199.75),
        ("23:59", 40),
        ("23:59:30", 70),
        ("00:00:00", 100),
        ("00:01:00.25", 160.25),
        ("2023-11-14T23:59", 40),
        ("2023-11-15T00:00:01", 101),
        ("2023-11-15T00:00:01.000000001Z", 101.000000001),
    ],
)
def test_an_instant(text, at_s):
    assert parse(text).within(Recording()) == Recording.begin_ns + round(at_s * NS_PER_S)


def test_the_begin_and_the_end_are_two():
    assert (BEGIN.within(Recording()), END.within(Recording())) == (Recording.begin_ns, Recording.end_ns)


@pytest.mark.parametrize("text", ["-201s", "-1h", "12:00", "23:58:19", "00:01:41", "2023-11-14T00:00", "9999-12-31T23:59"])
def test_what_lies_outside_is_said_with_what_lies_within(text):
    with pytest.raises(UsageError) as failed:
        parse(text).within(Recording())
    within = "2023-11-14T23:58:20.000000000Z to 2023-11-15T00:01:40.000000000Z"
    assert str(failed.value) == f"{text} is no time of the recording, which is from {within}"


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "90s", "-90", "-s", "-1y", "24:00", "12:60", "1:02", "12:00:00.", "2023-11-14", "2023-13-01T00:00"),
        *("2023-11-14 12:00", "2023-11-14T12:00+01:00", "\u0661\u0662:00", "-9999999999s"),
    ],
)
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match=r"is no time; write it like 12:03:05"):
        parse(text)
