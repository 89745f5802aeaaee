"""Whether this kernel hangs fentry and fexit programs on its functions: tried with programs that do nothing."""

from __future__ import annotations

from collections.abc import Iterable

from ctobserve.programs import syscalls
from ctobserve.programs.compile import Image, Program
from ctobserve.programs.hooks import Planned
from ctobserve.programs.loader import Programs, TrampolineRefused

RETURN_0 = bytes.fromhex("b7000000000000009500000000000000")  # r0 = 0; exit


def trampoline_refusal(planned: Iterable[Planned]) -> str | None:
    """What the kernel says against the first trampoline of a plan that it refuses; None where it takes all of them.

    Each hangs where it would, by the same calls, and is taken off again. Raises NotPermitted where no program may be loaded.
    """
    trampolines = [item for item in planned if item.btf]
    idle = Image({}, {item.hook.program: Program(RETURN_0, [], []) for item in trampolines})
    programs = Programs(idle, (), 0, 0)
    syscalls.lock_any_memory()
    try:
        programs.attach(trampolines)
    except TrampolineRefused as refused:
        return str(refused)
    finally:
        programs.close()
    return None
