"""Is what was found healthy so still? A verdict is of what was judged, and much can happen until there is another."""

from __future__ import annotations

from collections.abc import Iterator

from ctobserve.diagnosis.verdict import Severity
from ctobserve.documents.top import Moment
from ctobserve.event import DestroyReason
from ctobserve.terminal.rates import losses
from ctobserve.terminal.seen import Verdicts


def still(found: Verdicts, moment: Moment) -> Verdicts:
    """The same, but that nothing is called healthy if something speaks against it since; then `doubt` says what."""
    doubt = ", ".join(_against(found, moment))
    if not doubt or not any(one.row.severity is Severity.HEALTHY for one in found.standing):
        return found
    kept = tuple(one for one in found.standing if one.row.severity is not Severity.HEALTHY)
    return found._replace(standing=kept, doubt=doubt)


def _against(found: Verdicts, moment: Moment) -> Iterator[str]:
    bins, frame = moment.history, moment.frame
    first = max(found.at_ns - bins.began_ns, 0) // bins.width_ns
    lost = int(losses(bins.everywhere)[first:].sum())
    if lost:
        yield f"{lost} packets lost"
    evicted = bins.everywhere.gone.get(DestroyReason.EARLY_DROP)
    if evicted is not None and evicted[first:].any():
        yield f"{int(evicted[first:].sum())} entries evicted"
    for inum, left in frame.full_in_s_by_netns.items():
        if left == 0 and inum in frame.entries_by_netns:
            yield f"{moment.labels.get(int(inum), inum)} is full"
