"""What this kernel and host offer, which hooks would be used, what stays blind, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from ctobserve import __version__
from ctobserve.capture.prospect import Occupancy, Plan, Prospect
from ctobserve.capture.read_via import ReadVia
from ctobserve.documents.base import doc
from ctobserve.documents.meta import SCHEMA, Origin
from ctobserve.errors import CtobserveError, KernelLacks, NotPermitted
from ctobserve.host.capabilities import Use, words

T = TypeVar("T")
CONFIDENTIALITY = "confidentiality"
PREEMPTED = "kprobes, which cost more, tell losses and reasons: this kernel may be preempted ({}), and fentry would miss calls"
UNTOLD = "what one misses while another runs on its CPU is not counted as lost: kernels tell that from 6.7 on"
MISSES = "tried: the kernel attaches fentry and fexit programs; it may be preempted ({}), and calls are missed then"
FEATURES = "tried: kprobes, reading memory, the ring buffer, programs run at request"


@dataclass(frozen=True)
class CheckMeta(Origin):
    """Who says it, and of which machine."""

    machine: str = doc("uname -m")


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str = doc("what was looked at")
    ok: bool | None = doc("false makes observation impossible; null where only a part is blind")
    found: str = doc("what was found")
    do: str = doc("what to do about it; empty where there is nothing to do")
    forbidden: bool = doc("`ok` is false as we may not, not as the kernel cannot")


@dataclass(frozen=True)
class HookRow:
    """A program, and the function that it would hang on."""

    hook: str = doc("name of the program")
    function: str | None = doc("function of this kernel; null where it has none: what it would tell is not seen")
    form: str = doc("fentry, fexit, kprobe, or kprobe + kretprobe")
    each: str = doc("it runs once per ...")
    tells: str = doc("what is known by it")


@dataclass(frozen=True)
class CheckDocument:
    """Whether conntrack can be observed here, and how."""

    meta: CheckMeta = doc("who says it, and of which machine")
    usable: bool = doc("nothing makes observation impossible")
    findings: tuple[Finding, ...] = doc("all that was looked at")
    hooks: tuple[HookRow, ...] = doc("in the order in which they would be attached; empty where none could be planned")

    def refusal(self) -> CtobserveError | None:
        """Why observation is impossible here, with its exit code; None where it is not."""
        failed = [item for item in self.findings if item.ok is False]
        if not failed:
            return None
        first = next((item for item in failed if item.forbidden), failed[0])
        return (NotPermitted if first.forbidden else KernelLacks)(f"observation is impossible here: {first.found}; {first.do}")


class _Answer(NamedTuple):
    """What a finding says of what was looked at."""

    ok: bool | None
    found: str
    do: str = ""
    forbidden: bool = False


def collect(prospect: Prospect, attach: str) -> CheckDocument:
    """All looks, whatever stands in the way of some; `attach` is the form of the probes to plan for: auto, fentry or kprobe."""
    layout, symbols = _tried(prospect.entry_bytes), _tried(prospect.symbols)
    unread, unnamed = isinstance(layout, _Answer), isinstance(symbols, _Answer)
    types = _Answer(None, "no layout could be read from it") if unread else _tried(prospect.has_types)
    via = _Answer(None, "not looked at: there are no symbols") if unnamed else _tried(prospect.reads_via)
    unplanned = _Answer(None, "not planned: the symbols or the layout could not be read")
    plan = unplanned if unread or unnamed else _tried(lambda: prospect.plan(attach))
    admitted = _tried(prospect.admit_program)
    tried = _trial(prospect, plan, admitted, attach)
    if isinstance(tried, str) and attach == "auto":
        plan = _tried(lambda: prospect.plan("kprobe"))
    findings = (
        _finding("root", _tried(prospect.without), lambda without: _root(prospect.uid(), without)),
        _finding("conntrack", _tried(prospect.occupancy), _conntrack),
        _finding("layout", layout, lambda entry_bytes: _layout(entry_bytes, prospect.absent())),
        _finding("btf", types, _btf),
        _finding("symbols", symbols, lambda count: _symbols(count, prospect.unnamed(), unread or prospect.names_processes())),
        _finding("table", via, _table),
        _finding("hooks", plan, lambda found: _hooks(found, attach)),
        _finding("bcc", _tried(lambda: (prospect.comes_compiled(), prospect.has_bcc())), _bcc),
        _finding("bpf", admitted, lambda _: _Answer(True, "programs are admitted")),
        _finding("lockdown", _tried(prospect.lockdown), _lockdown),
        _finding("features", _features(prospect, admitted), lambda _: _Answer(True, FEATURES)),
        _finding("fentry", tried, lambda refusal: _fentry(refusal, attach, prospect.preemption())),
        _finding("probes", _tried(lambda: (prospect.probes_off(), prospect.probes_hide_missed())), lambda told: _probes(*told)),
        _finding("netlink", _tried(prospect.has_netlink), _netlink),
    )
    return CheckDocument(
        meta=CheckMeta("check", __version__, SCHEMA, prospect.release, prospect.machine),
        usable=all(item.ok is not False for item in findings),
        findings=findings,
        hooks=() if isinstance(plan, _Answer) else _rows(plan),
    )


def _tried(look: Callable[[], T]) -> T | _Answer:
    """What it sees, or what stands in its way: that is an answer, too."""
    try:
        return look()
    except CtobserveError as error:
        what, _, remedy = str(error).partition("; ")
        return _Answer(False, what, remedy, isinstance(error, NotPermitted))
    except OSError as error:
        return _Answer(False, f"{error.filename or 'the kernel'}: {error.strerror}", "run as root; is this a container?")
    except Exception as error:
        return _Answer(False, f"not understood ({type(error).__name__}: {error})", "report it: this is our fault")


def _trial(prospect: Prospect, plan: Plan | _Answer, admitted: _Answer | None, attach: str) -> str | _Answer | None:
    """What the kernel says against a fentry or fexit program of the plan; None where it takes all of them."""
    if isinstance(plan, _Answer):
        return _Answer(None, "not tried: no hook could be planned")
    if not any(item.btf for item in plan.hooks):
        how = prospect.preemption() if attach == "auto" and prospect.has_types() else None
        return _Answer(
            True if attach == "kprobe" else None, PREEMPTED.format(how) if how else "not tried: kprobes are planned for all"
        )
    if isinstance(admitted, _Answer):
        return _Answer(None, "not tried: programs are not admitted")
    return _tried(lambda: prospect.trampoline_refusal(plan))


def _features(prospect: Prospect, admitted: _Answer | None) -> _Answer | None:
    if isinstance(admitted, _Answer):
        return _Answer(None, "not tried: programs are not admitted")
    if prospect.lockdown() == CONFIDENTIALITY:
        return _Answer(None, "not tried: lockdown forbids to read memory")
    return _tried(prospect.try_features)


def _finding(name: str, seen: T | _Answer, say: Callable[[T], _Answer]) -> Finding:
    return Finding(name, *(seen if isinstance(seen, _Answer) else say(seen)))


def _root(uid: int, without: tuple[Use, ...]) -> _Answer:
    who = "root" if uid == 0 else f"uid {uid}"
    if required := [use for use in without if use.required]:
        return _Answer(False, f"running as {who} without {words(required)}", "run: sudo ctobserve check", True)
    if without:
        unseen = "; ".join(f"without {use.capability.word} not seen: {use.blind}" for use in without)
        return _Answer(None, f"running as {who}; {unseen}")
    return _Answer(True, f"running as {who}{', with every capability that any command uses' if uid else ''}")


def _conntrack(table: Occupancy | None) -> _Answer:
    if table:
        return _Answer(True, f"loaded; {table.count} of {table.max} entries here, {table.buckets} buckets")
    return _Answer(False, "nf_conntrack is not loaded, so this kernel tracks nothing", "load it: modprobe nf_conntrack")


def _layout(entry_bytes: int, absent: Mapping[str, str]) -> _Answer:
    size = f"struct nf_conn has {entry_bytes} bytes"
    if absent:
        without = ", ".join(f"{member} ({option})" for member, option in absent.items())
        return _Answer(None, f"{size}; this kernel was built without {without}: always shown as 0")
    return _Answer(True, f"{size}, and every member that is read of it is there")


def _btf(has_types: bool) -> _Answer:
    if has_types:
        return _Answer(True, "it describes nf_conntrack's functions, as fentry and fexit need")
    return _Answer(None, "vmlinux only: functions of the nf_conntrack module take kprobes, which cost more")


def _symbols(count: int, unnamed: list[str], names_processes: bool) -> _Answer:
    found = f"{count} symbols read from /proc/kallsyms"
    blind = [f"no {', '.join(unnamed)}: no chain is counted at inserts and drops"] if unnamed else []
    if not names_processes:
        blind.append("no preempt count: no process is named")
    return _Answer(None, f"{found}, but {'; '.join(blind)} (CONFIG_KALLSYMS_ALL)") if blind else _Answer(True, found)


def _table(via: ReadVia) -> _Answer:
    return _Answer(True if via is ReadVia.WALK else None, via.words)


def _hooks(plan: Plan, attach: str) -> _Answer:
    if plan.lacking:
        return _Answer(False, f"this kernel has no function {plan.lacking}, without which the table cannot be followed")
    if plan.untyped and attach == "fentry":
        return _Answer(False, f"this kernel has no BTF of {plan.some_untyped}", "use --attach auto or --attach kprobe")
    if plan.blind:
        return _Answer(None, f"nothing to attach to, and so not seen: {', '.join(plan.blind)}")
    if plan.untyped:
        return _Answer(None, f"kprobes for all, as the kernel has no BTF of {plan.some_untyped}")
    return _Answer(True, f"all {len(plan.hooks)} functions are there")


def _bcc(found: tuple[bool | None, bool]) -> _Answer:
    compiled, importable = found
    if compiled:
        return _Answer(True, "not needed: the programs came compiled")
    why = "" if compiled is None else ", which it has to: the compiled programs are of other sources"
    if importable:
        return _Answer(True, f"Python can import it{why}")
    return _Answer(False, f"Python cannot import bcc{why}", "install it: apt install python3-bpfcc")


def _lockdown(level: str | None) -> _Answer:
    if level == CONFIDENTIALITY:
        found = "the kernel is locked down (confidentiality): BPF may not read its memory, and kprobes are forbidden"
        return _Answer(False, found, "boot with lockdown=integrity, or without", True)
    return _Answer(True, f"{level}: what is read here is allowed" if level else "the kernel is not locked down")


def _probes(off: str | None, hide_missed: bool) -> _Answer:
    what, _, remedy = (off or "").partition("; ")
    if off:
        return _Answer(False, what, remedy)
    return _Answer(None, f"not switched off, but {UNTOLD}") if hide_missed else _Answer(True, "not switched off")


def _fentry(refusal: str | None, attach: str, preemption: str | None) -> _Answer:
    if refusal is None and preemption:
        return _Answer(None, MISSES.format(preemption), "use --attach auto")
    if refusal is None:
        return _Answer(True, "tried: the kernel attaches fentry and fexit programs")
    if attach == "fentry":
        return _Answer(False, f"this kernel attaches {refusal}", "use --attach auto or --attach kprobe")
    return _Answer(None, f"this kernel attaches {refusal}; kprobes for all, which cost more")


def _netlink(loaded: bool) -> _Answer:
    if loaded:
        return _Answer(True, "nf_conntrack_netlink is loaded")
    return _Answer(None, "nf_conntrack_netlink is not loaded: no update events; we do not load it")


def _rows(plan: Plan) -> tuple[HookRow, ...]:
    return tuple(
        HookRow(item.hook.program, item.function, item.form.value, item.hook.each, item.hook.tells) for item in plan.hooks
    )
