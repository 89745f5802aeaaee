"""What ctobserve finds on real kernels, of which tests/unit/kernels has the symbols and types: functions, forms, members."""

from __future__ import annotations

import pytest

from ctobserve.capture import read_via
from ctobserve.capture.prospect import LiveProspect, plan_all
from ctobserve.capture.read_via import ReadVia
from ctobserve.errors import KernelLacks
from ctobserve.host import netlink
from ctobserve.host.symbols import HASH, Symbols
from ctobserve.programs import attachment
from ctobserve.programs.attachment import Attachment
from ctobserve.programs.compile import Image
from ctobserve.programs.given import Choices
from ctobserve.programs.hooks import HOOKS, Form, Purpose, check
from ctobserve.programs.loader import Programs, Variables
from tests.unit.kernels.machine import NAMES, Machine, build, planned

MODULE_BTF = ["aarch64-6.1", "aarch64-6.12", "x86_64-6.1", "x86_64-6.12", "x86_64-7.3"]
# Where a hook hangs on another function than the one it is named for: the compiler made it of that one.
FUNCTIONS = {
    "aarch64-6.1": {
        "nf_conntrack_double_lock": "nf_conntrack_double_lock.constprop.0",
        "ctnetlink_fill_info": "ctnetlink_fill_info.constprop.0",
    },
    "aarch64-6.12": {
        "nf_conntrack_double_lock": "nf_conntrack_double_lock.isra.0",
        "ctnetlink_fill_info": "ctnetlink_fill_info.constprop.0",
    },
    "x86_64-5.10": {"nf_ct_delete": "nf_ct_delete.part.0", "nf_conntrack_double_lock": "nf_conntrack_double_lock.constprop.0"},
    "x86_64-6.1": {"nf_conntrack_double_lock": "nf_conntrack_double_lock.constprop.0"},
    "x86_64-6.12": {"nf_conntrack_double_lock": "nf_conntrack_double_lock.isra.0"},
}


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return str(request.param)


@pytest.fixture
def machine(name, monkeypatch, tmp_path) -> Machine:
    found = Machine.named(name)
    found.runs(monkeypatch, tmp_path)
    return found


def test_every_hook_has_its_function(machine, name):
    found = {item.hook: item.function for item in planned(~Purpose(0))}
    assert found == {hook: FUNCTIONS.get(name, {}).get(hook.name, hook.name) for hook in HOOKS}


def test_every_hook_has_its_form(machine, name):
    trampoline, probe = {False: Form.FENTRY, True: Form.FEXIT}, {False: Form.KPROBE, True: Form.KRETPROBE}
    for item in planned():
        forms = trampoline if name in MODULE_BTF and not item.hook.kprobe_only else probe
        assert item.form is forms[item.hook.at_return], item.hook.program
        assert bool(item.btf) is (forms is trampoline)


def test_fentry_is_refused_where_modules_have_no_types(machine, name):
    ids = build().function_ids
    assert bool(ids) is (name in MODULE_BTF)
    if ids:
        check(planned(), ids, "fentry")
        return
    with pytest.raises(KernelLacks, match=r"^--attach fentry: this kernel has no BTF of .* and \d+ more; try: --attach kprobe$"):
        check(planned(), ids, "fentry")


def test_how_the_table_is_read(machine, name, monkeypatch, tmp_path):
    """Debian's arm64 of 6.1 names functions alone (CONFIG_KALLSYMS_ALL)."""
    monkeypatch.setattr(netlink, "available", lambda: True)
    monkeypatch.setattr(read_via, "PROC", tmp_path / "nf_conntrack")
    named = name != "aarch64-6.1"
    assert Symbols.read().lacks(*HASH) == ([] if named else list(HASH))
    assert read_via.choose("auto", Symbols.read()) is (ReadVia.WALK if named else ReadVia.NETLINK), (
        "no such file (CONFIG_NF_CONNTRACK_PROCFS)"
    )
    tmp_path.joinpath("nf_conntrack").touch()
    assert read_via.choose("auto", Symbols.read()) is (ReadVia.WALK if named else ReadVia.PROC)
    monkeypatch.setattr(netlink, "available", lambda: False)
    tmp_path.joinpath("nf_conntrack").unlink()
    if named:
        assert read_via.choose("auto", Symbols.read()) is ReadVia.WALK
    else:
        hidden = "no nf_conntrack_hash and nf_conntrack_htable_size in /proc/kallsyms"
        with pytest.raises(
            KernelLacks, match=f"^the table cannot be read here: {hidden} .*, no .*, nf_conntrack_netlink is not loaded;"
        ):
            read_via.choose("auto", Symbols.read())


