"""The store's client, which does not survive a fork: then folders are read by plain means.

obstore works with threads of its own, which a process that is forked off does not have: what it
asked of them there would be waited for without end. Pools and data loaders fork, by default on
Linux. So a process that was forked off one that had used the client reads the files of a folder
itself, and is told at once where it cannot. The functions are obstore's, as far as they are used.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import obstore
from obstore.store import LocalStore, MemoryStore, ObjectStore

from circuit_atlas.storage_schema.answer_errors import TooLongError
from circuit_atlas.storage_schema.errors import StoreError
from circuit_atlas.storage_schema.http_client import HttpClient
from circuit_atlas.storage_schema.pace import Pace

if TYPE_CHECKING:
    from obstore import GetResult, ListResult, ObjectMeta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LISTED_TOGETHER = 1000
# What obstore has half written lies under such a name until it is whole.
_HALF_WRITTEN = re.compile(r"#\d+$")
_process: list[int] = []

Store: TypeAlias = ObjectStore | HttpClient
"""What objects are read from: obstore's stores write and list as well."""


def get(store: Store, path: str, *, most_bytes: int | None = None) -> tuple[bytes, str | None]:
    """Return an object's bytes and its ETag, None where nobody says it; errors as of
    `obstore.get` or `HttpClient.get`, TooLongError where it has more than `most_bytes`, before they
    are read, and TimeoutError where after half a minute fewer than 1 KiB a second have come."""
    if isinstance(store, HttpClient):
        return store.get(path, most_bytes=most_bytes)
    folder = _folder(store)
    if folder is not None:
        _require_length((folder / path).stat().st_size, most_bytes)
        return (folder / path).read_bytes(), None
    result = obstore.get(store, path)
    _require_length(result.range[1], most_bytes)
    whole = isinstance(store, LocalStore | MemoryStore)
    return bytes(result.bytes()) if whole else _received(result), result.meta["e_tag"]


def get_ranges(
    store: Store, path: str, *, starts: Sequence[int], lengths: Sequence[int]
) -> list[bytes]:
    """Return stretches of an object's bytes; errors as of `obstore.get_ranges`."""
    store = obstores(store)
    folder = _folder(store)
    if folder is None:
        pieces = obstore.get_ranges(store, path, starts=starts, lengths=lengths)
        return [bytes(piece) for piece in pieces]
    with (folder / path).open("rb") as file:
        return [_range(file.fileno(), *of) for of in zip(starts, lengths, strict=True)]


def head(store: Store, path: str) -> None:
    """Raise FileNotFoundError where there is no such object; errors as of `obstore.head` or
    `HttpClient.head`."""
    if isinstance(store, HttpClient):
        store.head(path)
        return
    folder = _folder(store)
    if folder is None:
        obstore.head(store, path)
    elif not (folder / path).is_file():
        raise FileNotFoundError(path)


def list_all(store: Store, prefix: str | None) -> Iterator[Sequence[ObjectMeta]]:
    """Give what lies below a folder, some at a time; errors as of `obstore.list`."""
    store = obstores(store)
    folder = _folder(store)
    if folder is None:
        yield from obstore.list(store, prefix)
        return
    some: list[ObjectMeta] = []
    for parent, _, names in os.walk(folder / (prefix or "")):
        some += _entries(folder, (Path(parent, name) for name in names))
        if len(some) >= _LISTED_TOGETHER:
            yield some
            some = []
    yield some


def list_folder(store: Store, prefix: str | None) -> ListResult[Sequence[ObjectMeta]]:
    """Give what lies in a folder; errors as of `obstore.list_with_delimiter`."""
    store = obstores(store)
    folder = _folder(store)
    if folder is None:
        return obstore.list_with_delimiter(store, prefix)
    where = folder / (prefix or "")
    inside = list(where.iterdir()) if where.is_dir() else []
    return {
        "common_prefixes": [
            path.relative_to(folder).as_posix() for path in inside if path.is_dir()
        ],
        "objects": _entries(folder, (path for path in inside if path.is_file())),
    }


def put(
    store: Store,
    path: str,
    data: bytes | memoryview,
    *,
    mode: Literal["create", "overwrite"] = "overwrite",
) -> None:
    """Write an object; errors as of `obstore.put`."""
    store = obstores(store)
    if _folder(store) is not None:
        raise _forked(store, "writes nothing")
    obstore.put(store, path, data, mode=mode)


def move(store: Store, path: str, to: str) -> None:
    """Give an object another path, where it replaces what lies there; errors as of
    `obstore.rename`."""
    store = obstores(store)
    if _folder(store) is not None:
        raise _forked(store, "moves nothing")
    obstore.rename(store, path, to)


def delete(store: Store, path: str) -> None:
    """Delete an object; errors as of `obstore.delete`."""
    store = obstores(store)
    if _folder(store) is not None:
        raise _forked(store, "deletes nothing")
    obstore.delete(store, path)


def obstores(store: Store) -> ObjectStore:
    """Return the store as one of obstore's; TypeError where it is an address, which gives whole
    objects alone."""
    if isinstance(store, HttpClient):
        raise TypeError(f"{store} is no store of obstore's")
    return store


def _folder(store: ObjectStore) -> Path | None:
    """The folder that has to be read by plain means; None where the client works.

    StoreError where it does not, and the store is no folder.
    """
    if not _process:
        _process.append(os.getpid())
    if _process[0] == os.getpid():
        return None
    if isinstance(store, LocalStore) and store.prefix is not None:
        return Path(store.prefix)
    raise _forked(store, "reads folders alone")


def _forked(store: ObjectStore, what: str) -> StoreError:
    return StoreError(
        f"{store}: this process was forked off one that uses the store's client, and {what}; start "
        "processes by spawn, as multiprocessing.get_context('spawn') does, or "
        "DataLoader(multiprocessing_context='spawn')"
    )


def _received(result: GetResult) -> bytes:
    """What a server sends, as it comes: for the whole, obstore takes as much memory as the server
    says that there is to come, and ends the process where there is not as much."""
    pieces: list[bytes] = []
    pace, since_s = Pace(), time.monotonic()
    for piece in result.stream(min_chunk_size=1):
        pieces.append(bytes(piece))
        pace.note(size_bytes=len(piece), since_s=since_s)
        since_s = time.monotonic()
    return b"".join(pieces)


def _require_length(size_bytes: int, most_bytes: int | None) -> None:
    if most_bytes is not None and size_bytes > most_bytes:
        raise TooLongError(size_bytes)


def _range(file: int, start: int, length: int) -> bytes:
    return os.pread(file, length, start)


def _entries(folder: Path, files: Iterator[Path]) -> list[Any]:
    """What obstore says of some files; one that is gone meanwhile is left out."""
    entries = []
    for file in files:
        try:
            found = file.stat()
        except FileNotFoundError:
            continue
        if _HALF_WRITTEN.search(file.name):
            continue
        time_us = found.st_mtime_ns // 1000
        entries.append(
            {
                "path": file.relative_to(folder).as_posix(),
                "size": found.st_size,
                "last_modified": _EPOCH + timedelta(microseconds=time_us),
                "e_tag": f'"{found.st_ino:x}-{time_us:x}-{found.st_size:x}"',
                "version": None,
            }
        )
    return entries
