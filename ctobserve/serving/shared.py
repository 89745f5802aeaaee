"""Work that many wait for at once, and that is done once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Who asks while it is under way waits for the next time, with all others who do: what they get began after they asked."""

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        """`work` is never under way twice."""
        self._work = work
        self._now: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Its result, or what it raises. Whoever stops waiting takes nothing from the others."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._now))
            # Where everybody has gone meanwhile, nobody else asks how it ended.
            self._next.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(self._next)

    async def _after(self, before: asyncio.Task[T] | None) -> T:
        if before is not None:
            await asyncio.wait((before,))
        self._now, self._next = self._next, None
        return await self._work()
