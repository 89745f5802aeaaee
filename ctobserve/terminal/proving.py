"""The proof that the table is the kernel's, again and again, as often as its own cost allows."""

from __future__ import annotations

from collections.abc import Callable

from ctobserve.capture.capture import Capture
from ctobserve.capture.watch import STEP_S
from ctobserve.clock import NS_PER_S
from ctobserve.diagnosis.proof import prove
from ctobserve.errors import CtobserveError
from ctobserve.event import Events
from ctobserve.terminal.seen import Proved

AGAIN_NS = 60 * NS_PER_S
COSTS = 300  # it reads the table, and has the kernel dump it: so many times as long as it takes nobody proves


def proved(
    capture: Capture, pause: Callable[[float], None] | None = None, took: Callable[[Events], object] = lambda _: None
) -> Proved:
    """Once, now; of a reading that cannot be had, why."""
    try:
        proof = prove(capture, pause=pause, took=took)
    except CtobserveError as why:
        return Proved(capture.now_ns(), None, str(why))
    words = f"{proof.ours} entries" if proof.equal else f"{proof.ours} entries here, {proof.kernel} in the kernel"
    return Proved(capture.now_ns(), proof.equal, words)


class Proving:
    """`last` is the last proof. Made when the table is followed; `prove` when that is `due`."""

    def __init__(self, capture: Capture, took: Callable[[Events], object]) -> None:
        """`took` is given the events that come while it proves."""
        self.last: Proved | None = None
        self._capture, self._took = capture, took
        self._due_ns = capture.now_ns()

    def soon(self) -> None:
        """Somebody wants one."""
        self._due_ns = 0

    def due(self) -> bool:
        """Whether it is time for one."""
        return self._capture.now_ns() >= self._due_ns

    def prove(self) -> None:
        """Now."""
        began_ns = self._capture.now_ns()
        self.last = proved(self._capture, self._pause, self._took)
        now_ns = self._capture.now_ns()
        self._due_ns = now_ns + max(AGAIN_NS, COSTS * (now_ns - began_ns))

    def _pause(self, seconds: float) -> None:
        """The ring is read meanwhile."""
        until_ns = self._capture.now_ns() + round(seconds * NS_PER_S)
        while self._capture.now_ns() < until_ns:
            self._capture.wait(STEP_S)
            self._took(self._capture.step())
