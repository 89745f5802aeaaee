"""The two forms of our programs: a kernel without the one has to say so, and is held to it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.kernel.tool import CTOBSERVE

FORMS = ("fentry", "kprobe")
MODULE_BTF = Path("/sys/kernel/btf/nf_conntrack")


def has_fentry() -> bool:
    """Whether trampolines can hang on nf_conntrack's functions: modules have BTF (CONFIG_DEBUG_INFO_BTF_MODULES, Linux 5.11)."""
    return MODULE_BTF.exists()


def assert_fentry_is_refused() -> None:
    """Asked for it, ctobserve says in one line what this kernel lacks, and what to do."""
    result = subprocess.run([*CTOBSERVE, "events", "--attach", "fentry"], capture_output=True, text=True, check=False)
    (line,) = result.stderr.splitlines()
    functions = r"\w+(, \w+)*( and \d+ more)?"
    assert re.fullmatch(rf"ctobserve: --attach fentry: this kernel has no BTF of {functions}; try: --attach kprobe", line), line
    assert (result.returncode, result.stdout) == (3, "")
