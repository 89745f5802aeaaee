"""The pages of kernels: made of what the matrix kept, and of nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.matrix import pages, run
from tests.matrix.guest import files, outcomes

SUITE = """
import pytest

@pytest.mark.parametrize("form", ["fentry", "kprobe"])
def test_form(form, record_property):
    if form == "fentry":
        record_property("lacking", "no fentry")

def test_wrong():
    assert 1 == 2

@pytest.fixture
def broken():
    yield
    raise OSError

def test_broken_at_its_end(broken):
    pass

@pytest.mark.skip(reason="to see it")
def test_left_out():
    pass
"""


def test_outcomes_are_those_of_a_real_report(tmp_path):
    (tmp_path / "test_some.py").write_text(SUITE)
    options = ("-p", "no:cacheprovider", "--junitxml=report.xml")
    result = subprocess.run([sys.executable, "-m", "pytest", "-q", *options], cwd=tmp_path, capture_output=True, check=False)
    assert result.returncode == 1
    assert outcomes((tmp_path / "report.xml").read_text()) == {
        "passed": 2,
        "failed": ["test_broken_at_its_end", "test_wrong"],
        "left_out": ["test_left_out"],
        "lacking": {"no fentry": 1},
    }


def ran(**found):
    return {"of": "2026-11-26", "commit": "abc", "passed": 0, "failed": [], "left_out": [], "lacking": {}} | found


def result(**tests):
    good = {"name": "root", "ok": True, "found": "running as root"}
    bad = {"name": "fentry", "ok": False, "found": "no BTF of early_drop"}
    checked = {"meta": {"machine": "x86_64"}, "usable": True, "findings": [good, bad | {"ok": None, "found": "not tried"}]}
    blind = {"meta": {"machine": "x86_64"}, "usable": False, "findings": [good, bad]}
    return {
        **{"release": "5.10.0-46-amd64", "debian": "bookworm", "python": "3.11.2"},
        **{"bcc": "0.26.0", "processors": 2, "check": ["kernel 5.10.0-46-amd64 x86_64"], "tests": tests},
        "forms": {"fentry": blind, "kprobe": checked},
    }


def test_a_kernel_has_a_line_and_a_section_made_of_its_result():
    found = {
        "x86_64-5.10": result(
            test_drops=ran(passed=9, failed=["test_x"], lacking={"fentry": 3}),
            test_why=ran(passed=2, lacking={"fentry": 1}, commit="def"),
        )
    }
    line = "| 5.10.0-46-amd64 x86_64 | bcc 0.26.0, Python 3.11.2 | no | yes |"
    assert f"{line} 11 passed, 1 **failed**, of 2 of {len(files())} files |\n" in pages.table(found)
    page = pages.page(found)
    commits = "2026-11-26, commit abc: test_drops; 2026-11-26, commit def: test_why"
    assert (
        f"## x86_64-5.10\n\n11 passed, 1 **failed**, of 2 of {len(files())} files, 2 processors; {commits}.\n\n"
        "- fentry: refused: no BTF of early_drop\n- kprobe: not tried\n- not run: test_" in page
    )
    assert "- failed: `test_drops::test_x`\n- lacking, and 4 of the tests demand that this is said: fentry\n" in page
    assert pages.filled("a\n<!-- kernels -->\nold\n<!-- end -->\nb", found) == (
        f"a\n<!-- kernels -->\n{pages.table(found)}<!-- end -->\nb"
    )


def test_a_file_that_ran_again_takes_its_own_place_only(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    at, later = {"of": "2026-11-26", "commit": "abc"}, {"of": "2026-11-27", "commit": "def"}
    run._keep("x86_64-6.1", {"machine": {"release": "6.1.0-56-amd64"}}, at)
    for file, passed, when in (("test_why", 3, at), ("test_drops", 8, at), ("test_gone", 1, at), ("test_drops", 9, later)):
        run._keep("x86_64-6.1", {"tests": {file: {"passed": passed}}}, when)
    assert json.loads((tmp_path / "x86_64-6.1.json").read_text()) == {
        "release": "6.1.0-56-amd64",
        "tests": {"test_drops": later | {"passed": 9}, "test_why": at | {"passed": 3}},
    }


def test_the_pages_say_what_the_matrix_found_and_nothing_failed():
    found = pages.results()
    assert pages.PAGE.read_text() == pages.page(found) and pages.README.read_text() == pages.filled(
        pages.README.read_text(), found
    )
    assert [
        (name, file, test["failed"]) for name, one in found.items() for file, test in one["tests"].items() if test["failed"]
    ] == []
