"""What is switched off in a kernel is refused before anything is attached; what is tried leaves nothing behind."""

from __future__ import annotations

import errno
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.forms import KALLSYMS, auto_is_fentry, probes_tell_missed
from tests.kernel.tool import CTOBSERVE, LACKING, bpf_program_ids

FTRACE = Path("/proc/sys/kernel/ftrace_enabled")


def switched_off(request: pytest.FixtureRequest) -> bool:
    """The kernel goes on attaching programs, and runs none of them; or, by its own word (7.3), lets nobody switch them off."""
    assert FTRACE.read_text() == "1\n"
    try:
        FTRACE.write_text("0")
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP and FTRACE.read_text() == "1\n"
        request.node.user_properties.append((LACKING, "nobody can set kernel.ftrace_enabled to 0"))
        return False
    return True


@pytest.fixture
def ftrace_off(request: pytest.FixtureRequest) -> Iterator[None]:
    """For as long as a test."""
    switched_off(request)
    yield
    FTRACE.write_text("1")


def assert_refused(*arguments: str) -> None:
    result = subprocess.run([*CTOBSERVE, *arguments], capture_output=True, text=True, check=False)
    why = "kernel.ftrace_enabled is 0, so no probe runs at a function's entry; try: sysctl kernel.ftrace_enabled=1"
    assert (result.returncode, result.stdout, result.stderr) == (3, "", f"ctobserve: {why}\n")


@pytest.mark.parametrize("arguments", [("events",), ("report", "--duration", "1"), ("events", "--attach", "kprobe")])
def test_probes_that_would_never_run_are_refused(ftrace_off, arguments):
    assert_refused(*arguments)


def test_probes_that_are_switched_off_meanwhile_are_said(start, request):
    """Entries that came then are in the table, which is read again; what else happened nobody knows: exit code 5."""
    running = start("report", "--json", "--fail-on-loss")
    if not switched_off(request):
        return
    try:
        time.sleep(2.5)
    finally:
        FTRACE.write_text("1")
    found = json.loads(running.end(5))
    looks = found["meta"]["lost_by_kind"]["probes_off"]
    (incomplete,) = [one for one in found["verdicts"] if one["id"] == "records_lost"]
    assert looks >= 1 and incomplete["evidence"]["probes_off_s"] == looks
    assert "probes were switched off for about" in running.errors


def test_a_walk_which_hangs_on_no_function_goes_on(ftrace_off, report):
    """Where the hash has no name (CONFIG_KALLSYMS_ALL) the table is read by a probe, and is refused like any other."""
    if " nf_conntrack_hash\t" in KALLSYMS.read_text():
        assert report("list")["meta"]["attach"] == "walk"
    else:
        assert_refused("list")


def test_check_tries_and_leaves_nothing(report):
    before = bpf_program_ids()
    found = {item["name"]: item for item in report("check")["findings"]}
    assert bpf_program_ids() == before
    assert found["features"]["ok"] is True
    assert found["probes"]["ok"] is (True if probes_tell_missed() else None)
    assert found["fentry"]["ok"] is (True if auto_is_fentry() else None)
