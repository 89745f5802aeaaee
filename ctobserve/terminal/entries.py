"""Which entries somebody drills into, each as a line; and one of them as what `why` is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ctobserve.analysis.groups import Key, divide, key
from ctobserve.analysis.sought import HAS_PORTS, End, Sought
from ctobserve.documents.base import Labels
from ctobserve.host.whose import Whose
from ctobserve.model import Entries, in_order, pick, protocol_name
from ctobserve.render.folding import fitted
from ctobserve.render.groups import group_words
from ctobserve.render.lines import described
from ctobserve.terminal.seen import Listed

MOST = 1000  # entries of a group that are listed
IPV4 = 2


def of_group(entries: Entries, by: tuple[str, ...], values: tuple[Key, ...], whose: Mapping[int, Whose]) -> Listed:
    """Those of `entries` in one group; none where it is there no more."""
    labels = {inum: one.label for inum, one in whose.items()}
    owners = {inum: one.owner for inum, one in whose.items() if one.owner}
    groups = divide(entries, by, owners)
    # The heaviest first: it is one of those that are shown.
    for label in groups.largest(None).tolist():
        first = entries[groups.first[label]]
        if tuple(key(first, name, owners) for name in by) == values:
            return listed(group_words(by, values, labels), pick(entries, np.flatnonzero(groups.labels == label)), labels)
    return listed(group_words(by, values, labels), entries[:0], labels)


def listed(title: str, entries: Entries, labels: Labels) -> Listed:
    """With a title, a bounded number of them in an order that does not change."""
    some = in_order(entries)[:MOST]
    lines: Sequence[str] = [fitted(line, None) for line in described(some, labels)]
    return Listed(title, some, tuple(lines), len(entries))


def sought_of(entry: Entries) -> Sought:
    """Both ends of the original tuple of this one, shape (1,)."""
    row = entry[0]
    protonum = int(row["protonum"])
    size = 4 if row["l3num"] == IPV4 else 16
    one, other = (End(row["addr"][at].tobytes()[:size], int(row["port"][at]) if HAS_PORTS[protonum] else None) for at in range(2))
    words = [str(key(row, name)) for name in ("src", "dst")]
    if HAS_PORTS[protonum]:
        words = [f"{f'[{word}]' if size == 16 else word}:{end.port}" for word, end in zip(words, (one, other), strict=True)]
    return Sought(f"{words[0]} > {words[1]} {protocol_name(protonum)}", one, other, protonum)
