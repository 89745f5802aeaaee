"""What the user asked for, parsed."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ctobserve.capture.filters import Filter
from ctobserve.capture.when import When

LOSSES_MIB = 8  # of a ring for losses alone: of those it holds a million a second


class Request(NamedTuple):
    """The common options by their names; a command that does not offer one gets its default."""

    duration: float | None = None
    json: bool = False
    limit: int | None = None
    source: str = "auto"
    attach: str = "auto"
    ring_mib: int | None = None
    wait: bool = False
    ready_file: Path | None = None
    fail_on_loss: bool = False
    filter: Filter = Filter()
    recording: Path | None = None
    at: When | None = None
    since: When | None = None
    until: When | None = None
