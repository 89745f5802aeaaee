"""ctobserve check: what this kernel and host offer, and what stays blind."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import click

from ctobserve import __version__
from ctobserve.capture import read_via
from ctobserve.commands.help import OBSERVE, OUTPUT, Command, Example, option
from ctobserve.commands.session import out
from ctobserve.errors import CtobserveError, KernelLacks, NotPermitted
from ctobserve.host import kernel, kernel_build, netlink
from ctobserve.programs import syscalls
from ctobserve.programs.hooks import FUNCTIONS, Planned, Purpose, lacking, plan, without_btf
from ctobserve.render.jsonout import document
from ctobserve.render.text import check_lines


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `ok` False makes observation impossible, None only blinds a part of it."""

    name: str
    ok: bool | None
    found: str
    do: str = ""


@click.command(
    cls=Command,
    examples=(
        Example("why it does not work here, or what it cannot see", "ctobserve check"),
        Example("what would be hooked with kprobes alone", "ctobserve check --attach kprobe"),
    ),
)
@option(
    OBSERVE, "--attach", type=click.Choice(["auto", "fentry", "kprobe"]), default="auto", metavar="FORM",
    help="Form of the probes to plan for: fentry, kprobe or auto. Default: auto.",
)  # fmt: skip
@option(OUTPUT, "--json", "as_json", is_flag=True, help="As JSON (docs/json.md).")
def check(as_json: bool, attach: str) -> None:
    """What this kernel and host offer, which hooks will be used, what stays blind, and why. Changes nothing."""
    planned = _Plan(attach)
    looks: dict[str, Callable[[], Finding]] = {
        "root": _root,
        "conntrack": _conntrack,
        "layout": planned.layout,
        "btf": planned.btf,
        "symbols": planned.symbols,
        "table": planned.table,
        "hooks": planned.hooks,
        "bcc": _bcc,
        "bpf": _bpf,
        "netlink": _netlink,
    }
    findings = [_found(name, look) for name, look in looks.items()]
    failed = [item for item in findings if item.ok is False]
    report: dict[str, Any] = {
        "meta": {"command": "check", "version": __version__, "kernel": kernel.release(), "machine": platform.machine()},
        "usable": not failed,
        "findings": [item.__dict__ for item in findings],
        "hooks": planned.rows(),
    }
    if as_json:
        out([document(report)])
    else:
        out(check_lines(report))
    if failed:
        refused = any(item.name in ("root", "bpf") for item in failed)
        first = next((item for item in failed if item.name in ("root", "bpf")), failed[0])
        raise (NotPermitted if refused else KernelLacks)(f"observation is impossible here: {first.found}; {first.do}")


def _found(name: str, look: Callable[[], Finding]) -> Finding:
    """Whatever stands in the way of a look is what it found."""
    try:
        return look()
    except CtobserveError as error:
        what, _, remedy = str(error).partition("; ")
        return Finding(name, False, what, remedy)
    except OSError as error:
        return Finding(name, False, f"{error.filename or 'the kernel'}: {error.strerror}", "run as root; is this a container?")
    except Exception as error:
        return Finding(name, False, f"not understood ({type(error).__name__}: {error})", "report it: this is our fault")


def _root() -> Finding:
    if os.geteuid() == 0:
        return Finding("root", True, "running as root")
    return Finding("root", False, f"running as uid {os.geteuid()}, not root", "run: sudo ctobserve check")


def _conntrack() -> Finding:
    if kernel.conntrack_loaded():
        count, limit = kernel.sysctl("nf_conntrack_count"), kernel.sysctl("nf_conntrack_max")
        return Finding(
            "conntrack", True, f"loaded; {count} of {limit} entries here, {kernel.sysctl('nf_conntrack_buckets')} buckets"
        )
    return Finding(
        "conntrack", False, "nf_conntrack is not loaded, so this kernel tracks nothing", "load it: modprobe nf_conntrack"
    )


