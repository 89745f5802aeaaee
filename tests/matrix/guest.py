"""In the guest: what machine it is, then the kernel tier file by file; a line with what came of each, for tests/matrix/run.py.

Exit code: 0 when every test passed. What the tests print comes before the line of their file.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import xml.etree.ElementTree as Xml
from collections import Counter
from pathlib import Path
from typing import Any

from ctobserve.programs.compile import bcc_version
from tests.kernel.test_terminal import PYTHON
from tests.kernel.tool import CTOBSERVE, LACKING

MARK = "matrix result: "
REPORT = Path("/run/matrix.xml")
FORMS = ("fentry", "kprobe")
SCREEN = "test_terminal"  # the full screen: Textual is no package of Debian's, but in the checkout's .venv
HOSTS = ("test_container", "test_watched")  # the image, and Prometheus, are those of the host's machine and release
FILE_S = 5400


def main() -> int:
    """Arguments are names of files of tests/kernel, without .py; none: all."""
    _say({"machine": _machine()})
    good = True
    for name in sys.argv[1:] or files():
        found = _ran(name)
        _say({"tests": {name: found}})
        good &= not found["failed"]
    return int(not good)


def files() -> list[str]:
    """Names of the files with kernel tests."""
    return sorted(path.stem for path in Path("tests/kernel").glob("test_*.py"))


def _say(found: dict[str, Any]) -> None:
    print(MARK + json.dumps(found), flush=True)


def _machine() -> dict[str, Any]:
    return {
        "release": platform.release(),
        "debian": platform.freedesktop_os_release().get("VERSION_CODENAME", "unknown"),
        "python": platform.python_version(),
        "bcc": bcc_version(),
        "processors": os.cpu_count(),
        "check": _said().splitlines(),
        "forms": {form: json.loads(_said("--attach", form, "--json")) for form in FORMS},
    }


def _ran(name: str) -> dict[str, Any]:
    """What came of one file; one that does not end, or ends without a report, has failed."""
    if why := _lacks(name):
        return outcomes("<testsuites/>") | {"left_out": [f"{name}: {why}"]}
    REPORT.unlink(missing_ok=True)
    pytest = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=40", f"--junitxml={REPORT}")
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run([*pytest, f"tests/kernel/{name}.py"], check=False, timeout=FILE_S)
    return (
        outcomes(REPORT.read_text())
        if REPORT.exists()
        else outcomes("<testsuites/>") | {"failed": [f"{name} ended without a report"]}
    )


def _lacks(name: str) -> str | None:
    """Why a file cannot run on this machine, which is no fault of the kernel's; None where it can."""
    if name == SCREEN and not has_textual():
        return "the Python of this release cannot run the full screen's Textual"
    if name in HOSTS and not shutil.which("crun"):
        return "what it runs is made for the host's machine and release"
    return None


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
    """Of pytest's JUnit report: how many tests passed, names of those that did not, and what tests say a kernel lacks.

    `lacking`: what was refused, and the number of tests that demanded just that refusal (conftest.py of the kernel tests).
    """
    passed, lacking = 0, Counter[str]()
    failed, left_out = [], []
    for case in Xml.fromstring(report).iter("testcase"):
        name = str(case.get("name"))
        if case.find("skipped") is not None:
            left_out.append(name)
        elif case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
        else:
            passed += 1
        lacking.update(item.get("value", "") for item in case.iter("property") if item.get("name") == LACKING)
    return {"passed": passed, "failed": sorted(set(failed)), "left_out": left_out, "lacking": lacking}


if __name__ == "__main__":
    sys.exit(main())
