"""The pages of kernels: made of what the matrix kept, and of nothing else."""

from __future__ import annotations

import subprocess
import sys

from tests.matrix import pages
from tests.matrix.guest import outcomes

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
        "passed": {"test_some": 2},
        "failed": ["test_some::test_broken_at_its_end", "test_some::test_wrong"],
        "left_out": ["test_some::test_left_out"],
        "lacking": {"no fentry": 1},
    }


def result(**tests):
    checked = {"meta": {"machine": "x86_64"}, "findings": [{"ok": True, "found": "running as root"}]}
    blind = {"meta": {"machine": "x86_64"}, "findings": [{"ok": False, "found": "no BTF of early_drop"}]}
    counts = {"passed": {}, "failed": [], "left_out": [], "lacking": {}} | tests
    return {
        **{"of": "2026-11-26", "commit": "abc", "release": "5.10.0-46-amd64", "debian": "bookworm", "python": "3.11.2"},
        **{"bcc": "0.26.0", "processors": 2, "check": ["kernel 5.10.0-46-amd64 x86_64"], "tests": counts},
        "forms": {"fentry": blind, "kprobe": checked},
    }


def test_a_kernel_has_a_line_and_a_section_made_of_its_result():
    found = {"x86_64-5.10": result(passed={"test_drops": 9, "test_why": 2}, failed=["test_drops::test_x"], lacking={"fentry": 3})}
    line = "| 5.10.0-46-amd64 x86_64 | bookworm: bcc 0.26.0, Python 3.11.2 | refused: no BTF of early_drop | everything |"
    assert f"{line} 11 passed, 1 **failed** |\n" in pages.table(found)
    page = pages.page(found)
    assert "## x86_64-5.10\n\n11 passed, 1 **failed**, 2026-11-26, commit abc, 2 processors.\n" in page
    assert "- failed: `test_drops::test_x`\n- lacking, and 3 of the tests demand that this is said: fentry\n" in page
    assert pages.filled("a\n<!-- kernels -->\nold\n<!-- end -->\nb", found) == (
        f"a\n<!-- kernels -->\n{pages.table(found)}<!-- end -->\nb"
    )
