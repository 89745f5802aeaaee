"""Whether a task can be taken off its CPU in the kernel is what the kernel says of itself, in debugfs or by uname -v."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from ctobserve.host import preemption
from ctobserve.host.preemption import NOT_KNOWN, reckoned_with
from ctobserve.host.preemption import preemption as how

VOLUNTARY = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1 (2026-09-30)"
REALTIME = "#1 SMP PREEMPT_RT Debian 6.12.118-1 (2026-11-20)"


@pytest.mark.parametrize(
    ("version", "mode", "told"),
    [
        (VOLUNTARY, "none (voluntary) full \n", None),
        (VOLUNTARY, "none voluntary (full) \n", "full"),
        ("#1 SMP PREEMPT_DYNAMIC Debian 7.3.4-1~bpo13+1 (2026-11-15)", "full (lazy) \n", "lazy"),
        (VOLUNTARY, "(none) voluntary full \n", None),
        (VOLUNTARY, None, NOT_KNOWN),
        (VOLUNTARY, "what is this", NOT_KNOWN),
        (REALTIME, "full (lazy) \n", "rt"),
        (REALTIME, None, "rt"),
        ("#1 SMP Debian 5.10.251-1 (2026-10-02)", None, None),
        ("#1 SMP PREEMPT Thu Jan 1 00:00:00 UTC 2026", None, "full"),
        ("#1 SMP PREEMPT_LAZY Thu Jan 1 00:00:00 UTC 2026", None, "full"),
    ],
)
def test_how_a_task_can_be_taken_off_its_cpu(monkeypatch, tmp_path, version, mode, told):
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(version=version))
    monkeypatch.setattr(preemption, "MODE", tmp_path / "preempt")
    if mode is not None:
        (tmp_path / "preempt").write_text(mode)
    assert how() == reckoned_with(True) == told
    assert reckoned_with(False) == (None if told == NOT_KNOWN else told), "who tells what it misses is the safer"
