"""What was recorded, as text."""

from __future__ import annotations

from collections.abc import Iterator

from ctobserve.documents.record import RecordDocument


def record_lines(found: RecordDocument) -> Iterator[str]:
    """One line."""
    times = "once" if found.keyframes == 1 else f"{found.keyframes} times"
    yield f"{found.file}: {found.events} events, the table {times}; {found.compressed_bytes} bytes compressed"
