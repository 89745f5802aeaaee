"""Trampolines are tried by attaching them: where the kernel refuses one, all hooks are kprobes, or the command ends in a line."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from ctobserve.errors import CtobserveError, KernelLacks, NotPermitted
from ctobserve.host import kernel_build, netlink, restrictions
from ctobserve.host.kernel_build import KernelBuild
from ctobserve.host.symbols import Symbols
from ctobserve.programs import attachment, syscalls
from ctobserve.programs.attachment import Attachment
from ctobserve.programs.compile import Image, MapSpec, Program
from ctobserve.programs.given import NAMES
from ctobserve.programs.hooks import HOOKS, Purpose
from tests.unit.samples import LAYOUT
from tests.unit.test_hooks import FUNCTIONS, TYPED

PURPOSE = Purpose.TABLE | Purpose.DROPS
SYMBOLS = Symbols(dict.fromkeys(FUNCTIONS, 1))
TRAMPOLINES, KPROBES = b"\x01" * 16, b"\x02" * 16
REFUSED = OSError(syscalls.ENOTSUPP, "Not supported (ENOTSUPP)")


def image(code: bytes) -> Image:
    """Programs that load no map's address, and the maps that are made at every start."""
    names = {hook.program for hook in HOOKS} | {"call_begin", "clock"}
    maps = {"config": MapSpec(2, 4, 40, 1, 0), "lost": MapSpec(6, 4, 8, 16, 0), "unpaired": MapSpec(6, 4, 8, 1, 0)}
    return Image(maps, {name: Program(code, [], []) for name in names})


