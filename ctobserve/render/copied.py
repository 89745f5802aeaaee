"""What became of a recording that was written again, as text."""

from __future__ import annotations

from ctobserve.capture.anonymous.copying import Copied


def copied_line(name: str, copied: Copied) -> str:
    """`name`: of the new file."""
    return f"{name}: {copied.facts} facts and {copied.rows} rows, of nobody; {copied.compressed_bytes} bytes compressed"
