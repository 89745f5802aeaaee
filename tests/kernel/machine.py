"""What a scenario may not change: sysctls, namespaces, links, rules, processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ctobserve_lab.world import run

TREES = [Path("/proc/sys/net") / name for name in ("netfilter", "ipv4", "ipv6", "core")]
COUNTING = "nf_conntrack_count"


def machine() -> dict[str, Any]:
    """The initial namespace, and all names and processes of this session."""
    return {
        "sysctls": {str(path): value for path in files() if (value := read(path)) is not None},
        "namespaces": run("ip", "netns", "list"),
        "links": [line.split()[1] for line in run("ip", "-o", "link").splitlines()],
        "rules": run("nft", "list", "ruleset"),
        "processes": sorted(path.name for path in Path("/proc").glob("[0-9]*") if session(path) == os.getsid(0)),
    }


def files() -> list[Path]:
    return [path for tree in TREES for path in tree.rglob("*") if path.is_file() and path.name != COUNTING]


def read(path: Path) -> str | None:
    """None where it can only be written."""
    try:
        return path.read_text()
    except OSError:
        return None


def session(process: Path) -> int | None:
    """None for one that has just ended."""
    stat = read(process / "stat")
    return int(stat.rpartition(")")[2].split()[3]) if stat else None
