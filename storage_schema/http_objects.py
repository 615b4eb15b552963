"""The objects of an atlas that `circuit-atlas serve` serves, read over HTTP.

It answers as any other store does, so that everything above reads from it unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar

from obstore.exceptions import BaseError
from obstore.store import HTTPStore

from circuit_atlas.storage_schema import client, layout, paths
from circuit_atlas.storage_schema.bounds import Count, SizeBytes
from circuit_atlas.storage_schema.documents import decode_as
from circuit_atlas.storage_schema.errors import NotAnAtlasError, StoreError, WriteError
from circuit_atlas.storage_schema.objects import Below, Entry, Objects
from circuit_atlas.storage_schema.patience import Patience
from circuit_atlas.storage_schema.wording import in_words

API_VERSION = 1
"""The version of the HTTP API that this reads."""

_CONNECT_S = 5
_READ_S = 30
_RETRIES = 2
_FOREIGN = "the server's answer is none of circuit-atlas': see what answers there"
_RETRY_S = 10
# What a server may send is bounded, so that one that means harm takes no more of a reader.
_SERVER_BYTES = 2**16
_ANSWER_BYTES = 2**25
_OBJECT_BYTES = 2**32
_LISTED = 2**22

T = TypeVar("T")


@dataclass(frozen=True)
class _Server:
    """What a server says of itself."""

    server: Literal["circuit-atlas"]
    api: Count


@dataclass(frozen=True, slots=True)
class _Listed:
    path: str
    size_bytes: SizeBytes
    etag: str | None = None


@dataclass(frozen=True)
class _Listing:
    """What a server says of a folder: what lies below, or in it, and folders to be asked for."""

    objects: tuple[_Listed, ...]
    folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Names:
    """What a server says of the names in a folder."""

    names: tuple[str, ...]


class HttpObjects(Objects):
    """Reads the objects of a served atlas. Read-only."""

    sends_ranges = False

    def __init__(self, location: str) -> None:
        """Nothing is asked yet; see `open_served`.

        Args:
            location: address of the server, `http://HOST:PORT`, with a proxy's path if need be.
        """
        self._root = location.rstrip("/")
        super().__init__(
            _store(f"{self._root}/api/v{API_VERSION}/objects"),
            location=location,
            patience=Patience(0),  # its client has some: see `_store`
        )
        self._api = _store(f"{self._root}/api/v{API_VERSION}")

    def __reduce__(self) -> tuple[type[HttpObjects], tuple[str]]:
        return HttpObjects, (self.location,)

    def put_if_absent(self, path: str, data: bytes | memoryview) -> bool:
        """Refuse: a served atlas cannot be written (WriteError)."""
        del data
        raise _read_only(self.at(path))

    def create(self, path: str, data: bytes | memoryview) -> bool:
        """Refuse: a served atlas cannot be written (WriteError)."""
        del data
        raise _read_only(self.at(path))

    def put(self, path: str, data: bytes) -> None:
        """Refuse: a served atlas cannot be written (WriteError)."""
        del data
        raise _read_only(self.at(path))

    def delete(self, paths: Sequence[str]) -> None:
        """Refuse: a served atlas cannot be written (WriteError)."""
        raise _read_only(self.at(paths[0] if paths else ""))

    def _get(self, path: str) -> bytes:
        if layout.most_bytes(path) is not None:
            return super()._get(path)
        try:
            return client.get(self.store, self._own(path), most_bytes=_OBJECT_BYTES)[0]
        except client.TooLongError as error:
            raise StoreError(
                f"cannot read {self.at(path)}: the server sends {error.size_bytes:,} bytes, and "
                f"{_OBJECT_BYTES:,} at most are read of one object: open the atlas' folder or URL"
            ) from None

    def get_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Do as any store; the server sends the whole object."""
        data = self.get(path)
        return [data[start : start + size] for start, size in ranges]

    def list(self, prefix: str = "") -> tuple[Entry, ...]:
        """Return every object below a folder, by path; StoreError where the server does not
        answer."""
        entries: list[Entry] = []
        waiting, seen = [prefix], 0
        while waiting:
            below = self.below(waiting.pop(), most=0)
            entries += below.objects
            waiting += below.folders
            seen += len(below.objects) + len(below.folders)
            if seen > _LISTED:
                raise StoreError(
                    f"cannot list {self.at(prefix)}: the server lists more than {_LISTED:,} "
                    "objects and folders: open the atlas' folder or URL"
                )
        return tuple(sorted(entries, key=lambda entry: entry.path))

    def below(self, folder: str = "", *, most: int) -> Below:
        """Do as any store, but that the server says how many are too many; StoreError as of
        `list`."""
        del most
        answer = self._answer(_Listing, "listing", folder, none=_Listing(()))
        start = f"{folder}/" if folder else ""
        # Folders of an atlas alone: with others, there might be no end to those inside.
        inside = [path for path in answer.folders if path and path.startswith(start)]
        if len(inside) < len(answer.folders) or not all(map(paths.is_folder, inside)):
            raise self._foreign(folder)
        objects = (Entry(one.path, one.size_bytes, one.etag) for one in answer.objects)
        return Below(tuple(objects), answer.folders)

    def names(self, folder: str = "") -> tuple[str, ...]:
        """Return the names of the objects and folders in a folder; StoreError as of `list`."""
        return tuple(sorted(self._answer(_Names, "names", folder, none=_Names(())).names))

    def get(self, path: str) -> bytes:
        """Do as any store; StoreError where what answers now is no server of ours."""
        try:
            return super().get(path)
        except FileNotFoundError as error:
            if not _says_so(error.__cause__):
                raise StoreError(f"cannot read {self.at(path)}: {_FOREIGN}") from error
            raise

    def _answer(self, kind: type[T], question: str, folder: str, *, none: T) -> T:
        """What the server answers of a folder; `none` of one that it has not, as any store."""
        path = f"{question}/{folder}" if folder else question
        try:
            data = client.get(self._api, path, most_bytes=_ANSWER_BYTES)[0]
            return decode_as(kind, data)
        except FileNotFoundError as error:
            if not _says_so(error):
                raise self._foreign(folder) from error
            return none
        except (BaseError, OSError) as error:
            raise StoreError(f"cannot list {self.at(folder)}: {in_words(error)}") from error
        except (ValueError, client.TooLongError) as error:
            raise self._foreign(folder) from error

    def _foreign(self, folder: str) -> StoreError:
        return StoreError(f"cannot list {self.at(folder)}: {_FOREIGN}")


