"""ctobserve check says what it found, above all where something is missing."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from ctobserve.capture import read_via
from ctobserve.commands import check as command
from ctobserve.errors import KernelLacks, NotPermitted
from ctobserve.host import kernel, kernel_build
from ctobserve.host.kernel import Symbols
from ctobserve.host.kernel_build import KernelBuild
from tests.unit.samples import LAYOUT
from tests.unit.test_hooks import FUNCTIONS, TYPED

FINDINGS = ["root", "conntrack", "layout", "btf", "symbols", "table", "hooks", "bcc", "bpf", "netlink"]
EVERYTHING = dict.fromkeys(FUNCTIONS | {"nf_conntrack_hash"}, 1)


@pytest.fixture
def fine(monkeypatch):
    """A kernel on which nothing is missing, for a user who may do everything."""
    monkeypatch.setattr(kernel_build, "read", lambda _: KernelBuild(LAYOUT, TYPED))
    monkeypatch.setattr(Symbols, "read", lambda: Symbols(EVERYTHING))
    monkeypatch.setattr(kernel, "conntrack_loaded", lambda: True)
    monkeypatch.setattr(command.os, "geteuid", lambda: 0)
    monkeypatch.setattr(command.syscalls, "lock_any_memory", lambda: None)
    monkeypatch.setattr(command.syscalls, "prog_load", lambda *_: command.os.open("/dev/null", command.os.O_RDONLY))
    monkeypatch.setattr(command, "find_spec", lambda _: True)
    return monkeypatch


def told(*options: str) -> tuple[dict, dict[str, dict], BaseException | None]:
    """The document, its findings by name, and how it ended; the text must name every finding, too."""
    result = CliRunner().invoke(command.check, ["--json", *options])
    found = json.loads(result.stdout)
    assert [item["name"] for item in found["findings"]] == FINDINGS
    text = CliRunner().invoke(command.check, [*options]).stdout
    assert all(f" {name} " in text for name in FINDINGS)
    return found, {item["name"]: item for item in found["findings"]}, result.exception


def test_nothing_is_missing(fine):
    found, by_name, error = told()
    assert error is None and found["usable"]
    assert all(item["ok"] is not False for item in by_name.values())
    assert {hook["form"] for hook in found["hooks"]} == {"fentry", "fexit", "kprobe"}
    found, _, _ = told("--attach", "kprobe")
    assert {hook["form"] for hook in found["hooks"]} == {"kprobe", "kprobe + kretprobe"}


UNREADABLE = PermissionError(13, "Permission denied", "/sys/kernel/btf/vmlinux")
NO_FILE = FileNotFoundError(2, "No such file", "/proc/kallsyms")
LIMIT = NotPermitted("the limit may not be lifted; root")


@pytest.mark.parametrize(
    ("owner", "name", "error", "finding", "words"),
    [
        (kernel_build, "read", KernelLacks("no member nf_conn.ext: layout not supported"), "layout", "no member nf_conn.ext"),
        (kernel_build, "read", UNREADABLE, "layout", "/sys/kernel/btf/vmlinux: Permission denied"),
        (Symbols, "read", NotPermitted("kallsyms hides addresses; be root"), "symbols", "hides addresses"),
        (Symbols, "read", NO_FILE, "symbols", "/proc/kallsyms: No such file"),
        (read_via, "choose", KernelLacks("the table cannot be read here: this, that"), "table", "this, that"),
        (command.syscalls, "prog_load", NotPermitted("cannot load: EPERM; policy"), "bpf", "cannot load: EPERM"),
        (command.syscalls, "lock_any_memory", LIMIT, "bpf", "the limit may not be lifted"),
    ],
)
def test_whatever_is_missing_is_a_finding_among_the_others(fine, owner, name, error, finding, words):
    def fails(*_):
        raise error

    fine.setattr(owner, name, fails)
    found, by_name, ended = told()
    assert by_name[finding]["ok"] is False and words in by_name[finding]["found"]
    assert not found["usable"]
    assert isinstance(ended, (KernelLacks, NotPermitted)) and words in str(ended)
    assert [name for name, item in by_name.items() if item["ok"] is False] == [finding]


def test_a_missing_function_is_a_finding(fine):
    fine.setattr(Symbols, "read", lambda: Symbols({k: v for k, v in EVERYTHING.items() if k != "__nf_conntrack_hash_insert"}))
    found, by_name, ended = told()
    assert by_name["hooks"]["ok"] is False and "__nf_conntrack_hash_insert" in by_name["hooks"]["found"]
    assert isinstance(ended, KernelLacks)
    assert found["hooks"], "the others are listed all the same"
    fine.setattr(Symbols, "read", lambda: Symbols({k: v for k, v in EVERYTHING.items() if k != "early_drop"}))
    found, by_name, ended = told()
    assert by_name["hooks"]["ok"] is None and "early_drop" in by_name["hooks"]["found"]
    assert ended is None and found["usable"]


def test_kprobes_for_want_of_a_type_are_said_or_refused(fine):
    fine.setattr(kernel_build, "read", lambda _: KernelBuild(LAYOUT, {k: v for k, v in TYPED.items() if k != "early_drop"}))
    _, by_name, ended = told()
    assert by_name["hooks"]["ok"] is None and "kprobes for all" in by_name["hooks"]["found"] and ended is None
    _, by_name, ended = told("--attach", "fentry")
    assert by_name["hooks"]["ok"] is False and "early_drop" in by_name["hooks"]["found"] and isinstance(ended, KernelLacks)
