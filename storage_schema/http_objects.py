"""The objects of an atlas that `circuit-atlas serve` serves, read over HTTP.

It answers as any other store does, so that everything above reads from it unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

from circuit_atlas.storage_schema import layout, paths
from circuit_atlas.storage_schema.answer_errors import MissingObjectError, TooLongError
from circuit_atlas.storage_schema.bounds import Count, SizeBytes
from circuit_atlas.storage_schema.documents import decode_as
from circuit_atlas.storage_schema.errors import (
    NotAnAtlasError,
    StoreError,
    WriteError,
)
from circuit_atlas.storage_schema.http_address import HttpAddress, shown
from circuit_atlas.storage_schema.http_client import HttpAnswer, HttpClient
from circuit_atlas.storage_schema.objects import Below, Entry, Objects
from circuit_atlas.storage_schema.patience import (
    READERS_S,
    Patience,
    StillOutError,
    interruptible,
)
from circuit_atlas.storage_schema.refusals import reason

API_VERSION = 1
"""The version of the HTTP API that this reads."""

# At an address where nothing answers there is hardly ever anything: then it is not waited for long.
_OPENING_S = 1.0
_FOREIGN = "the server's answer is none of circuit-atlas': see what answers there"
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

    def __init__(self, address: str, *, patience: Patience | None = None) -> None:
        """Nothing is asked yet; see `open_served`.

        Args:
            address: of the server, `http://HOST:PORT`, with a proxy's path if need be. Messages
                say it without who logs in.
            patience: how long it is waited for. Default: that of readers.

        Raises:
            ValueError: it is no address.
        """
        self._address = address
        self._api = HttpClient(HttpAddress.of(address)).below(f"api/v{API_VERSION}")
        self._objects = self._api.below("objects")
        super().__init__(self._objects, location=shown(address), patience=patience)

    def __reduce__(self) -> tuple[partial[HttpObjects], tuple[str]]:
        return partial(HttpObjects, patience=self.patience), (self._address,)

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

    def opened(self, path: str) -> AbstractContextManager[HttpAnswer]:
        """Give an object that is about to be read, of which a piece at a time is held; errors as of
        `HttpClient.get`, which `read_error` tells as those of `get`."""
        return self._objects.opened(self._own(path), most_bytes=_most_bytes(path))

    def _get(self, path: str) -> bytes:
        if layout.most_bytes(path) is not None:
            return super()._get(path)
        try:
            return self._objects.get(self._own(path), most_bytes=_OBJECT_BYTES)[0]
        except TooLongError as error:
            raise self.read_error(path, error) from None

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

    def read_error(self, path: str, error: Exception) -> StoreError | FileNotFoundError:
        """Do as any store; StoreError where what answers now is no server of ours, too."""
        if isinstance(error, MissingObjectError) and not _says_so(error):
            return StoreError(f"cannot read {self.at(path)}: {_FOREIGN}")
        if isinstance(error, TooLongError):
            return StoreError(
                f"cannot read {self.at(path)}: the server sends {error.size_bytes:,} bytes, and "
                f"{_most_bytes(path):,} at most are read of it: open the atlas' folder or URL"
            )
        return super().read_error(path, error)

    def _answer(self, kind: type[T], question: str, folder: str, *, none: T) -> T:
        """What the server answers of a folder; `none` of one that it has not, as any store."""
        path = f"{question}/{folder}" if folder else question
        try:
            data, _ = self._answered(partial(self._api.get, path, most_bytes=_ANSWER_BYTES))
            return decode_as(kind, data)
        except MissingObjectError as error:
            if not _says_so(error):
                raise self._foreign(folder) from error
            return none
        except (OSError, StillOutError) as error:
            raise StoreError(f"cannot list {self.at(folder)}: {reason(error)}") from error
        except (ValueError, TooLongError) as error:
            raise self._foreign(folder) from error

    def _foreign(self, folder: str) -> StoreError:
        return StoreError(f"cannot list {self.at(folder)}: {_FOREIGN}")


def open_served(location: str, *, patience_s: float = READERS_S) -> HttpObjects:
    """Open an atlas by the address of its server, or of one of its pages.

    Args:
        location: the address.
        patience_s: how long the server is waited for when it has been opened, in seconds.

    Raises:
        NotAnAtlasError: something else answers there.
        StoreError: nothing answers, or a version that this one cannot talk to.
    """
    # The address of a page of it will do.
    location = re.split("[?#]", location, maxsplit=1)[0]
    named = shown(location)
    remedy = "give the address that `circuit-atlas serve` printed"
    try:
        client = HttpClient(HttpAddress.of(location)).below("api")
        patience = Patience(min(patience_s, _OPENING_S))
        ask = partial(client.get, "server", most_bytes=_SERVER_BYTES)
        text, _ = patience.ask(named, partial(interruptible, ask))
    except (FileNotFoundError, TooLongError):
        raise NotAnAtlasError(f"{named} is no server of circuit-atlas: {remedy}") from None
    except (OSError, StillOutError) as error:
        raise StoreError(f"cannot open {named}: {reason(error)}; {remedy}") from error
    except ValueError as error:  # no host, or a port that is none
        raise NotAnAtlasError(f"{named} is no address: {error}; {remedy}") from None
    facts = _facts(text)
    if facts is None:
        raise NotAnAtlasError(f"{named} is no server of circuit-atlas: {remedy}")
    if facts.api != API_VERSION:
        older = facts.api < API_VERSION
        raise StoreError(
            f"{named} answers by version {facts.api} of the API and this circuit-atlas by "
            f"{API_VERSION}: install a newer circuit-atlas {'there' if older else 'here'}"
        )
    return HttpObjects(location, patience=Patience(patience_s))


def _most_bytes(path: str) -> int:
    """How long an object can be."""
    most = layout.most_bytes(path)
    return _OBJECT_BYTES if most is None else most


def _facts(text: bytes) -> _Server | None:
    """What a server says of itself, or None where it is none of ours."""
    try:
        return decode_as(_Server, text)
    except ValueError:
        return None


def _read_only(location: str) -> WriteError:
    return WriteError(
        f"cannot write {location}: a served atlas is read-only; give its folder or its store's URL"
    )


def _says_so(error: MissingObjectError) -> bool:
    """Whether a 404 is what one of our servers says of what it has not: anything else may have come
    to answer at its address, and an atlas that seems to be empty would not show it."""
    return error.said is None or error.said.startswith(b'{"error":{"kind":')
