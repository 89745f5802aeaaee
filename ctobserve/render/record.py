"""What was recorded, as text."""

from __future__ import annotations

from collections.abc import Iterator

from ctobserve.documents.record import RecordDocument


def record_lines(found: RecordDocument) -> Iterator[str]:
    """One line; of a flight recorder what its directory holds, and each incident."""
    times = "once" if found.keyframes == 1 else f"{found.keyframes} times"
    missing = f"; {found.unwritten} events more found no room" if found.unwritten else ""
    holds = "" if found.held_s is None else f"the last {found.held_s:.0f} s, of "
    yield f"{found.file}: {holds}{found.events} events, the table {times}; {found.compressed_bytes} bytes compressed{missing}"
    yield from (f"{found.file}/{name}" for name in found.incidents)