class _Plan:
    """What is read of the kernel for the plan of hooks; each look raises what keeps it from being read."""

    def __init__(self, attach: str) -> None:
        self._attach = attach
        self._facts: kernel_build.KernelBuild | None = None
        self._symbols: kernel.Symbols | None = None
        self._planned: list[Planned] = []

    def layout(self) -> Finding:
        """Every member of a kernel struct that is read."""
        self._facts = kernel_build.read(FUNCTIONS)
        size = self._facts.layout.ct_bytes
        return Finding("layout", True, f"struct nf_conn has {size} bytes, and every member that is read of it is there")

    def btf(self) -> Finding:
        """Whether trampolines can hang on conntrack's functions."""
        if self._facts is None:
            return Finding("btf", None, "no layout could be read from it")
        if self._facts.function_ids:
            return Finding("btf", True, "it describes nf_conntrack's functions: fentry and fexit can be used")
        return Finding("btf", None, "vmlinux only: functions of the nf_conntrack module take kprobes, which cost more")

    def symbols(self) -> Finding:
        """Conntrack's functions and variables."""
        self._symbols = kernel.Symbols.read()
        return Finding("symbols", True, f"{len(self._symbols.addresses)} symbols read from /proc/kallsyms")

    def table(self) -> Finding:
        """How they let us read the table."""
        if self._symbols is None:
            return Finding("table", None, "not looked at: there are no symbols")
        source = read_via.choose("auto", self._symbols)
        return Finding("table", True if source is read_via.ReadVia.WALK else None, source.words)

    def hooks(self) -> Finding:
        """Where the programs will hang."""
        if self._symbols is None or self._facts is None:
            return Finding("hooks", None, "not planned: the symbols or the layout could not be read")
        ids = {} if self._attach == "kprobe" else self._facts.function_ids
        everything = ~(Purpose.PROC | Purpose.NETLINK)
        with suppress(KernelLacks):
            everything |= read_via.choose("auto", self._symbols).purpose
        self._planned = plan(self._symbols, ids, everything)
        missing = lacking(self._planned)
        if missing:
            return Finding("hooks", False, f"this kernel has no function {missing}, without which the table cannot be followed")
        blind = [item.hook.functions[-1] for item in self._planned if item.function is None]
        untyped = without_btf(self._planned, ids) if ids else []
        if untyped and self._attach == "fentry":
            return Finding("hooks", False, f"no BTF of {', '.join(untyped)}", "use --attach auto or --attach kprobe")
        if blind:
            return Finding("hooks", None, f"not in this kernel, and so not seen: {', '.join(blind)}")
        if untyped:
            return Finding("hooks", None, f"kprobes for all, as the kernel has no BTF of {', '.join(untyped)}")
        return Finding("hooks", True, f"all {len(self._planned)} functions are there")

    def rows(self) -> list[dict[str, Any]]:
        """The plan, as the JSON contract has it; empty where there is none."""
        return [
            {
                "hook": item.hook.program,
                "function": item.function,
                "form": item.form.value,
                "each": item.hook.each,
                "tells": item.hook.tells,
            }
            for item in self._planned
        ]


def _bcc() -> Finding:
    if find_spec("bcc"):
        return Finding("bcc", True, "Python can import it")
    return Finding("bcc", False, "Python cannot import bcc", "install it: apt install python3-bpfcc")


def _bpf() -> Finding:
    syscalls.lock_any_memory()
    try:
        os.close(syscalls.prog_load(syscalls.PROG_TYPE_KPROBE, "probe", bytes.fromhex("b7000000000000009500000000000000")))
    except CtobserveError as error:
        return Finding("bpf", False, str(error).split(";")[0], "use a kernel that admits BPF programs, or the lab: make run")
    return Finding("bpf", True, "programs are admitted")


def _netlink() -> Finding:
    if netlink.available():
        return Finding("netlink", True, "nf_conntrack_netlink is loaded")
    return Finding("netlink", None, "nf_conntrack_netlink is not loaded: no update events; we do not load it")
