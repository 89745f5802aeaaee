"""What the kernel refuses is said in our words."""

from __future__ import annotations

import resource

import pytest

from ctobserve.errors import ExitStatus, NotPermitted
from ctobserve.programs import syscalls


def test_a_limit_that_may_not_be_lifted_is_no_traceback(monkeypatch):
    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    with pytest.raises(NotPermitted, match="CAP_SYS_RESOURCE") as caught:
        syscalls.lock_any_memory()
    assert caught.value.exit_status is ExitStatus.NOT_PERMITTED
