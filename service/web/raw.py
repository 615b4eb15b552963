"""Raw reads of the store: only what the layout names, and nothing through a link out of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial

import obstore
from obstore.exceptions import BaseError
from starlette.concurrency import run_in_threadpool

from circuit_atlas.service.web.errors import BusyError, NotFoundError
from circuit_atlas.service.web.responses import digest
from circuit_atlas.storage_schema import paths
from circuit_atlas.storage_schema.archive_objects import ArchiveObjects
from circuit_atlas.storage_schema.errors import StoreError
from circuit_atlas.storage_schema.objects import Below, Objects
from circuit_atlas.storage_schema.patience import StillOutError, is_passing
from circuit_atlas.storage_schema.wording import in_words

_CHUNK_BYTES = 2**20
_PAUSE_S = 0.1


class OpenObject:
    """Holds an object that is about to be sent."""

    def __init__(self, path: str, result: obstore.GetResult, objects: Objects) -> None:
        self._path = path
        self._result = result
        self._objects = objects
        meta = result.meta
        self.size_bytes: int = meta["size"]
        # Of an archive it is a copy that is sent, which was made just now.
        written = (
            (objects.version,)
            if isinstance(objects, ArchiveObjects)
            else (str(meta["e_tag"]), str(meta["last_modified"]))
        )
        self.etag = f'"{digest(path, *written)}"'

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield its bytes, a megabyte at a time.

        Where the store fails in the middle, the rest is asked for, as long as it is waited for
        since some of it came. StoreError where none does, or the object is another one now.
        """
        sent, since_s = 0, time.monotonic()
        stream = self._result.stream(min_chunk_size=_CHUNK_BYTES)
        while True:
            try:
                async for piece in stream:
                    yield bytes(piece)
                    sent, since_s = sent + len(piece), time.monotonic()
            except (BaseError, OSError) as error:
                waited_s = time.monotonic() - since_s
                if waited_s >= self._objects.patience.limit_s or not is_passing(error):
                    raise self._fault(error) from error
                await asyncio.sleep(_PAUSE_S)
                stream = await self._rest(sent)
            else:
                return

    async def _rest(self, start: int) -> obstore.BytesStream:
        """What comes from a byte on."""
        options: obstore.GetOptions = {"range": {"offset": start}}
        if self._result.meta["e_tag"] is not None:
            options["if_match"] = self._result.meta["e_tag"]
        try:
            result = await asked(self._objects, self._path, options)
        except (BaseError, OSError, StillOutError) as error:
            raise self._fault(error) from error
        return result.stream(min_chunk_size=_CHUNK_BYTES)

    def _fault(self, error: Exception) -> StoreError:
        return StoreError(f"cannot read {self._objects.at(self._path)}: {in_words(error)}")


async def asked(
    objects: Objects, path: str, options: obstore.GetOptions | None = None
) -> obstore.GetResult:
    """Open an object, which is asked for again as long as the store is waited for; errors as of
    `Patience.ask`."""
    store = objects.copied(path) if isinstance(objects, ArchiveObjects) else objects.store
    question = partial(obstore.get, store, path, options=options)
    return await run_in_threadpool(objects.patience.ask, objects.location, question)


class Raw:
    """Reads what may be read of a store as it is. Objects are streamed, not held."""

    def __init__(self, objects: Objects, *, streams: int, listed: int) -> None:
        """`streams` objects are sent at once, one more is refused; `listed` at most are listed in
        one answer."""
        self._objects = objects
        self._streams = streams
        self._listed = listed
        self._open = 0

    async def open(self, path: str) -> OpenObject:
        """Open an object by its path.

        Raises:
            NotFoundError: no path of an atlas, nothing there, a link out of the atlas, or no file.
            StoreError: the store refused, or gave no answer as long as it is waited for.
        """
        if not paths.is_object(path) or not self._objects.is_own(path):
            raise NotFoundError(f"an atlas has no object {path[:80]!r}")
        try:
            result = await asked(self._objects, path)
        except FileNotFoundError:
            raise NotFoundError(f"there is no object {path!r}") from None
        except (BaseError, OSError, StillOutError) as error:
            raise StoreError(f"cannot read {self._objects.at(path)}: {in_words(error)}") from error
        return OpenObject(path, result, self._objects)

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
