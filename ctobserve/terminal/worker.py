"""The thread in which an engine lives: it never waits for a screen to be drawn, and a screen never waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from typing import TypeVar

from ctobserve.terminal.seen import Engine, Seen

T = TypeVar("T")
Open = Callable[[], AbstractContextManager[Engine]]


class Worker:
    """`latest` is what was seen last, `failed` why it ended; `answers` are calls for whoever asked.

    `fresh` is called in its thread when there is something new. Of what nobody took meanwhile only the latest is kept: a terminal
    that takes nothing for minutes costs no memory.
    """

    def __init__(self, opens: Open, fresh: Callable[[], None]) -> None:
        """`opens`: makes the engine, in the thread that uses it."""
        self.latest: Seen | None = None
        self.failed: BaseException | None = None
        self.over = False
        self.answers: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._opens, self._fresh = opens, fresh
        self._asked: SimpleQueue[Callable[[Engine], None]] = SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="ctobserve-engine")

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def tell(self, what: Callable[[Engine], None]) -> None:
        """Have the engine do something, between two turns."""
        self._asked.put(what)

    def ask(self, question: Callable[[Engine], T], then: Callable[[T], None]) -> None:
        """The same, and `then` is given the answer by whoever calls what is in `answers`."""

        def answer(engine: Engine) -> None:
            found = question(engine)
            self.answers.put(lambda: then(found))
            self._fresh()

        self._asked.put(answer)

    def _run(self) -> None:
        try:
            with self._opens() as engine:
                while not self._stopped.is_set() and not engine.over:
                    self._do_what_is_asked(engine)
                    seen = engine.turn()
                    if seen is not None:
                        self.latest = seen
                        self._fresh()
        except BaseException as error:
            self.failed = error
        self.over = True
        self._fresh()

    def _do_what_is_asked(self, engine: Engine) -> None:
        while True:
            try:
                self._asked.get_nowait()(engine)
            except Empty:
                return