class Kernel:
    """Answers each call with a descriptor of its own; `refuses` is what comes of the n-th trampoline."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refuses: dict[int, Exception] = {}
        self.no_probe = ("", 0)
        self.hung: list[int] = []
        self.probed: list[str] = []
        self.loaded: list[bytes] = []
        self.maps: list[str] = []
        self.preempts: str | None = None
        self.open: set[int] = set()
        close = os.close

        def closes(fd: int) -> None:
            self.open.discard(fd)
            close(fd)

        monkeypatch.setattr(os, "close", closes)
        monkeypatch.setattr(syscalls, "prog_load", lambda _type, _name, code, *_: self.loaded.append(code) or self.opens())
        monkeypatch.setattr(syscalls, "map_create", lambda *given: self.maps.append(given[-1]) or self.opens())
        monkeypatch.setattr(syscalls, "raw_tracepoint_open", self.hangs)
        monkeypatch.setattr(syscalls, "kprobe_attach", self.probes)
        monkeypatch.setattr(syscalls, "module_btf_fd", lambda _: self.opens())
        monkeypatch.setattr(syscalls, "map_update", lambda *_: None)
        monkeypatch.setattr(syscalls, "lock_any_memory", lambda: None)
        monkeypatch.setattr(kernel_build, "read", lambda _: KernelBuild(LAYOUT, TYPED))
        monkeypatch.setattr(netlink, "available", lambda: True)
        monkeypatch.setattr(restrictions, "probes_off", lambda: None)
        monkeypatch.setattr(attachment, "reckoned_with", lambda _: self.preempts)
        monkeypatch.setattr(attachment, "build", lambda trampolines: image(TRAMPOLINES if trampolines else KPROBES))
        monkeypatch.setattr(attachment, "given", lambda *_: [0] * len(NAMES))

    def opens(self) -> int:
        self.open.add(fd := os.open("/dev/null", os.O_RDONLY))
        return fd

    def probes(self, _program: int, function: str, _at_return: bool) -> int:
        if function == self.no_probe[0]:
            raise OSError(self.no_probe[1], os.strerror(self.no_probe[1]))
        self.probed.append(function)
        return self.opens()

    def hangs(self, program: int) -> int:
        self.hung.append(program)
        if len(self.hung) in self.refuses:
            raise self.refuses[len(self.hung)]
        return self.opens()


@pytest.fixture
def kernel(monkeypatch) -> Kernel:
    return Kernel(monkeypatch)


@pytest.fixture
def start(kernel) -> Iterator:
    """What a start attaches, in the form that was asked for, up to the end of the test; then nothing is left open."""
    begun: list[Attachment] = []

    def go(attach: str, purpose: Purpose = PURPOSE) -> Attachment:
        made = Attachment(purpose, attach, SYMBOLS)
        made.load(made.choices(chains=False, netns=None), 4096)
        begun.append(made)
        made.programs.load_runnable("clock")
        made.attach()
        return made

    yield go
    for made in begun:
        made.close()
    assert kernel.open == set()


def test_a_kernel_that_takes_them_gets_trampolines_alone(kernel, start):
    made = start("auto")
    assert made.trampolines and set(kernel.loaded) == {TRAMPOLINES}
    assert len(kernel.hung) == sum(bool(item.btf) for item in made.plan) == 8
    assert set(kernel.probed) == {"nf_ct_delete", "nf_ct_iterate_cleanup", "nf_ct_helper_log", "nf_conntrack_double_lock"}


@pytest.mark.parametrize(
    ("purpose", "trampolines"),
    [
        (Purpose.TABLE, True),  # softirqs are off there
        (Purpose.COUNTS, True),  # what is missed is counted, and a kprobe on each new entry is dear
        (Purpose.TABLE | Purpose.DROPS, False),
        (Purpose.REASONS, False),
        (Purpose.UPDATES, False),
        (Purpose.INVALID, False),
    ],
)
def test_where_the_kernel_may_be_preempted_what_a_trampoline_would_miss_takes_kprobes(kernel, start, purpose, trampolines):
    kernel.preempts = "lazy"
    made = start("auto", purpose)
    assert made.trampolines == trampolines == any(item.btf for item in made.plan)
    assert bool(kernel.hung) == trampolines


def test_whoever_asks_for_fentry_gets_it_where_the_kernel_may_be_preempted(kernel, start):
    kernel.preempts = "rt"
    assert start("fentry").trampolines


@pytest.mark.parametrize("first", [1, 7])
def test_where_one_is_refused_all_hooks_are_kprobes(kernel, start, first):
    kernel.refuses = {first: REFUSED}
    made = start("auto")
    assert not made.trampolines and not any(item.btf for item in made.plan)
    assert len(kernel.hung) == first, "none is tried after the first that is refused"
    assert set(kernel.probed) == {item.function for item in made.plan}
    assert kernel.maps == ["config"], "who holds a map holds the one that the programs use"
    clock = made.programs.load_runnable("clock")
    assert clock in kernel.open and kernel.loaded.count(TRAMPOLINES) < len(kernel.loaded)
    links = [item for item in made.plan if item.hook.at_return]
    assert len(kernel.probed) >= len(made.plan) + len(links), "both ends of a call"


def test_where_the_verifier_refuses_one_kprobes_are_tried_too(kernel, start, monkeypatch):
    load = syscalls.prog_load

    def loads(program_type, name, *rest):
        if program_type == syscalls.PROG_TYPE_TRACING:
            raise CtobserveError(f"the kernel's verifier refuses program {name}: Invalid argument; ")
        return load(program_type, name, *rest)

    monkeypatch.setattr(syscalls, "prog_load", loads)
    assert not start("auto").trampolines


def test_fentry_that_was_asked_for_is_refused_with_the_kernels_own_error(kernel, start):
    kernel.refuses = {3: REFUSED}
    with pytest.raises(KernelLacks) as ended:
        start("fentry")
    assert str(ended.value) == (
        "--attach fentry: this kernel attaches no fexit on __nf_conntrack_alloc: Not supported (ENOTSUPP); try: --attach kprobe"
    )
    assert KPROBES not in kernel.loaded


def test_what_a_policy_forbids_is_not_tried_in_another_form(kernel, start, monkeypatch):
    load = syscalls.prog_load

    def loads(program_type, name, *rest):
        if program_type == syscalls.PROG_TYPE_TRACING:
            raise NotPermitted(f"cannot load BPF program {name}: Operation not permitted; a policy")
        return load(program_type, name, *rest)

    monkeypatch.setattr(syscalls, "prog_load", loads)
    with pytest.raises(NotPermitted, match="a policy"):
        start("auto")
    assert KPROBES not in kernel.loaded


@pytest.mark.parametrize("attach", ["auto", "kprobe"])
@pytest.mark.parametrize("code", [errno.ENOENT, errno.EADDRNOTAVAIL, errno.EINVAL])
def test_a_function_that_takes_no_probe_stays_unseen_and_is_told(kernel, start, attach, code):
    """As where a module, or a live patch, has another function of its name (Linux 6.7 on: EADDRNOTAVAIL)."""
    kernel.no_probe = ("nf_ct_helper_log", code)
    made = start(attach)
    assert made.not_attached == ("nf_ct_helper_log",) and "nf_conntrack_double_lock" in kernel.probed


@pytest.mark.parametrize("refusal", [("nf_ct_delete", errno.EADDRNOTAVAIL), ("nf_ct_helper_log", errno.ENOMEM)])
def test_without_what_is_needed_or_for_another_cause_nothing_starts(kernel, start, refusal):
    kernel.no_probe = refusal
    with pytest.raises(CtobserveError, match=rf"^cannot attach to {refusal[0]} \(kprobe\): "):
        start("kprobe")


def test_what_would_be_attached_to_no_avail_is_not_attached(kernel, start, monkeypatch):
    monkeypatch.setattr(restrictions, "probes_off", lambda: "kernel.ftrace_enabled is 0; try: this")
    with pytest.raises(KernelLacks, match=r"^kernel.ftrace_enabled is 0; try: this$"):
        start("auto")
    assert not kernel.loaded
    Attachment(Purpose(0), "auto", SYMBOLS)


@pytest.mark.parametrize("refused", [False, True])
def test_what_comes_late_and_is_refused_leaves_the_others(kernel, monkeypatch, refused):
    monkeypatch.setattr(netlink, "available", lambda: False)
    early = Symbols(dict.fromkeys(FUNCTIONS - {"ctnetlink_conntrack_event"}, 1))
    made = Attachment(Purpose.TABLE | Purpose.UPDATES, "auto", early)
    made.load(made.choices(chains=False, netns=None), 4096)
    made.attach()
    assert made.not_attached == ("ctnetlink_conntrack_event",) and not made.attach_late()
    monkeypatch.setattr(netlink, "available", lambda: True)
    monkeypatch.setattr(Symbols, "read", lambda: SYMBOLS)
    kernel.refuses = {len(kernel.hung) + 1: REFUSED} if refused else {}
    before = len(kernel.hung)
    assert made.attach_late() and len(kernel.hung) == before + 1
    assert made.not_attached == (("ctnetlink_conntrack_event",) if refused else ())
    made.close()
    assert kernel.open == set()
