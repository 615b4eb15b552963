"""Raw reads of the store: only what the layout names, and nothing through a link out of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from anyio import CapacityLimiter, to_thread
from obstore.exceptions import BaseError

from circuit_atlas.service.web.errors import BusyError, NotFoundError
from circuit_atlas.service.web.object_source import Source, open_source
from circuit_atlas.service.web.responses import digest
from circuit_atlas.storage_schema import paths
from circuit_atlas.storage_schema.answer_errors import TooLongError
from circuit_atlas.storage_schema.errors import StoreError
from circuit_atlas.storage_schema.objects import Below, Objects
from circuit_atlas.storage_schema.patience import StillOutError, is_passing

_PAUSE_S = 0.1
# What a store may say in place of an object.
_REFUSALS = (BaseError, OSError, StillOutError, TooLongError)


class OpenObject:
    """Holds an object that is about to be sent, until it is closed."""

    def __init__(
        self, path: str, source: Source, *, objects: Objects, limiter: CapacityLimiter
    ) -> None:
        self._path = path
        self._source = source
        self._objects = objects
        self._limiter = limiter
        self.size_bytes = source.size_bytes
        self.etag = f'"{digest(path, *source.written)}"'

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield its bytes, a megabyte at a time.

        Where the store fails in the middle, the rest is asked for, as long as it is waited for
        since some of it came. StoreError where none does, or the object is another one now.
        """
        sent, since_s = 0, time.monotonic()
        while True:
            try:
                async for piece in self._source.pieces(self._limiter):
                    yield piece
                    sent, since_s = sent + len(piece), time.monotonic()
            except (BaseError, OSError) as error:
                waited_s = time.monotonic() - since_s
                if waited_s >= self._objects.patience.limit_s or not is_passing(error):
                    raise self._fault(error) from error
                await asyncio.sleep(_PAUSE_S)
                await self._go_on(sent)
            else:
                return

    async def _go_on(self, start: int) -> None:
        """Ask for what comes from a byte on."""
        self.close()
        try:
            rest = partial(self._source.rest, start)
            self._source = await asked(self._objects, rest, limiter=self._limiter)
        except _REFUSALS as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> StoreError:
        told = self._objects.read_error(self._path, error)
        return told if isinstance(told, StoreError) else StoreError(f"{told}, and was being sent")

    def close(self) -> None:
        """Let go of the store. May be called twice."""
        self._source.close()


async def asked(
    objects: Objects, question: Callable[[], Source], *, limiter: CapacityLimiter
) -> Source:
    """Open an object in a thread, which is asked for again as long as the store is waited for;
    errors as of `Patience.ask`."""
    ask = partial(objects.patience.ask, objects.location, question)
    return await to_thread.run_sync(ask, limiter=limiter)


class Raw:
    """Reads what may be read of a store as it is. Objects are streamed, not held."""

    def __init__(self, objects: Objects, *, streams: int, listed: int) -> None:
        """`streams` objects are sent at once, one more is refused; `listed` at most are listed in
        one answer."""
        self._objects = objects
        self._streams = streams
        self._listed = listed
        self._open = 0
        # Not those of all requests: another server may keep each of them waiting.
        self._limiter: CapacityLimiter | None = None

    async def open(self, path: str) -> OpenObject:
        """Open an object by its path, to be closed.

        Raises:
            NotFoundError: no path of an atlas, nothing there, a link out of the atlas, or no file.
            StoreError: the store refused, or gave no answer as long as it is waited for.
        """
        if not paths.is_object(path) or not self._objects.is_own(path):
            raise NotFoundError(f"an atlas has no object {path[:80]!r}")
        limiter = self._limiter = self._limiter or CapacityLimiter(max(self._streams, 1))
        try:
            question = partial(open_source, self._objects, path)
            source = await asked(self._objects, question, limiter=limiter)
        except _REFUSALS as error:
            told = self._objects.read_error(path, error)
            if isinstance(told, FileNotFoundError):
                raise NotFoundError(f"there is no object {path!r}") from None
            raise told from error
        return OpenObject(path, source, objects=self._objects, limiter=limiter)

    def check_folder(self, folder: str) -> None:
        """Raise NotFoundError where an atlas has no such folder."""
        if not paths.is_folder(folder) or not self._objects.is_own(folder):
            raise NotFoundError(f"an atlas has no folder {folder[:80]!r}")

    def below(self, folder: str) -> Below:
        """List the objects of an atlas below a folder, or, where these are too many for one answer,
        those in it and its folders; CorruptError where a folder below it is a link out of the
        atlas."""
        below = self._objects.below(folder, most=self._listed)
        objects = (
            entry
            for entry in below.objects
            if paths.is_object(entry.path) and self._objects.is_own(entry.path)
        )
        folders = (
            path for path in below.folders if paths.is_folder(path) and self._objects.is_own(path)
        )
        return Below(tuple(objects), tuple(folders))

    def names(self, folder: str) -> Sequence[str]:
        """List the names in a folder: of folders and of objects of an atlas."""
        names = []
        for name in self._objects.names(folder):
            path = f"{folder}/{name}" if folder else name
            if (paths.is_object(path) or paths.is_folder(path)) and self._objects.is_own(path):
                names.append(name)
        return names

    def take(self) -> None:
        """Count one more stream; BusyError where there are as many as may be."""
        if self._open >= self._streams:
            raise BusyError(f"{self._open} objects are being sent already: come back in a second")
        self._open += 1

    def give_back(self) -> None:
        """Count one less."""
        self._open -= 1
