"""A counting that stands as long as conntrack does: it comes when nf_conntrack is loaded, and goes when that is unloaded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from ctobserve.capture.counts import Counting
from ctobserve.clock import NS_PER_S
from ctobserve.errors import CtobserveError
from ctobserve.host import kernel

AGAIN_NS = 10 * NS_PER_S  # after a start that failed


class Standing:
    """`look` now and then. Of a trampoline the kernel lets nobody unload the module: only kprobes see it go."""

    def __init__(
        self,
        make: Callable[[], AbstractContextManager[Counting]],
        now_ns: Callable[[], int],
        say: Callable[[str], object],
        loaded: Callable[[], bool] = kernel.conntrack_loaded,
    ) -> None:
        """`make` gives what is to stand, `say` is told lines for the operator."""
        self._make = make
        self._now_ns = now_ns
        self._say = say
        self._loaded = loaded
        self._opened = ExitStack()
        self._again_ns = 0
        self.counting: Counting | None = None

    def begin(self) -> None:
        """Attach, if there is something to attach to; raises what `make` raises: who cannot count here is to know it at once."""
        if self._loaded():
            self.counting = self._opened.enter_context(self._make())
        else:
            self._say("nf_conntrack is not loaded, so nothing is tracked; it is counted from when that is loaded")

    def look(self) -> Counting | None:
        """What stands now."""
        if self.counting is not None and not self._loaded():
            self.end()
            self._say("nf_conntrack was unloaded, so nothing is tracked; it is counted again from when that is loaded")
        elif self.counting is None and self._loaded() and self._now_ns() >= self._again_ns:
            try:
                self.counting = self._opened.enter_context(self._make())
                self._say("nf_conntrack is loaded: what it tracks is counted from now on")
            except CtobserveError as error:
                self._again_ns = self._now_ns() + AGAIN_NS
                self._say(f"nothing is counted: {error}; it is tried again in {AGAIN_NS // NS_PER_S} s")
        return self.counting

    def end(self) -> None:
        """Take every program off."""
        self.counting = None
        self._opened.close()
