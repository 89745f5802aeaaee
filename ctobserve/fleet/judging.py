"""The verdicts on all of a recording: those that `ctobserve report --from` gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ctobserve.capture.recorded import RecordedCapture, RecordedView
from ctobserve.capture.store.joined import Recording
from ctobserve.capture.watch import Stretch
from ctobserve.documents.request import Request
from ctobserve.documents.verdicts import JUDGED, Judged, collect_verdicts
from ctobserve.programs.hooks import Purpose


class Verdicts(NamedTuple):
    """What was judged, and the time that it is on, ns since 1970."""

    judged: Judged
    from_wall_ns: int
    to_wall_ns: int


def verdicts(recording: Recording, tell: Callable[[float], None]) -> Verdicts:
    """Invalid packets are judged where the recorder looked for them. `tell` hears how much is done, 0 to 1.

    Raises CtobserveError where it cannot be judged.
    """
    looked = RecordedView(recording).sees & Purpose.INVALID
    capture = RecordedCapture(recording, JUDGED | looked)

    def stopped() -> bool:
        tell(capture.passed)
        return False

    judged = collect_verdicts(capture, Request(), Stretch(stopped=stopped), bool(looked))
    passed_ns = capture.now_ns() - capture.started.monotonic_ns
    return Verdicts(judged, capture.started.wall_ns, capture.started.wall_ns + passed_ns)
