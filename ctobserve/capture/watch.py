"""How long a command looks: the loop over a capture, live or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ctobserve.capture.capture import Capture
from ctobserve.clock import NS_PER_S
from ctobserve.event import Events

STEP_S = 0.02


class Stretch(NamedTuple):
    """So long (None: until somebody asks to stop, or nothing more comes).

    `begin` is called once everything is attached and the command has what it needs; `stopped` says that somebody wants the end.
    """

    seconds: float | None = None
    begin: Callable[[], None] = lambda: None
    stopped: Callable[[], bool] = lambda: False


def watch(capture: Capture, stretch: Stretch, idle: bool = False) -> Iterator[Events]:
    """Events from `begin` on until the stretch is over. Empty batches only if `idle`."""
    stretch.begin()
    began_ns = capture.now_ns()
    while not stretch.stopped() and not capture.over:
        if stretch.seconds is not None and capture.now_ns() - began_ns >= stretch.seconds * NS_PER_S:
            break
        events = capture.step()
        if idle or len(events):
            yield events
        capture.wait(STEP_S)
    capture.settle()
    events = capture.step()
    if len(events):
        yield events


def wait_out(capture: Capture, stretch: Stretch) -> None:
    """Let the stretch pass, for who needs none of its events. Where no end was named, it is over when it begins."""
    if stretch.seconds is None:
        stretch.begin()
        return
    for _ in watch(capture, stretch):
        pass
