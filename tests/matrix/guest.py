"""In the guest: the whole kernel tier, and what `check` says there; then one line with the result, for tests/matrix/run.py.

Exit code: pytest's. Whatever the tests print comes before that line.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import xml.etree.ElementTree as Xml
from collections import Counter
from pathlib import Path
from typing import Any

from ctobserve.programs.compile import bcc_version
from tests.kernel.test_terminal import PYTHON
from tests.kernel.tool import CTOBSERVE

MARK = "matrix result: "
REPORT = Path("/run/matrix.xml")
FORMS = ("fentry", "kprobe")
SCREEN = "tests/kernel/test_terminal.py"  # the full screen: Textual is no package of Debian's, but in the checkout's .venv


def main() -> int:
    """Arguments are pytest's, after tests/kernel."""
    pytest = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=15", f"--junitxml={REPORT}")
    left_out = [] if has_textual() else [SCREEN]
    ignored = [f"--ignore={file}" for file in left_out]
    code = subprocess.run([*pytest, "tests/kernel", *ignored, *sys.argv[1:]], check=False).returncode
    tests = outcomes(REPORT.read_text()) if REPORT.exists() else outcomes("<testsuites/>")
    tests["left_out"] += left_out
    found = {
        "release": platform.release(),
        "debian": platform.freedesktop_os_release().get("VERSION_CODENAME", "unknown"),
        "python": platform.python_version(),
        "bcc": bcc_version(),
        "processors": os.cpu_count(),
        "tests": tests,
        "check": _said().splitlines(),
        "forms": {form: json.loads(_said("--attach", form, "--json")) for form in FORMS},
    }
    print(MARK + json.dumps(found), flush=True)
    return code


def has_textual() -> bool:
    """Whether the .venv runs here: it was made for the Python of Debian 12."""
    try:
        return subprocess.run([PYTHON, "-c", "import textual"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _said(*options: str) -> str:
    """What `check` prints: it does that, too, where its exit code says that nothing can be observed."""
    return subprocess.run([*CTOBSERVE, "check", *options], capture_output=True, text=True, check=False).stdout


def outcomes(report: str) -> dict[str, Any]:
    """Of pytest's JUnit report: tests passed by file, names of those that did not pass, and what tests say a kernel lacks.

    `lacking`: what was refused, and the number of tests that demanded just that refusal (conftest.py of the kernel tests).
    """
    passed, lacking = Counter[str](), Counter[str]()
    failed, left_out = [], []
    for case in Xml.fromstring(report).iter("testcase"):
        file = case.get("classname", "").rpartition(".")[2]
        name = f"{file}::{case.get('name')}"
        if case.find("skipped") is not None:
            left_out.append(name)
        elif case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
        else:
            passed[file] += 1
        lacking.update(item.get("value", "") for item in case.iter("property") if item.get("name") == "lacking")
    return {"passed": passed, "failed": sorted(set(failed)), "left_out": left_out, "lacking": lacking}


if __name__ == "__main__":
    sys.exit(main())
