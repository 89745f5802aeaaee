"""Styles and scripts of the page, which are files of this package: our own, and uPlot, whose licence goes with it."""

from __future__ import annotations

import pkgutil
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256


def asset(name: str) -> str:
    """A file of render/page."""
    found = pkgutil.get_data("ctobserve.render", f"page/{name}")
    assert found is not None  # None is of loaders that have no files
    return found.decode("utf-8", "strict")


def styles(*names: str) -> str:
    """What stands between the tags of a style."""
    return "\n".join(map(asset, names))


def uplot() -> str:
    """The library, below its licence."""
    return f"/*! uPlot, https://github.com/leeoniya/uPlot\n{asset('uPlot.LICENSE')}*/\n{asset('uPlot.iife.min.js')}"


def policy(style: str, scripts: Iterable[str]) -> str:
    """A Content-Security-Policy that lets these run and nothing be asked for."""
    allowed = " ".join(map(_hash, scripts)) or "'none'"
    return f"default-src 'none'; style-src {_hash(style)}; script-src {allowed}; base-uri 'none'; form-action 'none'"


def _hash(content: str) -> str:
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode('ascii', 'strict')}'"
