"""An object that is about to be sent, a megabyte at a time: of a store of obstore's, or of another
server, which is believed no more than by any reader."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Protocol

import obstore
from anyio import CapacityLimiter, to_thread
from obstore.store import ObjectStore

from circuit_atlas.storage_schema.archive_objects import ArchiveObjects
from circuit_atlas.storage_schema.client import obstores
from circuit_atlas.storage_schema.http_objects import HttpObjects
from circuit_atlas.storage_schema.objects import Objects

_CHUNK_BYTES = 2**20


class Source(Protocol):
    """Gives the bytes of an object.

    Attributes:
        size_bytes: those of the whole object.
        written: others where the object was written anew.
    """

    size_bytes: int
    written: tuple[str, ...]

    def pieces(self, limiter: CapacityLimiter) -> AsyncIterator[bytes]:
        """Yield its bytes, read by threads of a limiter where reading takes any; errors as of
        `open_source`."""
        ...

    def rest(self, start: int) -> Source:
        """Open the object once more, to go on from a byte; errors as of `open_source`, and OSError
        where it is another one now."""
        ...

    def close(self) -> None:
        """Let go of the store. May be called twice."""
        ...


def open_source(objects: Objects, path: str) -> Source:
    """Open an object; errors as of `obstore.get`, or of `HttpClient.get`."""
    if isinstance(objects, HttpObjects):
        return _ServedObject(objects, path)
    if isinstance(objects, ArchiveObjects):
        # It is a copy that is sent, which was made just now.
        return _StoredObject(objects.copied(path), path, version=objects.version)
    return _StoredObject(obstores(objects.store), path)


class _StoredObject:
    def __init__(
        self,
        store: ObjectStore,
        path: str,
        *,
        version: str | None = None,
        options: obstore.GetOptions | None = None,
    ) -> None:
        self._store, self._path = store, path
        self._result = obstore.get(store, path, options=options)
        meta = self._result.meta
        self.size_bytes: int = meta["size"]
        stored = (str(meta["e_tag"]), str(meta["last_modified"]))
        self.written: tuple[str, ...] = stored if version is None else (version,)

    async def pieces(self, limiter: CapacityLimiter) -> AsyncIterator[bytes]:
        del limiter  # obstore has threads of its own
        async for piece in self._result.stream(min_chunk_size=_CHUNK_BYTES):
            yield bytes(piece)

    def rest(self, start: int) -> _StoredObject:
        options: obstore.GetOptions = {"range": {"offset": start}}
        etag = self._result.meta["e_tag"]
        if etag is not None:
            options["if_match"] = etag
        return _StoredObject(self._store, self._path, options=options)

    def close(self) -> None:
        return


class _ServedObject:
    def __init__(self, objects: HttpObjects, path: str, *, start: int = 0) -> None:
        self._objects, self._path, self._start = objects, path, start
        self._opened = ExitStack()
        self._answer = self._opened.enter_context(objects.opened(path))
        self.size_bytes = self._answer.size_bytes
        answer = self._answer
        self.written: tuple[str, ...] = (
            str(answer.etag),
            str(answer.modified),
            str(self.size_bytes),
        )

    async def pieces(self, limiter: CapacityLimiter) -> AsyncIterator[bytes]:
        pieces, passed_over = self._answer.pieces(), 0
        while piece := await to_thread.run_sync(next, pieces, b"", limiter=limiter):
            # A server sends whole objects alone.
            over = min(self._start - passed_over, len(piece))
            passed_over += over
            if over < len(piece):
                yield piece[over:]

    def rest(self, start: int) -> _ServedObject:
        again = _ServedObject(self._objects, self._path, start=start)
        if again.written != self.written:
            again.close()
            raise OSError("it was written anew while it was read")
        return again

    def close(self) -> None:
        self._opened.close()
