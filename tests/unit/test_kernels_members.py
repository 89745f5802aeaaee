"""Members that a kernel lacks: each either has a value that says so, or is named by a refusal. Taken from real kernels' types."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctobserve.capture.records import HEADER_BYTES, entries_of, record_dtype
from ctobserve.errors import KernelLacks
from ctobserve.host.btf import Btf, Field
from ctobserve.host.layout import EXTENSIONS, OPTIONAL, TASK_PREEMPT_COUNT, Layout
from tests.unit.kernels.btf_types import ENUM, STRUCT, UNION, parse, references, strings_of
from tests.unit.kernels.machine import NAMES, Machine, build

OTHERWISE = {*OPTIONAL, *EXTENSIONS.values(), "pcpu_hot.preempt_count", TASK_PREEMPT_COUNT}  # what a kernel may lack


def asked_of(name: str) -> list[str]:
    """Every member that is looked for on this kernel and is there, as a path."""
    asked: set[str] = set()

    class Asked(Btf):
        def field(self, path: str) -> Field:
            found = super().field(path)
            asked.add(path)
            return found

    data = Machine.named(name).bytes_of()
    vmlinux = Asked(data["vmlinux"])
    Layout.read(Asked(data["nf_conntrack"], vmlinux) if "nf_conntrack" in data else vmlinux)
    return sorted(asked)


ASKED = [(name, path) for name in NAMES for path in asked_of(name)]


def place_of(machine: Machine, path: str) -> tuple[str, int, int]:
    """File, type and member within it, counted from 0, of the last member of a path."""
    below, above = machine.files["vmlinux"], machine.files.get("nf_conntrack", [])
    everything = below + above

    def member(at: int, name: str) -> tuple[int, int, int] | None:
        """Of the type at this place, through typedefs and anonymous members: where it is, and the type that it has."""
        while everything[at].kind in (8, 9, 10, 11, 18):
            at = everything[at].size - 1
        for number, part in enumerate(everything[at].members):
            if part.name == name:
                return at, number, part.words[0] - 1
            if not part.name and (found := member(part.words[0] - 1, name)):
                return found
        return None

    head, *rest = path.split(".")
    types = [*range(len(below), len(everything)), *range(len(below))]
    place = next(at for at in types if everything[at].name == head and everything[at].kind in (STRUCT, UNION))
    owner = number = -1
    for name in rest:
        found = member(place, name)
        assert found, f"{path} is not in this kernel"
        owner, number, place = found
    return ("vmlinux", owner, number) if owner < len(below) else ("nf_conntrack", owner - len(below), number)


def without(machine: Machine, path: str) -> Machine:
    """The same kernel, whose struct has no such member."""
    file, at, number = place_of(machine, path)
    types = list(machine.files[file])
    types[at] = types[at]._replace(members=types[at].members[:number] + types[at].members[number + 1 :])
    return machine.changing({file: types})


@pytest.mark.parametrize(("name", "path"), ASKED)
def test_a_member_that_is_gone_is_named_or_does_without(name, path, monkeypatch, tmp_path):
    machine = Machine.named(name)
    whole = tmp_path / "whole"
    whole.mkdir()
    machine.runs(monkeypatch, whole)
    before = build().layout
    without(machine, path).runs(monkeypatch, tmp_path)
    if path not in OTHERWISE:
        last = path.rpartition(".")[2]
        with pytest.raises(
            KernelLacks,
            match=rf"^this kernel's struct {path.partition('.')[0]} has no member (\w+\.)*{last}: layout not supported$",
        ):
            build()
        return
    after = build().layout
    assert list(after.absent) == [path] * (path in OPTIONAL)
    assert before.extensions.items() - after.extensions.items() == {
        (name, offset) for name, offset in before.extensions.items() if EXTENSIONS[name] == path
    }
    if path not in OPTIONAL:
        nothing: dict[str, Any] = {"extensions": {}, "preempt_count": 0, "task_preempt_count": 0}
        assert after._replace(**nothing) == before._replace(**nothing)


@pytest.mark.parametrize("name", NAMES)
def test_marks_and_zones_of_a_kernel_without_them_are_0(name, monkeypatch, tmp_path):
    """Whatever the entry holds: read from where each entry has zeros, the half of `status` of which no bit is defined."""
    machine = without(without(Machine.named(name), "nf_conn.mark"), "nf_conn.zone")
    machine.runs(monkeypatch, tmp_path)
    layout = build().layout
    assert list(layout.absent) == ["nf_conn.mark", "nf_conn.zone"]
    raw = np.full(layout.raw_bytes, 0xA5, np.uint8)
    raw[layout.status : layout.status + 8] = list(struct.pack("<Q", 0xFFFF))
    records = np.zeros(1, record_dtype(layout))
    records.view(np.uint8)[HEADER_BYTES:] = raw
    records["has_ct"] = 1
    (entry,) = entries_of(records)
    assert (entry["mark"], entry["zone"], entry["zone_dir"], entry["status"]) == (0, 0, 0, 0xFFFF)
    assert entry["timeout"] == 0xA5A5A5A5
    numbers = layout.numbers
    assert numbers["CT_ZONE"] == layout.status + 4 and numbers["CT_PREFIX"] >= layout.status + 8


def damaged(machine: Machine, change: Callable[[bytes], bytes], file: str, directory: Path) -> None:
    """The kernel that runs, with one file changed."""
    path = directory / "btf" / file
    path.write_bytes(change(path.read_bytes()))


def test_a_kernel_without_network_namespaces_is_refused(monkeypatch, tmp_path):
    machine = Machine.named("x86_64-6.1")
    types = list(machine.files["vmlinux"])
    (holder,) = [item.size - 1 for item in types if item.name == "possible_net_t"]
    types[holder] = types[holder]._replace(size=0, members=())
    machine.changing({"vmlinux": types}).runs(monkeypatch, tmp_path)
    with pytest.raises(KernelLacks, match=r"without network namespaces \(CONFIG_NET_NS\)"):
        build()


def unnumbered(name: str, extension: str) -> Machine:
    """The kernel whose enum nf_ct_ext_id lacks this one."""
    machine = Machine.named(name)
    return machine.changing(
        {
            file: [item.without(extension) if item.name == "nf_ct_ext_id" and item.kind == ENUM else item for item in types]
            for file, types in machine.files.items()
        }
    )


@pytest.mark.parametrize("name", NAMES)
def test_without_start_times_there_are_none(name, monkeypatch, tmp_path):
    """CONFIG_NF_CONNTRACK_TIMESTAMP."""
    unnumbered(name, "NF_CT_EXT_TSTAMP").runs(monkeypatch, tmp_path)
    assert build().layout.numbers["EXT_START"] == -1


@pytest.mark.parametrize("name", NAMES)
def test_counters_whose_place_is_not_told_are_not_guessed(name, monkeypatch, tmp_path):
    unnumbered(name, "NF_CT_EXT_ACCT").runs(monkeypatch, tmp_path)
    with pytest.raises(KernelLacks, match=r"^this kernel's enum nf_ct_ext_id has no NF_CT_EXT_ACCT: layout not supported$"):
        build()


def test_no_types_at_all_is_a_refusal_that_names_the_option(monkeypatch, tmp_path):
    machine = Machine.named("x86_64-6.1")
    machine.runs(monkeypatch, tmp_path)
    tmp_path.joinpath("btf/vmlinux").unlink()
    with pytest.raises(KernelLacks, match=r"^no .*/vmlinux: this kernel was built without BTF \(CONFIG_DEBUG_INFO_BTF\); use a"):
        build()


def swapped(data: bytes) -> bytes:
    """The header as a big-endian machine writes it."""
    return struct.pack(">HBBIIIII", *struct.unpack("<HBBIIIII", data[:24])) + data[24:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (swapped, r"^this machine is big-endian, as its BTF says; ctobserve knows little-endian ones alone$"),
        (lambda data: b"\x7fELF" + data[4:], r"^the kernel's BTF has an unknown format; ctobserve reads BTF version 1$"),
        (lambda data: data[:2] + b"\2" + data[3:], r"^the kernel's BTF has an unknown format; ctobserve reads BTF version 1$"),
        (lambda _: b"", r"^the BTF in .*/btf cannot be understood, and may be damaged"),
        (lambda data: data[:23], r"^the BTF in .*/btf cannot be understood, and may be damaged"),
        (lambda data: data[:24], r"cannot be understood|does not describe"),
        (lambda data: data[: len(data) // 2], r"cannot be understood|does not describe"),
    ],
)
@pytest.mark.parametrize("file", ["vmlinux", "nf_conntrack"])
def test_types_that_are_damaged_or_of_another_kind_are_refused_in_a_line(file, change, words, monkeypatch, tmp_path):
    machine = Machine.named("x86_64-6.1")
    machine.runs(monkeypatch, tmp_path)
    damaged(machine, change, file, tmp_path)
    with pytest.raises(KernelLacks, match=words):
        build()


@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_damaged_in_them_ends_in_an_answer(name, monkeypatch, tmp_path):
    machine = Machine.named(name)
    machine.runs(monkeypatch, tmp_path)
    random = np.random.default_rng(7)
    for file in machine.files:
        whole = tmp_path.joinpath("btf", file).read_bytes()
        for _ in range(100):
            data = bytearray(whole)
            for at in random.integers(0, len(data), 3):
                data[at] = random.integers(256)
            tmp_path.joinpath("btf", file).write_bytes(data)
            try:
                assert build().layout.ct_bytes >= 0
            except KernelLacks as refused:
                assert "\n" not in str(refused)
        tmp_path.joinpath("btf", file).write_bytes(whole)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_cut_is_valid_and_small(name):
    """No type refers to one that is not there; what is written is what was read."""
    machine = Machine.named(name)
    data = machine.bytes_of()
    strings = strings_of(data["vmlinux"])
    for file, types in machine.files.items():
        assert parse(data[file], b"" if file == "vmlinux" else strings) == types
        below = 0 if file == "vmlinux" else len(machine.files["vmlinux"])
        assert all(0 <= number <= below + len(types) for item in types for number in references(item))
        assert all(item.size >= 0 for item in types)
    assert sum(map(len, data.values())) < 40_000
