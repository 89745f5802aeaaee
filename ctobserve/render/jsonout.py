"""Documents and streams for programs; the shape is a contract (docs/json.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def document(report: Mapping[str, Any]) -> str:
    """One document, indented."""
    return json.dumps(report, indent=2)


def line(row: Mapping[str, Any]) -> str:
    """One line of a stream (NDJSON)."""
    return json.dumps(row, separators=(",", ":"))
