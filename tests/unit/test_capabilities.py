"""Capabilities are read as the kernel tells them, and what is missing is named with what it is for."""

from __future__ import annotations

import re

import pytest

from ctobserve.errors import NotPermitted
from ctobserve.host import capabilities
from ctobserve.host.capabilities import USES, Capability
from tests.unit.csource import compiled


@pytest.fixture
def given(monkeypatch, tmp_path):
    """Lets this thread have these capabilities and no others."""

    def give(*these: Capability) -> None:
        status = tmp_path / "status"
        status.write_text(f"Name:\tx\nCapPrm:\t{'f' * 16}\nCapEff:\t{sum(1 << one for one in these):016x}\nNoNewPrivs:\t0\n")
        monkeypatch.setattr(capabilities, "STATUS", status)

    return give


def test_numbers_are_those_of_the_kernel():
    ours = {one.word: int(one) for one in Capability}
    assert compiled("#include <linux/capability.h>", ours) == ours


def test_with_all_nothing_is_missing(given):
    given(*Capability)
    assert capabilities.missing() == () and list(capabilities.notes()) == []
    capabilities.require()


@pytest.mark.parametrize("use", USES, ids=lambda use: use.capability.word)
def test_each_that_is_missing_alone_is_named(given, use):
    given(*(one for one in Capability if one not in (use.capability, Capability.SYS_ADMIN)))
    assert use in capabilities.missing()
    if use.required:
        with pytest.raises(NotPermitted, match=rf"^no {use.capability.word} \({re.escape(use.purpose)}\); try: sudo"):
            capabilities.require()
    else:
        assert f"without {use.capability.word} not seen: {use.blind}" in capabilities.notes()
        told = list(capabilities.notes(listing=False))
        assert any(f"without {use.capability.word}" in note for note in told) == (use.capability != Capability.NET_ADMIN)


@pytest.mark.parametrize("one", [Capability.BPF, Capability.PERFMON])
def test_sys_admin_is_taken_in_place_of_what_was_once_part_of_it(given, one):
    given(*(other for other in Capability if other is not one))
    assert capabilities.missing() == ()


def test_without_any_what_is_required_is_named_in_one_line(given):
    given()
    with pytest.raises(NotPermitted, match=r"^no CAP_BPF \(.*\), CAP_PERFMON \(.*\); try: sudo ctobserve"):
        capabilities.require()


def test_where_the_kernel_does_not_tell_it_is_left_to_say_no(monkeypatch, tmp_path):
    monkeypatch.setattr(capabilities, "STATUS", tmp_path / "none")
    assert capabilities.effective() == frozenset(Capability)
