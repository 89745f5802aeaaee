"""Rules of the house, read from the sources: imports in one direction, one module per library, printing in its place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ctobserve
import ctobserve_lab

PACKAGE = Path(ctobserve.__file__).parent
# A module may import only from its left.
ORDER = [
    "errors",
    "model",
    "clock",
    "sysctls",
    "kernel",
    "cache",
    "btf",
    "slab",
    "layout",
    "hooks",
    "facts",
    "syscalls",
    "compile",
    "probes",
    "ring",
    "netns",
    "netlink",
    "dump",
    "sources",
    "listener",
    "counters",
    "ruleset",
    "events",
    "details",
    "gathering",
    "lifetimes",
    "filters",
    "departures",
    "places",
    "table",
    "reader",
    "intake",
    "observer",
    "analysis",
    "proof",
    "evidence",
    "verdict",
    "rules",
    "collect",
    "render",
    "commands",
    "cli",
    "__main__",
]
LAB_MODULES = sorted(Path(ctobserve_lab.__file__).parent.rglob("*.py"))
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def place(path: Path) -> int:
    return ORDER.index(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))


def imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names if node.module == "ctobserve"]
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_only_from_its_left(path):
    mine = place(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "ctobserve" and len(parts) > 1 and parts[1] in ORDER:
            assert ORDER.index(parts[1]) <= mine, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_who_observes_does_not_know_who_makes_trouble(path):
    assert not [name for name in imports(path) if name.split(".")[0] == "ctobserve_lab"]


@pytest.mark.parametrize(("library", "owner"), [("bcc", "compile.py"), ("pyroute2", "netlink.py")])
def test_one_module_imports(library, owner):
    users = [path.name for path in MODULES if any(name.split(".")[0] == library for name in imports(path))]
    assert users == [owner]


@pytest.mark.parametrize("path", [*MODULES, *LAB_MODULES], ids=lambda path: path.stem)
def test_size(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_printing(path):
    text = path.read_text()
    if path.relative_to(PACKAGE).parts[0] not in ("render", "commands", "cli.py"):
        assert "print(" not in text.replace("pprint(", "")


def test_nothing_in_the_package_writes_below_proc_or_sys_or_runs_programs():
    """It only observes. It starts the compiler in a child, and nft to list rules; it writes its cache and a ready file alone."""
    for path in MODULES:
        tree = ast.parse(path.read_text())
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        names = {
            func.attr if isinstance(func, ast.Attribute) else func.id
            for func in calls
            if isinstance(func, (ast.Attribute, ast.Name))
        }
        if path.name not in ("cache.py", "ready.py"):
            assert not names & {"write_text", "write_bytes", "unlink"}, path.name
        if path.name != "compile.py":
            assert not names & {"Popen", "system", "check_call", "check_output"}, path.name
        if path.name not in ("compile.py", "ruleset.py"):
            assert "subprocess" not in imports(path), path.name
