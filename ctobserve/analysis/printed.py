"""Which entries would the kernel's own listing print?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ctobserve.clock import Clock
from ctobserve.model import Entries


def printed(entries: Entries, clock: Clock) -> npt.NDArray[np.bool_]:
    """The kernel reaps the expired before it prints, and never meets those without an original node (ct_seq_show)."""
    alive: npt.NDArray[np.bool_] = clock.remaining_ticks(entries["timeout"], entries["seen_ns"]) > 0
    alive &= entries["reply_only"] == 0
    return alive
