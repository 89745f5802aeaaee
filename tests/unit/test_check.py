"""ctobserve check says what it found, above all where something is missing."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from ctobserve import __version__
from ctobserve.capture import prospect, read_via
from ctobserve.capture.prospect import LiveProspect, Occupancy, Plan, plan_all
from ctobserve.capture.read_via import ReadVia
from ctobserve.commands import check as command
from ctobserve.documents.check import MISSES, PREEMPTED, CheckDocument, CheckMeta, Finding, HookRow, collect
from ctobserve.errors import KernelLacks, NotPermitted
from ctobserve.host import capabilities, kernel, kernel_build, preemption, restrictions
from ctobserve.host.btf import BtfId
from ctobserve.host.capabilities import USES, Use
from ctobserve.host.kernel_build import KernelBuild
from ctobserve.host.symbols import HASH, Symbols
from ctobserve.programs import syscalls
from ctobserve.programs.hooks import Form, Hook, Planned, Purpose
from ctobserve.render.check import check_lines
from ctobserve.render.jsonout import document
from tests.unit.samples import LAYOUT
from tests.unit.test_hooks import FUNCTIONS, TYPED

FINDINGS = ["root", "conntrack", "layout", "btf", "symbols", "table", "hooks", "bcc", "bpf", "lockdown", "features", "fentry"]
FINDINGS += ["probes", "netlink"]
EVERYTHING = dict.fromkeys(FUNCTIONS | {*HASH}, 1)


def seen(value):
    """What a look sees; an exception is what keeps it from being taken."""
    if isinstance(value, Exception):
        raise value
    return value


TABLE = Occupancy(6000, 262144, 65536)


@dataclass(frozen=True)
class ScriptedProspect:
    """A host on which nothing is missing, for a user who may do everything, unless something else is given."""

    release: str = "6.1.0-test"
    machine: str = "x86_64"
    who: int = 0
    lacks: tuple[Use, ...] = ()
    table: Occupancy | None = TABLE
    layout: int | Exception = 248
    members: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, int] | Exception = field(default_factory=lambda: EVERYTHING)
    types: dict[str, BtfId] = field(default_factory=lambda: TYPED)
    processes: bool = True
    via: ReadVia | Exception = ReadVia.WALK
    planned: Plan | None = None
    compiled: bool | None = None
    bcc: bool = True
    admitted: Exception | None = None
    locked: str | None = None
    features: Exception | None = None
    refusal: str | None = None
    off: str | None = None
    preempts: str | None = None
    netlink: bool = True

    def uid(self):
        return self.who

    def without(self):
        return self.lacks

    def occupancy(self):
        return self.table

    def entry_bytes(self):
        return seen(self.layout)

    def absent(self):
        return self.members

    def has_types(self):
        return bool(self.types)

    def symbols(self):
        return len(seen(self.addresses))

    def unnamed(self):
        return Symbols(self.addresses).lacks(*HASH)

    def names_processes(self):
        return self.processes

    def reads_via(self):
        return seen(self.via)

    def plan(self, attach):
        return self.planned or plan_all(Symbols(self.addresses), self.types, attach, self.preempts is not None)

    def comes_compiled(self):
        return self.compiled

    def has_bcc(self):
        return self.bcc

    def admit_program(self):
        return seen(self.admitted)

    def lockdown(self):
        return self.locked

    def try_features(self):
        return seen(self.features)

    def preemption(self):
        return self.preempts

    def probes_hide_missed(self):
        return False

    def probes_off(self):
        return self.off

    def trampoline_refusal(self, plan):
        assert any(item.btf for item in plan.hooks)
        return self.refusal

    def has_netlink(self):
        return self.netlink


def told(attach="auto", **host):
    """The document, its findings by name, and how the command would end; the text must name every finding, too."""
    found = collect(ScriptedProspect(**host), attach)
    assert [item.name for item in found.findings] == FINDINGS
    text = "\n".join(check_lines(found))
    assert all(f" {name} " in text for name in FINDINGS)
    return found, {item.name: item for item in found.findings}, found.refusal()


def test_every_finding_is_documented():
    said = Path(__file__).parents[2].joinpath("docs/json.md").read_text().partition("### check\n")[2].partition("<!--")[0]
    assert re.findall(r"`(\w+)`", said.partition(";")[0])[1:] == FINDINGS


def test_nothing_is_missing():
    found, by_name, error = told()
    assert error is None and found.usable
    assert all(item.ok is True and not item.do for item in by_name.values())
    assert {row.form for row in found.hooks} == {"fentry", "fexit", "kprobe"}
    found, _, _ = told("kprobe")
    assert {row.form for row in found.hooks} == {"kprobe", "kprobe + kretprobe"}


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"compiled": True, "bcc": False}, "not needed: the programs came compiled"),
        ({"compiled": False}, "Python can import it, which it has to: the compiled programs are of other sources"),
        ({}, "Python can import it"),
    ],
)
def test_a_compiler_is_needed_only_where_no_image_fits(host, words):
    found, by_name, error = told(**host)
    assert found.usable and error is None
    assert (by_name["bcc"].ok, by_name["bcc"].found) == (True, words)


UNREADABLE = PermissionError(13, "Permission denied", "/sys/kernel/btf/vmlinux")
NO_FILE = FileNotFoundError(2, "No such file", "/proc/kallsyms")
NO_MEMBER = KernelLacks("no member nf_conn.ext: layout not supported")
HIDDEN = NotPermitted("kallsyms hides addresses; be root")
NOT_RUN = OSError(syscalls.ENOTSUPP, "BPF_PROG_TEST_RUN: Not supported (ENOTSUPP)")
UNREADABLE_TABLE = KernelLacks("the table cannot be read here: this, that; ask")


@pytest.mark.parametrize(
    ("host", "finding", "words"),
    [
        ({"who": 1000, "lacks": USES}, "root", "running as uid 1000 without CAP_BPF (maps and programs), CAP_PERFMON ("),
        ({"table": None}, "conntrack", "nf_conntrack is not loaded"),
        ({"layout": NO_MEMBER}, "layout", "no member nf_conn.ext"),
        ({"layout": UNREADABLE}, "layout", "/sys/kernel/btf/vmlinux: Permission denied"),
        ({"layout": ZeroDivisionError("by zero")}, "layout", "not understood (ZeroDivisionError: by zero)"),
        ({"addresses": HIDDEN}, "symbols", "hides addresses"),
        ({"addresses": NO_FILE}, "symbols", "/proc/kallsyms: No such file"),
        ({"via": UNREADABLE_TABLE}, "table", "this, that"),
        ({"bcc": False}, "bcc", "cannot import bcc"),
        ({"bcc": False, "compiled": False}, "bcc", "compiled programs are of other sources"),
        ({"admitted": NotPermitted("cannot load: EPERM; policy")}, "bpf", "cannot load: EPERM"),
        ({"locked": "confidentiality"}, "lockdown", "BPF may not read its memory"),
        ({"features": KernelLacks("this kernel has no BPF helper bpf_x; use")}, "features", "no BPF helper bpf_x"),
        ({"features": NotPermitted("cannot attach to f: Permission denied; why")}, "features", "cannot attach to f"),
        ({"off": "kernel.ftrace_enabled is 0, so nothing runs; try: this"}, "probes", "kernel.ftrace_enabled is 0, so nothing"),
    ],
)
def test_whatever_is_missing_is_a_finding_among_the_others(host, finding, words):
    found, by_name, ended = told(**host)
    assert by_name[finding].ok is False and words in by_name[finding].found
    assert not found.usable
    forbidden = finding in ("root", "lockdown") or any(isinstance(one, NotPermitted) for one in host.values())
    assert by_name[finding].forbidden == forbidden
    assert isinstance(ended, NotPermitted if forbidden else KernelLacks) and words in str(ended)
    assert [name for name, item in by_name.items() if item.ok is False] == [finding]


def test_what_could_not_be_looked_at_is_no_obstacle_of_its_own():
    found, by_name, _ = told(layout=NO_MEMBER, processes=False)
    assert by_name["symbols"].ok is True, "without a layout it is not known"
    assert (by_name["btf"].ok, by_name["hooks"].ok, found.hooks) == (None, None, ())
    found, by_name, _ = told(addresses=HIDDEN)
    assert (by_name["table"].ok, by_name["hooks"].ok, found.hooks) == (None, None, ())
    assert by_name["btf"].ok is True


def test_what_blinds_a_part_is_no_obstacle():
    found, by_name, ended = told(netlink=False, via=ReadVia.PROC, types={})
    assert [by_name[name].ok for name in ("btf", "table", "netlink")] == [None] * 3
    assert found.usable and ended is None


@pytest.mark.parametrize(
    ("host", "finding", "words"),
    [
        (
            {"members": {"nf_conn.mark": "CONFIG_NF_CONNTRACK_MARK"}},
            "layout",
            "this kernel was built without nf_conn.mark (CONFIG_NF_CONNTRACK_MARK): always shown as 0",
        ),
        (
            {"addresses": dict.fromkeys(FUNCTIONS, 1)},
            "symbols",
            "symbols read from /proc/kallsyms, but no nf_conntrack_hash, nf_conntrack_htable_size: "
            "no chain is counted at inserts and drops (CONFIG_KALLSYMS_ALL)",
        ),
        (
            {"processes": False},
            "symbols",
            "symbols read from /proc/kallsyms, but no preempt count: no process is named (CONFIG_KALLSYMS_ALL)",
        ),
    ],
)
def test_what_the_kernel_was_built_without_is_named(host, finding, words):
    found, by_name, ended = told(**host)
    assert by_name[finding].ok is None and by_name[finding].found.endswith(words)
    assert found.usable and ended is None


@pytest.mark.parametrize("use", [use for use in USES if not use.required], ids=lambda use: use.capability.word)
def test_each_capability_that_blinds_is_named_with_what_is_not_seen(use):
    found, by_name, ended = told(who=7, lacks=(use,))
    assert by_name["root"].ok is None and by_name["root"].found == (
        f"running as uid 7; without {use.capability.word} not seen: {use.blind}"
    )
    assert found.usable and ended is None


def test_whoever_has_them_all_need_not_be_root():
    found, by_name, ended = told(who=7)
    assert by_name["root"] == Finding("root", True, "running as uid 7, with every capability that any command uses", "", False)
    assert found.usable and ended is None


def test_lockdown_of_integrity_forbids_nothing_that_is_read():
    found, by_name, ended = told(locked="integrity")
    assert by_name["lockdown"] == Finding("lockdown", True, "integrity: what is read here is allowed", "", False)
    assert found.usable and ended is None
    _, by_name, _ = told(locked="confidentiality", features=KernelLacks("never asked"))
    assert by_name["features"] == Finding("features", None, "not tried: lockdown forbids to read memory", "", False)


def test_what_we_may_not_do_is_told_before_what_the_kernel_lacks():
    _, _, ended = told(table=None, who=7, lacks=USES[:1])
    assert isinstance(ended, NotPermitted)
    assert (
        str(ended)
        == "observation is impossible here: running as uid 7 without CAP_BPF (maps and programs); run: sudo ctobserve check"
    )
    _, _, ended = told(table=None, bcc=False)
    assert str(ended).endswith("nf_conntrack is not loaded, so this kernel tracks nothing; load it: modprobe nf_conntrack")


def without(name, of):
    return {key: value for key, value in of.items() if key != name}


def test_a_missing_function_is_a_finding():
    found, by_name, ended = told(addresses=without("__nf_conntrack_hash_insert", EVERYTHING))
    assert by_name["hooks"].ok is False and "__nf_conntrack_hash_insert" in by_name["hooks"].found
    assert isinstance(ended, KernelLacks)
    assert found.hooks, "the others are listed all the same"
    found, by_name, ended = told(addresses=without("early_drop", EVERYTHING))
    assert by_name["hooks"].ok is None and "early_drop" in by_name["hooks"].found
    assert ended is None and found.usable


def test_kprobes_for_want_of_a_type_are_said_or_refused():
    types = without("early_drop", TYPED)
    _, by_name, ended = told(types=types)
    assert by_name["hooks"].ok is None and "kprobes for all" in by_name["hooks"].found and ended is None
    _, by_name, ended = told("fentry", types=types)
    assert by_name["hooks"].ok is False and "early_drop" in by_name["hooks"].found and isinstance(ended, KernelLacks)


REFUSAL = "no fexit on nf_conntrack_in: Not supported (ENOTSUPP)"


def test_fentry_is_tried_and_kprobes_are_planned_where_the_kernel_refuses_it():
    found, by_name, ended = told(refusal=REFUSAL)
    assert by_name["fentry"] == Finding(
        "fentry", None, f"this kernel attaches {REFUSAL}; kprobes for all, which cost more", "", False
    )
    assert ended is None and {row.form for row in found.hooks} == {"kprobe", "kprobe + kretprobe"}
    assert by_name["hooks"].ok is True and by_name["btf"].ok is True
    found, by_name, ended = told("fentry", refusal=REFUSAL)
    assert by_name["fentry"].ok is False and isinstance(ended, KernelLacks)
    assert str(ended).endswith(f"this kernel attaches {REFUSAL}; use --attach auto or --attach kprobe")
    assert {row.form for row in found.hooks} == {"fentry", "fexit", "kprobe"}, "what was asked for"


@pytest.mark.parametrize(
    ("attach", "host", "ok", "why"),
    [
        ("kprobe", {}, True, "not tried: kprobes are planned for all"),
        ("auto", {"types": {}}, None, "not tried: kprobes are planned for all"),
        ("auto", {"types": {}, "preempts": "full"}, None, "not tried: kprobes are planned for all"),
        ("kprobe", {"preempts": "full"}, True, "not tried: kprobes are planned for all"),
        ("auto", {"preempts": "lazy"}, None, PREEMPTED.format("lazy")),
        ("auto", {"layout": NO_MEMBER}, None, "not tried: no hook could be planned"),
        ("auto", {"admitted": NotPermitted("cannot load: EPERM; policy")}, None, "not tried: programs are not admitted"),
    ],
)
def test_fentry_is_not_tried_in_vain(attach, host, ok, why):
    _, by_name, _ = told(attach, **host, refusal="never asked")
    assert (by_name["fentry"].ok, by_name["fentry"].found) == (ok, why)


def test_where_the_kernel_may_be_preempted_fentry_is_tried_for_whoever_asks():
    found, by_name, ended = told("fentry", preempts="lazy")
    assert ended is None and by_name["fentry"] == Finding("fentry", None, MISSES.format("lazy"), "use --attach auto", False)
    assert {row.form for row in found.hooks} == {"fentry", "fexit", "kprobe"}
    found, _, ended = told(preempts="lazy")
    assert ended is None and {row.form for row in found.hooks} == {"kprobe", "kprobe + kretprobe"}


def test_the_command_tries_every_trampoline_and_leaves_none(fine):
    held, answers = set(), iter(range(1000))

    def opens(*_):
        held.add(fd := os.open("/dev/null", os.O_RDONLY))
        if next(answers) == 5:
            os.close(fd)
            raise OSError(syscalls.ENOTSUPP, "Not supported (ENOTSUPP)")
        return fd

    fine.setattr(syscalls, "raw_tracepoint_open", opens)
    _, by_name, ended = run()
    assert by_name["fentry"].pop("found").startswith("this kernel attaches no f") and ended is None
    for fd in held:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_what_a_check_found_is_folded_whole():
    what = "a member of struct nf_conn that this kernel does not have, without which nothing can be said of any entry at all"
    row = HookRow("on_insert", "f", "fentry", "new entry", "what enters " * 8)
    meta = CheckMeta("check", "1", 1, "6.1", "x86_64")
    found = CheckDocument(meta, False, (Finding("layout", False, what, "tell us", False),), (row, replace(row, function=None)))
    lines = list(check_lines(found))
    assert max(map(len, lines)) < 100
    words = " ".join(" ".join(lines).split())
    assert f"MISSING layout {what}; tell us" in words and f"f fentry per new entry {row.tells.strip()}" in words


PLAN = Plan(
    (
        Planned(Hook("insert", "__nf_conntrack_hash_insert", False, Purpose.TABLE, "new entry", "entries entering the table"),
                "__nf_conntrack_hash_insert", Form.FENTRY),
        Planned(Hook("alloc", "__nf_conntrack_alloc", True, Purpose.DROPS, "new entry", "packets without room or memory"),
                "__nf_conntrack_alloc", Form.KRETPROBE),
        Planned(Hook("early_drop", "early_drop", True, Purpose.DROPS, "eviction", "table full, nothing to evict"), None,
                Form.FEXIT),
    ),
    None,
    (),
)  # fmt: skip
WHOLE_TEXT = """\
kernel 6.1.0-test x86_64
  MISSING  root       running as uid 1000 without CAP_BPF (maps and programs);
                      run: sudo ctobserve check
  ok       conntrack  loaded; 6000 of 262144 entries here, 65536 buckets
  ok       layout     struct nf_conn has 248 bytes, and every member that is read of it is there
  ok       btf        it describes nf_conntrack's functions, as fentry and fexit need
  ok       symbols    61 symbols read from /proc/kallsyms
  ok       table      walked in the kernel, all namespaces in one pass
  partly   hooks      nothing to attach to, and so not seen: early_drop
  ok       bcc        Python can import it
  MISSING  bpf        the kernel refuses to load the program probe: Operation not permitted;
                      use a kernel that admits BPF programs; the sources have one in a VM: make lab
  ok       lockdown   the kernel is not locked down
  partly   features   not tried: programs are not admitted
  partly   fentry     not tried: kprobes are planned for all
  ok       probes     not switched off
  partly   netlink    nf_conntrack_netlink is not loaded: no update events; we do not load it
  __nf_conntrack_hash_insert      fentry    per new entry     entries entering the table
  __nf_conntrack_alloc            kretprobe per new entry     packets without room or memory
  nothing to attach to: blind to it -         per eviction      table full, nothing to evict
