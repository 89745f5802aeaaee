"""Symbols are read once per boot and set of modules, and never taken for another's."""

from __future__ import annotations

import pytest

from ctobserve.errors import KernelLacks, NotPermitted
from ctobserve.host import restrictions, symbols
from ctobserve.host.symbols import Symbols

KALLSYMS = """\
ffffffff81000000 T _stext
000000000001f000 A __per_cpu_offset
ffffffffc0000ff0 t __pfx_nf_conntrack_in\t[nf_conntrack]
ffffffffc0001000 t nf_conntrack_in\t[nf_conntrack]
ffffffffc0002000 T nf_nat_inet_fn\t[nf_nat]
ffffffffc0003000 t other\t[ext4]
"""
LOADED = """\
nf_nat 57344 {used} nft_chain_nat, Live 0xffffffffc0002000
nf_conntrack 188416 4 nf_nat,nft_ct, {state} {at}
ext4 1000 1 - Live 0xffffffffc0003000
"""
CONNTRACK, NAT = {"nf_conntrack_in": 0xFFFFFFFFC0001000}, {"nf_nat_inet_fn": 0xFFFFFFFFC0002000}
FOUND = CONNTRACK | NAT | {"__per_cpu_offset": 0x1F000}


class Machine:
    """A kernel in files; `reads` counts how often kallsyms was read."""

    def __init__(self, directory, monkeypatch):
        self.directory, self.reads = directory, 0
        for name in ("KALLSYMS", "LOADED", "BOOT_ID", "SYS_MODULE"):
            monkeypatch.setattr(symbols, name, directory / name)
        read = symbols.read_text

        def counting(path):
            self.reads += path.name == "KALLSYMS"
            return read(path)

        monkeypatch.setattr(symbols, "read_text", counting)
        directory.joinpath("SYS_MODULE", "nf_conntrack").mkdir(parents=True)
        self.boots("one")
        self.says(KALLSYMS)
        self.loads()

    def boots(self, name):
        self.directory.joinpath("BOOT_ID").write_text(f"{name}\n")

    def says(self, text):
        self.directory.joinpath("KALLSYMS").write_text(text)

    def another_file(self):
        """As where somebody has mounted one over it."""
        self.directory.joinpath("other").touch()
        self.directory.joinpath("other").rename(self.directory / "KALLSYMS")

    def loads(self, at="0xffffffffc0001000", used=1, state="Live"):
        self.directory.joinpath("LOADED").write_text(LOADED.format(at=at, used=used, state=state))

    def loads_again(self):
        """To the same place; its data may lie elsewhere."""
        module = self.directory / "SYS_MODULE" / "nf_conntrack"
        module.with_name("next").mkdir()
        module.with_name("next").rename(module)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setenv("CTOBSERVE_CACHE_DIR", str(tmp_path / "cache"))
    return Machine(tmp_path, monkeypatch)


def test_only_what_is_ours_is_read_and_only_once(machine):
    assert Symbols.read().addresses == Symbols.read().addresses == FOUND
    assert machine.reads == 1
    machine.loads(used=2)
    assert Symbols.read().addresses == FOUND and machine.reads == 1, "who uses a module moves no address"


def test_where_conntrack_is_built_in_it_is_every_function_and_conntrack_s_variables(machine):
    machine.says(
        "0000000000030000 D __preempt_count\nffffffff81000000 T _stext\nffffffff810000f0 t __pfx_nf_conntrack_in\n"
        "ffffffff81000100 t nf_conntrack_in\nffffffff81000200 W early_drop.part.3\nffffffff82000000 B nf_conntrack_hash\n"
        "ffffffff82000100 B jiffies_seq\nffffffffc0003000 t other\t[ext4]\n"
    )
    found = Symbols.read()
    assert found.addresses == Symbols.read().addresses
    assert found.addresses.keys() == {"__preempt_count", "_stext", "nf_conntrack_in", "early_drop.part.3", "nf_conntrack_hash"}
    assert found.containing(0xFFFFFFFF81000204) == "early_drop.part.3"


def test_copies_are_those_of_one_function_and_no_cold_part_of_it():
    copies = ("nf_ct_delete.part.12", "nf_ct_delete.constprop.0.isra.3")
    others = (
        "a_nf_ct_delete.part.0",
        "nf_ct_delete_all",
        "nf_ct_delete.part.12.cold",
        "nf_ct_delete.llvm.7.cold",
        "nf_ct_kill.part.0",
    )
    found = Symbols(dict.fromkeys((*others, *copies), 1))
    part, both = copies
    assert found.copies("nf_ct_delete") == {part: {"part"}, both: {"constprop", "isra"}}
    assert Symbols({"nf_ct_delete": 1, part: 2}).copies("nf_ct_delete") == {"nf_ct_delete": set(), part: {"part"}}
    assert found.copies("nf_ct") == {}


