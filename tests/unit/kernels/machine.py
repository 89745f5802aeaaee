"""A kernel of which only this is known: the BTF and the symbols that were cut from a real one, where ctobserve looks for them."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import NamedTuple

import pytest

from ctobserve.host import btf, kernel, kernel_build, symbols
from ctobserve.host.kernel_build import KernelBuild
from ctobserve.host.symbols import Symbols
from ctobserve.programs.hooks import FUNCTIONS, Planned, Purpose, plan
from tests.unit.kernels.btf_types import Type, parse, renumbered, strings_of, written

HERE = Path(__file__).parent
NAMES = tuple(sorted(path.name for path in HERE.iterdir() if path.joinpath("kallsyms.xz").exists()))


class Machine(NamedTuple):
    """Types of vmlinux and of each module on top of it, by file; what /proc/kallsyms says."""

    files: dict[str, list[Type]]
    kallsyms: str

    @classmethod
    def named(cls, name: str) -> Machine:
        """One of NAMES."""
        content = {path.name.removesuffix(".xz"): lzma.decompress(path.read_bytes()) for path in (HERE / name).glob("*.xz")}
        strings = strings_of(content["vmlinux.btf"])
        files = {
            file.removesuffix(".btf"): parse(data, b"" if file == "vmlinux.btf" else strings)
            for file, data in content.items()
            if file.endswith(".btf")
        }
        return cls({"vmlinux": files.pop("vmlinux"), **dict(sorted(files.items()))}, content["kallsyms"].decode())

    def changing(self, change: dict[str, list[Type]]) -> Machine:
        """The same with these files."""
        return self._replace(files=self.files | change)

    def without_symbols(self, *names: str) -> Machine:
        """The same kernel, in which these have no address."""
        lines = [line for line in self.kallsyms.splitlines(keepends=True) if line.split()[2] not in names]
        return self._replace(kallsyms="".join(lines))

    def built_in(self) -> Machine:
        """The same with conntrack in the kernel itself: no module, and all types in vmlinux (CONFIG_NF_CONNTRACK=y)."""
        vmlinux, *modules = self.files.values()
        types = list(vmlinux)
        for module in modules:
            first, above = len(vmlinux) + 1, len(types) - len(vmlinux)
            count = len(vmlinux) + len(module) + 1
            numbers = {number: number if number < first else number + above for number in range(count)}
            types += [renumbered(item, numbers) for item in module]
        lines = [line.partition("\t[")[0] for line in self.kallsyms.splitlines()]
        return Machine({"vmlinux": types}, "\n".join(lines) + "\n")

    def bytes_of(self) -> dict[str, bytes]:
        """The files of /sys/kernel/btf."""
        vmlinux = written(self.files["vmlinux"])
        above = {name: written(types, len(strings_of(vmlinux))) for name, types in self.files.items() if name != "vmlinux"}
        return {"vmlinux": vmlinux, **above}

    def runs(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        """From now on this is the kernel; its files are in this directory, where nothing is kept of it."""
        monkeypatch.setenv("CTOBSERVE_CACHE_DIR", "none")
        types, names = directory / "btf", directory / "kallsyms"
        types.mkdir()
        for name, data in self.bytes_of().items():
            (types / name).write_bytes(data)
        names.write_text(self.kallsyms)
        monkeypatch.setattr(btf, "BTF_DIR", types)
        monkeypatch.setattr(kernel_build, "BTF_DIR", types)
        for module in (kernel, symbols):
            monkeypatch.setattr(module, "KALLSYMS", names)


def build() -> KernelBuild:
    """What is read of the types of the kernel that runs."""
    return kernel_build.read(FUNCTIONS)


def planned(purpose: Purpose = ~(Purpose.PROC | Purpose.NETLINK)) -> list[Planned]:
    """The hooks of the kernel that runs; without others, those of whoever reads the table by walking it."""
    return plan(Symbols.read(), build().function_ids, purpose)
