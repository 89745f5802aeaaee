"""docs/lab.md shows what really comes: a few of its sessions are held again, numbers aside."""

from __future__ import annotations

import re
from itertools import groupby

import pytest

from tests.kernel.sessions import sessions, told

# Each is there for another shape of output: a report, two hosts and NAT, a change of rules, a proof.
SHOWN = ("table_full", "snat_ports", "stale_udp", "resize")


def shape(text: str) -> list[str]:
    """Words with all numbers alike, wherever lines break; a line may come once per CPU."""
    lines = [re.sub(r"[0-9][0-9a-f.:+-]*", "N", line) for line in text.splitlines()]
    # 7.3 says where, in the kernel's own line.
    lines = [line.replace("table full in netns N, dropping", "table full, dropping") for line in lines]
    return " ".join(line for line, _ in groupby(lines)).split()


@pytest.mark.parametrize("name", SHOWN)
def test_a_session_goes_as_the_page_says(name):
    assert shape(told(name)) == shape(sessions()[name])