def test_what_clang_renamed_is_the_whole_function():
    assert Symbols({"kill_all.llvm.7159": 1}).copies("kill_all") == {"kill_all.llvm.7159": set()}


@pytest.mark.parametrize(
    "change",
    [
        lambda machine: machine.boots("another"),
        lambda machine: machine.loads(at="0xffffffffc0009000"),
        lambda machine: machine.loads(state="Loading"),
        lambda machine: machine.loads_again(),
        lambda machine: machine.directory.joinpath("LOADED").unlink(),
        lambda machine: machine.another_file(),
    ],
)
def test_after_a_boot_with_other_modules_or_from_another_file_it_is_read_again(machine, change):
    assert Symbols.read().addresses == FOUND
    change(machine)
    machine.says(KALLSYMS.replace("ffffffffc0001000", "ffffffffc0009000"))
    assert Symbols.read().addresses == FOUND | {"nf_conntrack_in": 0xFFFFFFFFC0009000}
    assert machine.reads == 2


def test_one_file_is_kept_however_many_boots(machine):
    for boot in ("one", "two", "three"):
        machine.boots(boot)
        Symbols.read()
    assert [path.name for path in machine.directory.joinpath("cache").iterdir()] == ["symbols"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("0000000000000000 t nf_conntrack_in\t[nf_conntrack]\n", NotPermitted),
        ("ffffffffc0003000 t other\t[ext4]\n", KernelLacks),
    ],
)
def test_nothing_is_kept_of_what_cannot_be_used(machine, text, error):
    machine.says(f"ffffffff81000000 T _stext\n{text}")
    for reads in (1, 2):
        with pytest.raises(error):
            Symbols.read()
        assert machine.reads == reads


@pytest.mark.parametrize(
    ("restrict", "words"),
    [
        ("2", r"^\S*KALLSYMS hides addresses: kernel.kptr_restrict is 2; .*: sysctl kernel.kptr_restrict=1$"),
        ("1", r"^\S*KALLSYMS hides addresses: CAP_SYSLOG is missing; run as root outside the container$"),
    ],
)
def test_hidden_addresses_are_told_with_the_reason(machine, monkeypatch, tmp_path, restrict, words):
    (tmp_path / "kptr").write_text(f"{restrict}\n")
    monkeypatch.setattr(restrictions, "KPTR_RESTRICT", tmp_path / "kptr")
    machine.says("".join(f"{'0' * 16}{line[16:]}\n" for line in KALLSYMS.splitlines()))
    with pytest.raises(NotPermitted, match=words):
        Symbols.read()


def test_a_kernel_without_symbols_is_told_in_a_line(machine):
    machine.directory.joinpath("KALLSYMS").unlink()
    with pytest.raises(KernelLacks, match=r"^no .*KALLSYMS; this kernel names no functions to attach to \(CONFIG_KALLSYMS\)$"):
        Symbols.read()


@pytest.mark.parametrize("text", ["", "\n\n", "\0" * 100, "no symbols at all\n", KALLSYMS.replace("ffff", "zzzz")])
def test_symbols_that_are_none_are_nobodys(machine, text):
    machine.says(text)
    with pytest.raises(KernelLacks, match="nf_conntrack is not loaded"):
        Symbols.read()


@pytest.mark.parametrize(
    ("va_bits", "first"), [(48, 0xFFFF_8000_8000_0000), (39, 0xFFFF_FFC0_8000_0000), (52, 0xFFF0_0000_8000_0000)]
)
def test_what_arm64_signs_an_address_with_is_taken_off(va_bits, first):
    """The signature lies above the bits of an address, but for bit 55, which says whose half it is of."""
    known = {"nf_ct_delete": first + 0x1000, "nf_nat_inet_fn": first + 0x7FFF_0000, "a_per_cpu_variable": 0x30000}
    signature = (1 << 64) - (1 << va_bits) & ~(1 << 55)
    for address in (first + 0x1234, first + 0x7FFF_0010):
        for signed in (address & ~signature, address & ~(signature & 0x5555 << 48), address):
            assert Symbols(known).unsigned(signed) == address
