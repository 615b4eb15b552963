"""Blocking work off the event loop: few threads, a bounded queue, one computation per question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from circuit_atlas.service.web.errors import BusyError

T = TypeVar("T")


class Work:
    """Runs functions in threads. Used from one event loop at a time."""

    def __init__(self, *, threads: int, waiting: int, patience_s: float) -> None:
        """`threads` run at once, `waiting` more are held, and the next is refused; each caller
        waits for `patience_s` at most."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="circuit-atlas")
        self._most = threads + waiting
        self._patience_s = patience_s
        self._taken = 0
        self._running: dict[Hashable, asyncio.Future[Any]] = {}

    async def run(self, key: Hashable, function: Callable[[], T]) -> T:
        """Return what the function gives; those who ask the same while it runs get the same.

        A caller that goes away does not stop it, since others may wait for it.

        Raises:
            BusyError: as many as may wait do so, or it takes too long, as where a store hangs.
        """
        running: asyncio.Future[T] | None = self._running.get(key)
        if running is None:
            running = self._start(key, function)
        try:
            return await asyncio.wait_for(asyncio.shield(running), self._patience_s)
        except TimeoutError:
            if running.done():
                raise
            raise BusyError(
                f"no answer in {self._patience_s:g} s, as the store is slow or much is asked: come "
                "back a little later"
            ) from None

    def close(self) -> None:
        """Take no more; what runs is left to end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(self, key: Hashable, function: Callable[[], T]) -> asyncio.Future[T]:
        if self._taken >= self._most:
            raise BusyError(f"{self._taken} requests wait already: come back in a second")
        self._taken += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, function)
        self._running[key] = future

        def ended(done: asyncio.Future[T]) -> None:
            self._taken -= 1
            if self._running.get(key) is done:
                del self._running[key]
            # Looked at even where nobody waits any more, lest asyncio complains of an unseen error.
            if not done.cancelled():
                done.exception()

        future.add_done_callback(ended)
        return future
