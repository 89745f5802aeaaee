"""How long are the chains that these entries are in?"""

from __future__ import annotations

from ctobserve.capture.table import Lengths
from ctobserve.model import UNKNOWN_BUCKET, Entries


def with_chains(entries: Entries, lengths: Lengths) -> Entries:
    """These entries with the chain lengths of their buckets filled in."""
    filled = entries.copy()
    known = filled["bucket"] != UNKNOWN_BUCKET
    filled["chain"][known] = lengths.of_bucket[filled["bucket"][known]]
    return filled
