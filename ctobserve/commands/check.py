"""ctobserve check: what this kernel and host offer, and what stays blind."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import Any

import click

from ctobserve import __version__, facts, kernel, netlink, sources, syscalls
from ctobserve.btf import BTF_DIR
from ctobserve.commands.session import out
from ctobserve.errors import CtobserveError, KernelLacks, NotPermitted
from ctobserve.hooks import Purpose, plan
from ctobserve.render.jsonout import document
from ctobserve.render.text import check_lines


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `ok` False makes observation impossible, None only blinds a part of it."""

    name: str
    ok: bool | None
    found: str
    do: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--attach", type=click.Choice(["auto", "kprobe"]), default="auto", help="Form of the probes to plan for.")
def check(as_json: bool, attach: str) -> None:
    """What this kernel and host offer, which hooks will be used, what stays blind, and why. Changes nothing."""
    findings = [_root(), _conntrack(), _btf(), *_symbols(), _bcc(), _bpf(), _netlink()]
    hooks = _hooks(attach) if all(item.ok is not False for item in findings) else []
    report: dict[str, Any] = {
        "meta": {"command": "check", "version": __version__, "kernel": kernel.release(), "machine": platform.machine()},
        "usable": bool(hooks),
        "findings": [item.__dict__ for item in findings],
        "hooks": hooks,
    }
    if as_json:
        out([document(report)])
    else:
        out(check_lines(report))
    failed = [item for item in findings if item.ok is False]
    if failed:
        refused = any(item.name in ("root", "bpf") for item in failed)
        first = next((item for item in failed if item.name in ("root", "bpf")), failed[0])
        raise (NotPermitted if refused else KernelLacks)(f"observation is impossible here: {first.found}; {first.do}")


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


def _btf() -> Finding:
    if not BTF_DIR.joinpath("vmlinux").exists():
        return Finding(
            "btf", False, f"no {BTF_DIR}/vmlinux", "use a kernel built with CONFIG_DEBUG_INFO_BTF, as distributions do"
        )
    if BTF_DIR.joinpath("nf_conntrack").exists():
        return Finding("btf", True, "vmlinux and nf_conntrack: fentry and fexit can be used")
    return Finding("btf", None, "vmlinux only: functions of the nf_conntrack module take kprobes, which cost more")


def _symbols() -> list[Finding]:
    """Conntrack's symbols, and how they let us read the table."""
    try:
        symbols = kernel.Symbols.read()
    except CtobserveError as error:
        return [Finding("symbols", False, str(error).split(";")[0], str(error).partition("; ")[2])]
    found = Finding("symbols", True, f"{len(symbols.addresses)} symbols of conntrack in /proc/kallsyms")
    try:
        source = sources.choose("auto", symbols)
    except KernelLacks as error:
        return [found, Finding("table", False, str(error).split(";")[0], "use a kernel with CONFIG_KALLSYMS_ALL")]
    return [found, Finding("table", True if source is sources.Source.WALK else None, source.words)]


def _bcc() -> Finding:
    from importlib.util import find_spec

    if find_spec("bcc"):
        return Finding("bcc", True, "Python can import it")
    return Finding("bcc", False, "Python cannot import bcc", "install it: apt install python3-bpfcc")


def _bpf() -> Finding:
    try:
        syscalls.lock_any_memory()
        os.close(syscalls.prog_load(syscalls.PROG_TYPE_KPROBE, "probe", bytes.fromhex("b7000000000000009500000000000000")))
    except CtobserveError as error:
        return Finding("bpf", False, str(error).split(";")[0], "use a kernel that admits BPF programs, or the lab: make run")
    return Finding("bpf", True, "programs are admitted")


def _netlink() -> Finding:
    if netlink.available():
        return Finding("netlink", True, "nf_conntrack_netlink is loaded")
    return Finding("netlink", None, "nf_conntrack_netlink is not loaded: no update events; we do not load it")


def _hooks(attach: str) -> list[dict[str, Any]]:
    symbols = kernel.Symbols.read()
    ids = {} if attach == "kprobe" else facts.read().function_ids
    unused = Purpose.PROC | Purpose.NETLINK
    everything = ~unused | sources.choose("auto", symbols).purpose
    return [
        {
            "hook": item.hook.program,
            "function": item.function,
            "form": item.form.value,
            "each": item.hook.each,
            "tells": item.hook.tells,
        }
        for item in plan(symbols, ids, everything)
    ]
