"""What can go wrong in the lab."""

from __future__ import annotations

from ctobserve.errors import CtobserveError


class LabError(CtobserveError):
    """A command of a scenario failed, or an incident did not come about; ends with exit code 1."""
