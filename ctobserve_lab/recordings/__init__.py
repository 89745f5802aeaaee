"""Each scenario as a recording of it, for `ctobserve --from`: made by `make recordings` in a lab machine, never by hand."""

from pathlib import Path


def recording(name: str) -> Path:
    """The file of this scenario."""
    return Path(__file__).parent / f"{name}.ctobserve"
