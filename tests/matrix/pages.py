"""docs/kernels.md and README's table of kernels, made of docs/kernels/*.json: `make kernels-doc`, and at the end of a matrix."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.matrix.guest import files

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/kernels"
PAGE, README = ROOT / "docs/kernels.md", ROOT / "README.md"
MARKED = re.compile(r"(<!-- kernels -->\n).*?(<!-- end -->)", re.DOTALL)
HEAD = """\
# Kernels

Made by `make test-matrix`, which runs the whole kernel tier on each of these in emulation, from what came of it (docs/kernels/).
What a kernel lacks is found by looking, never by its version; `ctobserve check` says it of the host it runs on.

"""
Result = dict[str, Any]
FORMS = ("fentry", "kprobe")
OF_FENTRY = ("btf", "fentry")  # findings that are no matter of kprobes


def write() -> None:
    """Both pages anew."""
    found = results()
    PAGE.write_text(page(found))
    README.write_text(filled(README.read_text(), found))


def results() -> dict[str, Result]:
    """By machine, in the order of their names' numbers: x86_64-5.10 before x86_64-6.1."""
    files = sorted(RESULTS.glob("*.json"), key=lambda path: [path.stem.partition("-")[0] != "x86_64", *_version(path)])
    return {path.stem: json.loads(path.read_text()) for path in files}


def _version(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", json.loads(path.read_text())["release"])[:2]]


def filled(readme: str, found: dict[str, Result]) -> str:
    """README with its table made anew."""
    return MARKED.sub(lambda mark: f"{mark[1]}{table(found)}{mark[2]}", readme)


def table(found: dict[str, Result]) -> str:
    """A line for each kernel; the page says below what is partly, and why."""
    lines = ["| kernel | beside it | fentry | kprobes | kernel tests |", "|---|---|---|---|---|"]
    for result in found.values():
        machine = result["forms"]["kprobe"]["meta"]["machine"]
        beside = f"bcc {result['bcc']}, Python {result['python']}"
        forms = " | ".join(_word(form, result["forms"][form]) for form in FORMS)
        lines.append(f"| {result['release']} {machine} | {beside} | {forms} | {_tests(result)} |")
    return "\n".join(lines) + "\n"


def _word(form: str, check: Result) -> str:
    """Whether everything is seen in this form."""
    found = {item["name"]: item["ok"] for item in check["findings"]}
    if not check["usable"]:
        return "no"
    return "yes" if all(ok for name, ok in found.items() if form == "fentry" or name not in OF_FENTRY) else "partly"


def _form(check: Result) -> str:
    """What works in this form and what is blind, in `check`'s words."""
    refused = [item["found"] for item in check["findings"] if item["ok"] is False]
    if refused:
        return "refused: " + "; ".join(refused)
    partly = [item["found"] for item in check["findings"] if item["ok"] is None]
    return "; ".join(partly) or "everything"


def _tests(result: Result) -> str:
    tests, all_files = result["tests"].values(), files()
    passed, failed = sum(test["passed"] for test in tests), sum(len(test["failed"]) for test in tests)
    where = f", of {len(tests)} of {len(all_files)} files" if len(tests) < len(all_files) else ""
    return f"{passed} passed" + (f", {failed} **failed**" if failed else "") + where


def page(found: dict[str, Result]) -> str:
    """docs/kernels.md."""
    return HEAD + table(found) + "".join(section for name, result in found.items() for section in _section(name, result))


def _section(name: str, result: Result) -> Iterator[str]:
    tests: dict[str, Any] = result["tests"]
    yield f"\n## {name}\n\n{_tests(result)}, {result['processors']} processors"
    commits = sorted({(test["of"], test["commit"]) for test in tests.values()})
    for at in commits:
        ran = [file for file, test in tests.items() if (test["of"], test["commit"]) == at]
        yield f"; {at[0]}, commit {at[1]}" + (f": {', '.join(ran)}" if len(commits) > 1 else "")
    yield ".\n\n"
    yield from (f"- {form}: {_form(result['forms'][form])}\n" for form in FORMS)
    if not_run := sorted(set(files()) - set(tests)):
        yield f"- not run: {', '.join(not_run)}\n"
    for file, test in tests.items():
        yield from (f"- failed: `{file}::{failed}`\n" for failed in test["failed"])
        yield from (f"- left out: `{file}::{left_out}`\n" for left_out in test["left_out"])
    for what, times in sorted(sum((Counter(test["lacking"]) for test in tests.values()), Counter[str]()).items()):
        yield f"- lacking, and {times} of the tests demand that this is said: {what}\n"
    yield "\n" + "".join(f"    {line}\n" for line in result["check"])


if __name__ == "__main__":
    write()
