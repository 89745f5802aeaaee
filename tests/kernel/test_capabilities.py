"""Least privilege: a user that is not root, with the capabilities that are asked for; what is said of each that is missing."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ctobserve.host.capabilities import USES, Capability
from ctobserve_lab.traffic import load
from tests.kernel.tool import CTOBSERVE

NOBODY = "65534"
SYSLOG = "SYSLOG"  # where sysctls hide addresses, as they do here
ALL = frozenset((*(use.capability.name for use in USES), SYSLOG))
READING = frozenset(("BPF", "PERFMON", SYSLOG))  # what a look at the table takes, and no more
PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")


class Ended(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Its document."""
        return json.loads(self.out)


def as_nobody(capabilities: Collection[str], *words: str, locked: str = "unlimited") -> Ended:
    """Runs ctobserve as a user that is not root, who has these and can gain no others; nothing is kept for the next start.

    So many bytes of memory may be `locked`, as which maps count before Linux 5.11.
    """
    granted = ",".join(("-all", *(f"+{name.lower()}" for name in sorted(capabilities))))
    user = ("--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--no-new-privs")
    sets = ("--bounding-set", granted, "--inh-caps", granted, "--ambient-caps", granted)
    limited = ("prlimit", f"--memlock={locked}:{locked}")
    command = (*limited, "setpriv", *user, *sets, "env", "CTOBSERVE_CACHE_DIR=", *CTOBSERVE, *words)
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return Ended(result.returncode, result.stdout, result.stderr)


def finding(checked: Ended, name: str) -> dict[str, Any]:
    (found,) = [item for item in checked.data["findings"] if item["name"] == name]
    return found


@pytest.fixture
def paranoid() -> Iterator[Callable[[int], object]]:
    before = PARANOID.read_text()
    yield lambda level: PARANOID.write_text(str(level))
    PARANOID.write_text(before)


def test_with_them_all_nobody_sees_what_root_sees(net, paranoid):
    paranoid(3)
    space = net.space("least")
    load(space, 23)
    checked = as_nobody(ALL, "check", "--json")
    assert checked.code == 0 and finding(checked, "root")["ok"] is True
    listed = as_nobody(ALL, "list", "--netns", space.name, "--json")
    assert (listed.code, len(listed.data["entries"])) == (0, 23)
    dropped = as_nobody(ALL, "drops", "--duration", "0.5", "--json")
    assert dropped.code == 0 and "without CAP_" not in dropped.err
    assert str(space.inum) in dropped.data["by_netns"], "counters of a namespace that had to be entered"


@pytest.mark.parametrize("use", [use for use in USES if not use.required], ids=lambda use: use.capability.word)
def test_each_that_is_taken_away_alone_is_named_with_what_is_not_seen_now(use, paranoid):
    paranoid(2)
    checked = as_nobody(ALL - {use.capability.name}, "check", "--json")
    assert (checked.code, finding(checked, "root")["ok"]) == (0, None), checked
    assert f"without {use.capability.word} not seen: {use.blind}" in finding(checked, "root")["found"]


def test_where_maps_count_as_locked_memory_the_limit_is_named_and_check_says_so_before():
    charged = tuple(int(word) for word in platform.release().split(".")[:2]) < (5, 11)
    for words in (("list",), ("check",)):
        ended = as_nobody(ALL, *words, locked="65536")
        assert ended.code == (4 if charged else 0), ended
        named = "CAP_SYS_RESOURCE is missing: 65536 bytes may be locked (ulimit -l unlimited does, too)"
        assert (named in ended.out + ended.err) is charged


@pytest.mark.parametrize("one", ["BPF", "PERFMON"])
def test_without_one_that_is_needed_the_command_ends_with_its_name(one):
    ended = as_nobody(ALL - {one, Capability.SYS_ADMIN.name}, "drops", "--duration", "0.5")
    assert ended.code == 4 and f"no CAP_{one} (" in ended.err and ended.err.count("\n") == 1


def test_without_syslog_addresses_are_hidden_and_it_is_named(paranoid):
    paranoid(3)
    ended = as_nobody(ALL - {SYSLOG}, "list")
    assert ended.code == 4 and "hides addresses: CAP_SYSLOG is missing" in ended.err


def test_the_table_is_read_with_three_and_losses_too_where_kprobes_are_allowed(net, paranoid):
    space = net.space("three")
    load(space, 11)
    listed = as_nobody(READING, "list", "--json")
    assert listed.code == 0 and len([row for row in listed.data["entries"] if row["netns"] == space.inum]) == 11
    assert all(f"without {use.capability.word} not seen" in listed.err for use in USES if not use.required)
    paranoid(2)
    dropped = as_nobody(READING, "drops", "--duration", "0.5", "--json")
    assert dropped.code == 0 and "(kprobe)" in dropped.err


def test_where_debian_forbids_kprobes_it_says_what_forbids_them(paranoid):
    paranoid(3)
    ended = as_nobody(READING, "drops", "--duration", "0.5")
    assert ended.code == 4 and "kernel.perf_event_paranoid is 3, and CAP_SYS_ADMIN is missing" in ended.err
