"""Slow work in a thread of its own, while the caller keeps the ring empty."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def elsewhere(function: Callable[[], T], meanwhile: Callable[[], object] | None = None, every_s: float = 0.0) -> T:
    """Result of `function`, called in a thread of its own; its exceptions are ours. `meanwhile` is called here every so often."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(every_s if meanwhile else None)
        if meanwhile:
            meanwhile()
    if failure:
        raise failure[0]
    return outcome[0]