def test_without_netlink_no_update_is_seen_and_the_rest_is(name, monkeypatch, tmp_path):
    functions = ("ctnetlink_conntrack_event", "ctnetlink_fill_info", "ctnetlink_fill_info.constprop.0")
    Machine.named(name).without_symbols(*functions).runs(monkeypatch, tmp_path)
    symbols, ids = Symbols.read(), build().function_ids
    found = plan_all(symbols, ids, "auto", preempted=False)
    assert (found.blind, found.lacking) == (("ctnetlink_conntrack_event",), None)
    assert any(item.btf for item in found.hooks) is (name in MODULE_BTF)


@pytest.mark.parametrize("name", [name for name in NAMES if name in MODULE_BTF])
def test_what_is_built_in_is_found_without_a_module(name, monkeypatch, tmp_path):
    """CONFIG_NF_CONNTRACK=y, made of a kernel that has modules: Debian builds none so."""
    machine = Machine.named(name)
    modular, whole = tmp_path / "modular", tmp_path / "whole"
    modular.mkdir(), whole.mkdir()
    machine.runs(monkeypatch, modular)
    before, symbols, hooks = build(), Symbols.read(), planned(~Purpose(0))
    machine.built_in().runs(monkeypatch, whole)
    after = build()
    assert after.layout == before.layout
    assert after.function_ids.keys() == before.function_ids.keys()
    assert {item.module for item in after.function_ids.values()} == {"vmlinux"}
    assert [(item.function, item.form) for item in planned(~Purpose(0))] == [(item.function, item.form) for item in hooks]
    found = Symbols.read()
    assert found.trackers() == symbols.trackers() and found.lacks(*HASH) == symbols.lacks(*HASH)
    assert {function: found.addresses[function] for function in after.function_ids} == {
        function: symbols.addresses[function] for function in after.function_ids
    }


def test_check_takes_its_looks_at_the_kernel_that_runs(machine, name):
    prospect = LiveProspect()
    assert (prospect.entry_bytes(), prospect.absent(), prospect.has_types()) == (build().layout.ct_bytes, {}, name in MODULE_BTF)
    assert prospect.symbols() == len(Symbols.read().addresses)
    assert prospect.plan("kprobe").untyped == () and not any(item.btf for item in prospect.plan("kprobe").hooks)
    assert bool(prospect.plan("fentry").untyped) == (name not in MODULE_BTF) and prospect.plan("auto").untyped == ()


def test_what_the_programs_are_told_of_this_boot(machine, name, monkeypatch):
    """Of a variable that has no name here they are told 0, and do without."""
    told: list[Variables] = []
    monkeypatch.setattr(Programs, "configure", lambda _, variables: told.append(variables))
    monkeypatch.setattr(attachment, "build", lambda _: Image({}, {}))
    Attachment(Purpose(0), "auto", Symbols.read()).load(Choices(), 4096)
    (variables,) = told
    known = Symbols.read().addresses
    named = name != "aarch64-6.1"
    hash_, buckets = (known[symbol] for symbol in HASH) if named else (0, 0)
    assert (variables.hash, variables.buckets) == (hash_, buckets)
    assert bool(variables.hash) is bool(variables.generation) is named
    counts = {"x86_64-6.12": known.get("pcpu_hot", 0) + 8, "aarch64-6.1": 8, "aarch64-6.12": 8}
    assert variables.preempt_count == (counts[name] if name in counts else known["__preempt_count"]) > 0


def test_x86_without_names_of_variables_names_no_process(monkeypatch, tmp_path):
    """There the preempt count is a variable of each CPU; of a task on arm64."""
    Machine.named("x86_64-6.1").without_symbols("__preempt_count", "__per_cpu_offset").runs(monkeypatch, tmp_path)
    assert not LiveProspect().names_processes()
