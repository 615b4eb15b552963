"""One small object-store interface: local disk and any store that obstore opens.

Nothing here replaces an object unless asked to by `put`: the rest of the package puts only what is
absent. obstore writes a local file beside its place and links it there whole, so no reader sees
half an object, whichever way a writer ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore

from circuit_atlas.storage_schema.errors import StoreError, WriteError
from circuit_atlas.storage_schema.wording import in_words, system_number

if TYPE_CHECKING:
    from obstore import ObjectMeta

_THREADS = 16
_REMEDIES = {
    1: "it is not permitted: give write permission or choose another store",
    2: "a folder of the path is gone or cannot be made: choose another store",
    13: "permission denied: give write permission or choose another store",
    20: "a part of the path is a file: choose another store",
    28: "the disk is full: free some space and run the same command again",
    30: "it is read-only: choose a store that can be written",
    36: "the name is too long for this file system: choose another store",
    122: "the disk quota is used up: free some space and run the same command again",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """Describes an object as a listing shows it.

    Attributes:
        path: from the store's root.
        size_bytes: its size.
        etag: another one where the object was written anew; None where the store has none.
        modified_s: when it was written, by the store's clock, in seconds since 1970 UTC; None where
            the store does not say.
    """

    path: str
    size_bytes: int
    etag: str | None = field(default=None, compare=False)
    modified_s: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Below:
    """Holds what lies below a folder.

    Attributes:
        objects: every object, by path; where there are too many, those in the folder itself.
        folders: the folders in it, by path, where there are too many objects; else none.
    """

    objects: tuple[Entry, ...]
    folders: tuple[str, ...] = ()


def write_error(location: str, error: Exception) -> WriteError:
    """Tell of a refused write in one line: the location, the reason, the remedy."""
    remedy = _REMEDIES.get(system_number(error))
    reason = remedy or f"{in_words(error)}: see that the store can be written, and run again"
    return WriteError(f"cannot write {location}: {reason}")


class Objects:
    """The objects of one store, by path from its root. Safe to share between threads.

    Attributes:
        sends_ranges: whether a stretch of an object costs less than the object.
    """

    sends_ranges = True

    def __init__(self, store: ObjectStore, *, location: str) -> None:
        """`location` names the store in messages."""
        self.store = store
        self.location = location

    def at(self, path: str) -> str:
        """Return a path as messages name it."""
        return f"{self.location.rstrip('/')}/{path}"

    def file(self, path: str) -> Path | None:
        """Return the file that an object is, there or not; None where the store is no folder."""
        store = self.store
        if not isinstance(store, LocalStore) or store.prefix is None:
            return None
        return Path(store.prefix, path)

    def put_if_absent(self, path: str, data: bytes | memoryview) -> bool:
        """Write an object unless there is one; whether this call wrote it.

        Looking first costs a request, and saves sending what is there already; it also lets a
        finished atlas on a read-only disk pass.

        Raises:
            WriteError: the store refused.
        """
        return False if self.exists(path) else self.create(path, data)

    def create(self, path: str, data: bytes | memoryview) -> bool:
        """Do the same without looking first: where there is hardly one, as under a name that was
        drawn. WriteError where the store refuses."""
        try:
            obstore.put(self.store, path, data, mode="create")
        except AlreadyExistsError:
            return False
        except (BaseError, OSError) as error:
            raise write_error(self.at(path), error) from error
        return True

    def put(self, path: str, data: bytes) -> None:
        """Write an object, or replace it; WriteError where the store refuses."""
        try:
            obstore.put(self.store, path, data)
        except (BaseError, OSError) as error:
            raise write_error(self.at(path), error) from error

    def get(self, path: str) -> bytes:
        """Return an object's bytes.

        Raises:
            FileNotFoundError: there is none.
            StoreError: the store refused or cannot be reached.
        """
        try:
            return bytes(obstore.get(self.store, path).bytes())
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.at(path)} is missing") from error
        except (BaseError, OSError) as error:
            raise StoreError(f"cannot read {self.at(path)}: {in_words(error)}") from error

    def get_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return some stretches of an object's bytes, each (start, size in bytes); errors as in
        `get`.

        Those that lie close together are asked for at once.
        """
        starts, sizes = zip(*ranges, strict=True)
        try:
            pieces = obstore.get_ranges(self.store, path, starts=starts, lengths=sizes)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.at(path)} is missing") from error
        except (BaseError, OSError) as error:
            raise StoreError(f"cannot read {self.at(path)}: {in_words(error)}") from error
        return [bytes(piece) for piece in pieces]

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects, in this order; one that is not there counts as deleted.

        Raises:
            WriteError: the store refused; those before it are deleted.
        """
        for path in paths:
            try:
                obstore.delete(self.store, path)
            except FileNotFoundError:
                continue
            except (BaseError, OSError) as error:
                raise write_error(self.at(path), error) from error

    def get_many(self, paths: Sequence[str]) -> list[bytes]:
        """Return several objects' bytes, in the order asked; errors as in `get`."""
        if len(paths) < 2:
            return [self.get(path) for path in paths]
        with ThreadPoolExecutor(min(_THREADS, len(paths))) as pool:
            return list(pool.map(self.get, paths))

    def get_listed(self, paths: Sequence[str]) -> list[bytes]:
        """Do the same of objects that were listed just now; StoreError where one is gone since."""
        try:
            return self.get_many(paths)
        except FileNotFoundError as error:
            raise StoreError(f"{error}, and was there when it was listed: ask again") from error

    def exists(self, path: str) -> bool:
        """Tell whether there is an object; StoreError where the store cannot say."""
        try:
            obstore.head(self.store, path)
        except FileNotFoundError:
            return False
        except (BaseError, OSError) as error:
            raise StoreError(f"cannot read {self.at(path)}: {in_words(error)}") from error
        return True

    def list(self, prefix: str = "") -> tuple[Entry, ...]:
        """Return every object below a folder (not: with that start of a name), by path."""
        entries: list[Entry] = []
        try:
            # Some at a time: what the store says of an object takes several times what is kept.
            for some in obstore.list(self.store, prefix or None):
                entries += map(_entry, some)
        except (BaseError, OSError) as error:
            raise StoreError(f"cannot list {self.at(prefix)}: {in_words(error)}") from error
        return tuple(sorted(entries, key=_path))

    def below(self, folder: str = "", *, most: int) -> Below:
        """Return every object below a folder, unless there are more than `most`: then what is in
        it, to be asked for folder by folder. Takes no longer for a larger store, but for its larger
        folders.

        StoreError where the store cannot say.
        """
        listed: list[ObjectMeta] = []
        try:
            for some in obstore.list(self.store, folder or None):
                listed += some
                if len(listed) > most:
                    inside = obstore.list_with_delimiter(self.store, folder or None)
                    folders = (path.rstrip("/") for path in inside["common_prefixes"])
                    return Below(_by_path(inside["objects"]), tuple(sorted(folders)))
        except (BaseError, OSError) as error:
            raise StoreError(f"cannot list {self.at(folder)}: {in_words(error)}") from error
        return Below(_by_path(listed))

    def names(self, folder: str = "") -> tuple[str, ...]:
        """Return the names of the objects and folders in a folder, not below it."""
        try:
            listed = obstore.list_with_delimiter(self.store, folder or None)
        except (BaseError, OSError) as error:
            raise StoreError(f"cannot list {self.at(folder)}: {in_words(error)}") from error
        paths = [*listed["common_prefixes"], *(o["path"] for o in listed["objects"])]
        return tuple(sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in paths))


def _by_path(listed: Sequence[ObjectMeta]) -> tuple[Entry, ...]:
    return tuple(sorted(map(_entry, listed), key=_path))


def _entry(listed: ObjectMeta) -> Entry:
    modified_s = listed["last_modified"].timestamp()
    return Entry(listed["path"], listed["size"], listed["e_tag"], modified_s)


def _path(entry: Entry) -> str:
    return entry.path