"""
WHOLE_JSON = {
    "meta": {"command": "check", "version": __version__, "schema": 1, "kernel": "6.1.0-test", "machine": "x86_64"},
    "usable": False,
    "findings": [
        {
            "name": "root",
            "ok": False,
            "found": "running as uid 1000 without CAP_BPF (maps and programs)",
            "do": "run: sudo ctobserve check",
            "forbidden": True,
        },
        {
            "name": "conntrack",
            "ok": True,
            "found": "loaded; 6000 of 262144 entries here, 65536 buckets",
            "do": "",
            "forbidden": False,
        },
        {
            "name": "layout",
            "ok": True,
            "found": "struct nf_conn has 248 bytes, and every member that is read of it is there",
            "do": "",
            "forbidden": False,
        },
        {
            "name": "btf",
            "ok": True,
            "found": "it describes nf_conntrack's functions, as fentry and fexit need",
            "do": "",
            "forbidden": False,
        },
        {"name": "symbols", "ok": True, "found": "61 symbols read from /proc/kallsyms", "do": "", "forbidden": False},
        {"name": "table", "ok": True, "found": "walked in the kernel, all namespaces in one pass", "do": "", "forbidden": False},
        {"name": "hooks", "ok": None, "found": "nothing to attach to, and so not seen: early_drop", "do": "", "forbidden": False},
        {"name": "bcc", "ok": True, "found": "Python can import it", "do": "", "forbidden": False},
        {
            "name": "bpf",
            "ok": False,
            "found": "the kernel refuses to load the program probe: Operation not permitted",
            "do": "use a kernel that admits BPF programs; the sources have one in a VM: make lab",
            "forbidden": True,
        },
        {"name": "lockdown", "ok": True, "found": "the kernel is not locked down", "do": "", "forbidden": False},
        {"name": "features", "ok": None, "found": "not tried: programs are not admitted", "do": "", "forbidden": False},
        {"name": "fentry", "ok": None, "found": "not tried: kprobes are planned for all", "do": "", "forbidden": False},
        {"name": "probes", "ok": True, "found": "not switched off", "do": "", "forbidden": False},
        {
            "name": "netlink",
            "ok": None,
            "found": "nf_conntrack_netlink is not loaded: no update events; we do not load it",
            "do": "",
            "forbidden": False,
        },
    ],
    "hooks": [
        {
            "hook": "insert",
            "function": "__nf_conntrack_hash_insert",
            "form": "fentry",
            "each": "new entry",
            "tells": "entries entering the table",
        },
        {
            "hook": "alloc",
            "function": "__nf_conntrack_alloc",
            "form": "kprobe + kretprobe",
            "each": "new entry",
            "tells": "packets without room or memory",
        },
        {
            "hook": "early_drop",
            "function": None,
            "form": "fexit",
            "each": "eviction",
            "tells": "table full, nothing to evict",
        },
    ],
}


def test_the_whole_document_as_text_and_as_json():
    refused = NotPermitted(
        "the kernel refuses to load the program probe: Operation not permitted; use a kernel that admits BPF programs; "
        "the sources have one in a VM: make lab"
    )
    addresses = {str(number): number for number in range(59)} | dict.fromkeys(HASH, 61)
    found, _, _ = told(who=1000, lacks=USES[:1], admitted=refused, netlink=False, addresses=addresses, planned=PLAN)
    assert "\n".join(check_lines(found)) + "\n" == WHOLE_TEXT
    assert document(found) == json.dumps(WHOLE_JSON, indent=2)


@pytest.fixture
def fine(monkeypatch):
    """A kernel on which LiveProspect finds nothing missing, for a user who may do everything."""
    monkeypatch.setattr(kernel_build, "read", lambda _: KernelBuild(LAYOUT, TYPED))
    monkeypatch.setattr(Symbols, "read", lambda: Symbols(EVERYTHING))
    monkeypatch.setattr(kernel, "conntrack_loaded", lambda: True)
    monkeypatch.setattr(prospect.os, "geteuid", lambda: 0)
    monkeypatch.setattr(syscalls, "lock_any_memory", lambda: None)
    monkeypatch.setattr(syscalls, "test_run", lambda *_: 0)
    monkeypatch.setattr(syscalls, "kprobe_type", lambda: 6)
    monkeypatch.setattr(capabilities, "missing", lambda: ())
    for name in ("lockdown", "probes_off"):
        monkeypatch.setattr(restrictions, name, lambda: None)
    monkeypatch.setattr(preemption, "preemption", lambda: None)
    for call in ("prog_load", "map_create", "raw_tracepoint_open", "kprobe_attach", "module_btf_fd"):
        monkeypatch.setattr(syscalls, call, lambda *_: os.open("/dev/null", os.O_RDONLY))
    monkeypatch.setattr(prospect, "find_spec", lambda _: True)
    return monkeypatch


def run(*options):
    """What the command prints as JSON, its findings by name, and how it ended; the text must name every finding, too."""
    result = CliRunner().invoke(command.check, ["--json", *options])
    found = json.loads(result.stdout)
    text = CliRunner().invoke(command.check, options).stdout
    assert all(f" {name} " in text for name in FINDINGS)
    return found, {item["name"]: item for item in found["findings"]}, result.exception


def test_the_command_on_a_kernel_where_nothing_is_missing(fine):
    found, by_name, error = run()
    assert error is None and found["usable"] and list(by_name) == FINDINGS
    assert all(item["ok"] is not False for item in by_name.values())
    assert {hook["form"] for hook in found["hooks"]} == {"fentry", "fexit", "kprobe"}
    found, _, _ = run("--attach", "kprobe")
    assert {hook["form"] for hook in found["hooks"]} == {"kprobe", "kprobe + kretprobe"}


@pytest.mark.parametrize(
    ("owner", "name", "error", "finding", "words"),
    [
        (kernel_build, "read", NO_MEMBER, "layout", "no member nf_conn.ext"),
        (kernel_build, "read", UNREADABLE, "layout", "/sys/kernel/btf/vmlinux: Permission denied"),
        (Symbols, "read", HIDDEN, "symbols", "hides addresses"),
        (Symbols, "read", NO_FILE, "symbols", "/proc/kallsyms: No such file"),
        (read_via, "choose", UNREADABLE_TABLE, "table", "this, that"),
        (syscalls, "prog_load", NotPermitted("cannot load: EPERM; policy"), "bpf", "cannot load: EPERM"),
        (syscalls, "kprobe_attach", NotPermitted("cannot attach: EACCES; paranoid"), "features", "cannot attach: EACCES"),
        (
            syscalls,
            "kprobe_attach",
            OSError(22, "Invalid argument"),
            "features",
            "cannot attach a kprobe to nf_ct_delete: Invalid",
        ),
        (syscalls, "kprobe_type", KernelLacks("no type; built without kprobes"), "features", "no type"),
        (syscalls, "map_create", KernelLacks("no ring buffer; use another"), "features", "no ring buffer"),
        (syscalls, "test_run", NOT_RUN, "features", "BPF_PROG_TEST_RUN: Not supported (ENOTSUPP): this kernel runs no program"),
    ],
)
def test_whatever_this_host_lacks_ends_the_command_with_its_words(fine, owner, name, error, finding, words):
    def fails(*_):
        raise error

    fine.setattr(owner, name, fails)
    found, by_name, ended = run()
    assert by_name[finding]["ok"] is False and words in by_name[finding]["found"]
    assert not found["usable"]
    assert isinstance(ended, (KernelLacks, NotPermitted)) and words in str(ended)
    assert [name for name, item in by_name.items() if item["ok"] is False] == [finding]


def test_a_refused_program_says_what_to_do(fine):
    def refuses(*_):
        raise NotPermitted("the kernel refuses to load the program probe: EPERM; see that nothing forbids it")

    fine.setattr(syscalls, "prog_load", refuses)
    with pytest.raises(NotPermitted, match=r"^the kernel refuses to load the program probe: EPERM; use a kernel that admits"):
        LiveProspect().admit_program()
