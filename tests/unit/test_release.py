"""A version is the same wherever it is written, and what is to be released is whole."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

from ctobserve import __version__

ROOT = Path(__file__).parents[2]


def test_the_version_is_the_same_everywhere():
    (first,) = re.findall(r"\A# Changelog\n.*?^## (.*?)$", (ROOT / "CHANGELOG.md").read_text(), re.M | re.S)
    assert re.fullmatch(rf"Unreleased|{re.escape(__version__)} \(\d{{4}}-\d\d-\d\d\)", first)
    package = subprocess.run(
        ["dpkg-parsechangelog", "-l", ROOT / "debian/changelog", "-S", "Version"], capture_output=True, text=True, check=True
    )
    assert package.stdout == f"{__version__}\n"


def test_readme_names_the_files_of_this_version():
    named = re.findall(r"\bctobserve[_-]([\d.]+\d)[_-](?:all\.deb|py3-none-any\.whl)", (ROOT / "README.md").read_text())
    assert named and set(named) == {__version__}


def test_nothing_is_asked_of_an_index_by_our_name():
    """There is no such package in any: whoever made one would be root where such a line is typed."""
    texts = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("ctobserve/**/*.py"), *ROOT.glob("manual/*.py")]
    asked = re.compile(r"pip install [^\n]*?(?<![\w/-])ctobserve(?!-[\w.{}]+-py3-none-any\.whl|/)[^\n]*")
    assert not [(path.name, line) for path in texts for line in asked.findall(path.read_text())]


def test_the_dates_of_a_version_are_the_same():
    dated = re.search(rf"^## {re.escape(__version__)} \((.*)\)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    command = ["dpkg-parsechangelog", "-l", ROOT / "debian/changelog", "-S", "Timestamp"]
    seconds = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    day = subprocess.run(["date", "-u", "-d", f"@{seconds}", "+%F"], capture_output=True, text=True, check=True).stdout
    assert dated and day == f"{dated[1]}\n"


def test_what_is_run_before_a_commit_is_lint_and_fetches_nothing():
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local"
    assert [(hook["entry"], hook["language"]) for hook in repo["hooks"]] == [("make lint", "system")]


def test_all_that_debians_tools_ask_for_is_installed_by_make_deb():
    (needs,) = re.findall(r"^Build-Depends: (.*)$", (ROOT / "debian/control").read_text(), re.M)
    names = {"debhelper" if name.startswith("debhelper-compat") else name.split()[0] for name in needs.split(", ")}
    marked = re.findall(r"^(\S+) .*\b(?:tool|package)\b", (ROOT / "packages.apt").read_text(), re.M)
    assert names | {"build-essential"} <= set(marked)  # which dpkg-checkbuilddeps asks for without being told


def test_each_package_has_what_runs_and_no_compiler():
    """Python's packages come from pyproject.toml by dh_python3."""
    control = (ROOT / "debian/control").read_text()
    _, main, lab = control.split("\nPackage: ")
    for package in (main, lab):
        depends = re.findall(r"^Depends: (.*)$", package, re.M)[0]
        assert "${python3:Depends}" in depends and not re.search(r"bcc|llvm|clang|headers", depends)
    marked = (ROOT / "packages.apt").read_text()
    for name in ("prometheus-client", "bcrypt", "yaml"):
        assert f"python3-{name} " in marked and f"python3-{name}" in main
