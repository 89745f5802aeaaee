"""Every reason, of entries that leave and of packets that are lost, is found, counted and explained."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ctobserve.analysis.drops import COUNTED
from ctobserve.capture.destroy_reasons import CALLERS, ITERATORS, DestroyReasons
from ctobserve.event import DestroyReason, DropReason, destroy_name, drop_name
from ctobserve.host.symbols import Symbols

ROOT = Path(__file__).parents[2]
WITHOUT_A_CALLER = {DestroyReason.UNCONFIRMED}  # freed, never deleted
# The packet's copy was there first: the kernel drops this one silently. Helpers only log what they drop.
MOVES_NO_COUNTER = {DropReason.CONFIRMED, DropReason.HELPER}


def test_some_function_of_the_kernel_leads_to_every_destroy_reason():
    assert {reason for reason, _ in (*CALLERS.values(), *ITERATORS.values())} == set(DestroyReason) - WITHOUT_A_CALLER
    assert all(name.isidentifier() for name in (*CALLERS, *ITERATORS)), "without what the compiler puts behind a name"


@pytest.mark.parametrize("behind", ["", ".isra.0", ".constprop.0.isra.3", ".llvm.7159"])
def test_what_the_compiler_puts_behind_a_name_does_not_matter(behind):
    symbols = Symbols({f"nf_ct_iterate_cleanup{behind}": 1 << 63, f"kill_all{behind}": 1 << 63 | 1 << 20})
    caller, iterator = np.array([1 << 63 | 16], np.uint64), np.array([1 << 63 | 1 << 20], np.uint64)
    reasons, _ = DestroyReasons(symbols).of(caller, iterator, np.zeros(1, np.bool_), np.zeros(1, np.bool_))
    assert reasons.tolist() == [DestroyReason.NETNS_EXIT]


def test_every_drop_reason_moves_a_counter_or_is_known_to_move_none():
    assert {drop_name(reason) for reason in set(DropReason) - MOVES_NO_COUNTER} <= COUNTED.keys()


@pytest.mark.parametrize(
    ("page", "paragraph", "names"),
    [
        ("docs/json.md", r"^Destroy reasons: .*?\n\n", map(destroy_name, DestroyReason)),
        ("docs/json.md", r"^Drop reasons: .*?\n\n", map(drop_name, DropReason)),
        ("README.md", r"^\| reason \(destroy\) \| .*?\n", map(destroy_name, DestroyReason)),
        ("README.md", r"^\| reason \(drop\) \| .*?\n", map(drop_name, DropReason)),
    ],
)
def test_every_reason_is_explained(page, paragraph, names):
    (said,) = re.findall(paragraph, (ROOT / page).read_text(), re.M | re.S)
    assert not set(names) - set(re.findall(r"\w+", said))