def open_served(location: str) -> HttpObjects:
    """Open an atlas by the address of its server, or of one of its pages.

    Raises:
        NotAnAtlasError: something else answers there.
        StoreError: nothing answers, or a version that this one cannot talk to.
    """
    # The address of a page of it will do.
    location = re.split("[?#]", location, maxsplit=1)[0]
    root = location.rstrip("/")
    remedy = "give the address that `circuit-atlas serve` printed"
    try:
        text = client.get(_store(f"{root}/api"), "server", most_bytes=_SERVER_BYTES)[0]
    except (FileNotFoundError, client.TooLongError):
        raise NotAnAtlasError(f"{location} is no server of circuit-atlas: {remedy}") from None
    except (BaseError, OSError) as error:
        raise StoreError(f"cannot open {location}: {in_words(error)}; {remedy}") from error
    except ValueError as error:  # no host, or a port that is none
        raise NotAnAtlasError(f"{location} is no address: {error}; {remedy}") from None
    facts = _facts(text)
    if facts is None:
        raise NotAnAtlasError(f"{location} is no server of circuit-atlas: {remedy}")
    if facts.api != API_VERSION:
        older = facts.api < API_VERSION
        raise StoreError(
            f"{location} answers by version {facts.api} of the API and this circuit-atlas by "
            f"{API_VERSION}: install a newer circuit-atlas {'there' if older else 'here'}"
        )
    return HttpObjects(location)


def _facts(text: bytes) -> _Server | None:
    """What a server says of itself, or None where it is none of ours."""
    try:
        return decode_as(_Server, text)
    except ValueError:
        return None


def _store(url: str) -> HTTPStore:
    return HTTPStore(
        url,
        client_options={
            "allow_http": True,
            "connect_timeout": timedelta(seconds=_CONNECT_S),
            # Not of the whole request: the files of a large image set take their time.
            "timeout": timedelta(days=1),
            "read_timeout": timedelta(seconds=_READ_S),
        },
        retry_config={
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(seconds=_RETRY_S),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=2),
                "base": 2,
            },
        },
    )


def _read_only(location: str) -> WriteError:
    return WriteError(
        f"cannot write {location}: a served atlas is read-only; give its folder or its store's URL"
    )


def _says_so(error: BaseException | None) -> bool:
    """Whether a 404 is what one of our servers says of what it has not: anything else may have come
    to answer at its address, and an atlas that seems to be empty would not show it."""
    return '{"error":{"kind":' in str(error)
