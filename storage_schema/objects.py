"""One small object-store interface: local disk and any store that obstore opens.

Nothing here replaces an object unless asked to by `put`: the rest of the package puts only what is
absent. obstore writes a local file beside its place and links it there whole, so no reader sees
half an object, whichever way a writer ends.

Every question goes through the store's `Patience`, which asks again where that may help.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, S3Store

from circuit_atlas.storage_schema import client, layout
from circuit_atlas.storage_schema.answer_errors import TooLongError
from circuit_atlas.storage_schema.errors import (
    ContestedError,
    CorruptError,
    StoreError,
    UnreadableError,
)
from circuit_atlas.storage_schema.etags import Etags
from circuit_atlas.storage_schema.local_files import LocalFiles
from circuit_atlas.storage_schema.patience import Patience, StillOutError, interruptible
from circuit_atlas.storage_schema.refusals import reason, write_error
from circuit_atlas.storage_schema.wording import system_number

if TYPE_CHECKING:
    from obstore import ObjectMeta

# What a question to a store may raise.
_REFUSALS = (BaseError, OSError, StillOutError)
# What a disk, or a folder's permissions, say of one file and of no other.
_OF_ONE_OBJECT = (errno.EPERM, errno.EIO, errno.EACCES, errno.EBADMSG)
_THREADS = 16
_LONGEST = 1024
_SHORT_TIMES = 3
_T = TypeVar("_T")


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


class Objects:
    """The objects of one store, by path from its root. Safe to share between threads.

    Attributes:
        sends_ranges: whether a stretch of an object costs less than the object.
        patience: how long it is waited for.
    """

    sends_ranges = True

    def __init__(
        self, store: client.Store, *, location: str, patience: Patience | None = None
    ) -> None:
        """`location` names the store in messages. Default of `patience`: that of readers."""
        self.store = store
        self.location = location
        self.patience = patience or Patience()
        self._etags = Etags() if isinstance(store, S3Store) else None
        folder = store.prefix if isinstance(store, LocalStore) else None
        self._files = None if folder is None else LocalFiles(Path(folder))

    def at(self, path: str) -> str:
        """Return a path as messages name it."""
        return f"{self.location.rstrip('/')}/{path}"

    def file(self, path: str) -> Path | None:
        """Return the file that an object is, there or not; None where the store is no folder.

        CorruptError where it is no plain file of the folder, as of all that follow.
        """
        return None if self._files is None else self._files.file(self._own(path))

    def is_own(self, path: str) -> bool:
        """Tell whether a path leads to a plain file or folder of the store, or to nothing: not by
        a link out of its folder, nor to a pipe or a device."""
        known = not path or _is_path(path)
        return known and (self._files is None or self._files.fault(path) is None)

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
        drawn; whether the object has these bytes now.

        One that is there may be this call's own, put by a request whose answer was lost. So what is
        there is read, and the same bytes are success, whoever wrote them.

        Raises:
            WriteError: the store refused.
        """
        return self._write(path, lambda: self._create(path, data))

    def put_new(self, path: str, data: bytes | memoryview) -> None:
        """Write an object under a name that was drawn.

        Raises:
            ContestedError: another object has the name: draw another one.
            WriteError: the store refused.
        """
        if not self.create(path, data):
            raise ContestedError(
                f"{self.at(path)} is there already, of another attempt that drew the same number"
            )

    def _create(self, path: str, data: bytes | memoryview) -> bool:
        try:
            client.put(self.store, self._own(path), data, mode="create")
        except AlreadyExistsError:
            try:
                return self._get(path) == data
            except FileNotFoundError as gone:
                # Deleted meanwhile, or two put it at once and S3 has refused both.
                raise BlockingIOError(errno.EAGAIN, "another writes it") from gone
        return True

    def put(self, path: str, data: bytes) -> None:
        """Write an object, or replace it; WriteError where the store refuses."""
        self._write(path, lambda: client.put(self.store, self._own(path), data))

    def move(self, path: str, to: str) -> None:
        """Give an object another path, without reading it.

        Raises:
            FileNotFoundError: there is none.
            WriteError: the store refused.
        """
        try:
            self._answered(lambda: client.move(self.store, self._own(path), self._own(to)))
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.at(path)} is missing") from None
        except _REFUSALS as error:
            raise write_error(self.at(path), error) from error

    def _write(self, path: str, write: Callable[[], _T]) -> _T:
        try:
            self._require_folder()
            return self._answered(write)
        except _REFUSALS as error:
            raise write_error(self.at(path), error) from error

    def _require_folder(self) -> None:
        """FileNotFoundError where the store's folder is gone, which a write would make anew, with
        nothing but that object in it."""
        folder = self.file("")
        if folder is not None and not folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, "the folder is gone")

    def get(self, path: str) -> bytes:
        """Return an object's bytes.

        Raises:
            FileNotFoundError: there is none.
            CorruptError: it is a JSON document, and too long for one.
            UnreadableError: the disk has a fault there, or reading it is not permitted.
            StoreError: the store refused or cannot be reached.
        """
        return self._read(path, partial(self._get, path))

    def _get(self, path: str) -> bytes:
        most = layout.most_bytes(path)
        try:
            data, etag = client.get(self.store, self._own(path), most_bytes=most)
        except TooLongError as error:
            raise CorruptError(
                f"{self.at(path)} has {error.size_bytes:,} bytes, and a document of its kind "
                f"{most:,} at most: it is none of ours; restore it from a copy, or delete it"
            ) from None
        etags = self._etags
        if etags is not None and not etags.fits(path, etag, data):
            raise BlockingIOError(errno.EAGAIN, "it came in part")
        return data

    def get_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return some stretches of an object's bytes, each (start, size in bytes); errors as in
        `get`.

        Those that lie close together are asked for at once. One that comes short is asked for
        again, twice: it is, where the object is.
        """
        starts, sizes = zip(*ranges, strict=True)
        pieces: list[bytes] = []
        for _ in range(_SHORT_TIMES):
            pieces = self._read(path, partial(self._get_ranges, path, starts, sizes))
            if tuple(map(len, pieces)) == sizes:
                return pieces
        if not pieces:
            raise StoreError(f"cannot read {self.at(path)}: only a part of it comes; run again")
        return pieces

    def _get_ranges(self, path: str, starts: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        try:
            return client.get_ranges(self.store, self._own(path), starts=starts, lengths=sizes)
        except BaseException as error:
            # What the client makes of an answer that ends before the last stretch begins.
            if type(error).__name__ != "PanicException":
                raise
            return []

    def _read(self, path: str, read: Callable[[], _T]) -> _T:
        try:
            return self._answered(read)
        except _REFUSALS as error:
            raise self.read_error(path, error) from error

    def _answered(self, question: Callable[[], _T]) -> _T:
        if not isinstance(self.store, LocalStore | MemoryStore):
            question = partial(interruptible, question)
        return self.patience.ask(self.location, question)

    def read_error(self, path: str, error: Exception) -> StoreError | FileNotFoundError:
        """Return what an object that cannot be read is told as, one of the errors of `get`."""
        if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in str(error):
            return FileNotFoundError(f"{self.at(path)} is missing")
        if system_number(error) in _OF_ONE_OBJECT:
            return UnreadableError(f"cannot read {self.at(path)}: {reason(error)}")
        return StoreError(f"cannot read {self.at(path)}: {reason(error)}")

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects, in this order; one that is not there counts as deleted.

        Raises:
            WriteError: the store refused; those before it are deleted.
        """
        for path in paths:
            try:
                self._answered(partial(self._delete, path))
            except _REFUSALS as error:
                raise write_error(self.at(path), error) from error

    def _delete(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            client.delete(self.store, self._own(path))

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
            self._read(path, lambda: client.head(self.store, self._own(path)))
        except FileNotFoundError:
            return False
        return True

    def list(self, prefix: str = "") -> tuple[Entry, ...]:
        """Return every object below a folder (not: with that start of a name), by path."""

        def listed() -> list[Entry]:
            entries: list[Entry] = []
            # Some at a time: what the store says of an object takes several times what is kept.
            for some in client.list_all(self.store, self._own_below(prefix) or None):
                entries += map(_entry, some)
            return entries

        return tuple(sorted(self._list(prefix, listed), key=_path))

    def below(self, folder: str = "", *, most: int) -> Below:
        """Return every object below a folder, unless there are more than `most`: then what is in
        it, to be asked for folder by folder. Takes no longer for a larger store, but for its larger
        folders.

        StoreError where the store cannot say.
        """

        def found() -> Below:
            listed: list[ObjectMeta] = []
            for some in client.list_all(self.store, self._own_below(folder) or None):
                listed += some
                if len(listed) > most:
                    inside = client.list_folder(self.store, folder or None)
                    folders = (path.rstrip("/") for path in inside["common_prefixes"])
                    return Below(_by_path(inside["objects"]), tuple(sorted(folders)))
            return Below(_by_path(listed))

        return self._list(folder, found)

    def names(self, folder: str = "") -> tuple[str, ...]:
        """Return the names of the objects and folders in a folder, not below it."""
        self._own(folder)
        listed = self._list(folder, lambda: client.list_folder(self.store, folder or None))
        paths = [*listed["common_prefixes"], *(o["path"] for o in listed["objects"])]
        return tuple(sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in paths))

    def _list(self, folder: str, ask: Callable[[], _T]) -> _T:
        try:
            return self._answered(ask)
        except _REFUSALS as error:
            raise StoreError(f"cannot list {self.at(folder)}: {reason(error)}") from error

    def _own(self, path: str) -> str:
        """Return the path; CorruptError unless an object can have it, and a folder has a plain file
        of its own there, or nothing."""
        if path and not _is_path(path):
            raise self._foreign_file(repr(path), "is no path of a file in it")
        if self._files is not None and (fault := self._files.fault(path)):
            raise self._foreign_file(path, fault)
        return path

    def _own_below(self, folder: str) -> str:
        """Do the same of a folder, and of all below it."""
        if self._files is not None and (found := self._files.fault_below(folder)):
            raise self._foreign_file(*found)
        return folder

    def _foreign_file(self, path: str, fault: str) -> CorruptError:
        return CorruptError(
            f"{self.at(path[:200])} {fault}, and nothing is read of it: an atlas holds plain files "
            "alone; delete it, or put the file itself there"
        )


def _is_path(path: str) -> bool:
    """Whether a path from a store's root is one that stores take, and that leads nowhere else."""
    plain = path.isascii() and path.isprintable() and len(path) <= _LONGEST
    return plain and all(part not in ("", ".", "..") for part in path.split("/"))


def _by_path(listed: Sequence[ObjectMeta]) -> tuple[Entry, ...]:
    return tuple(sorted(map(_entry, listed), key=_path))


def _entry(listed: ObjectMeta) -> Entry:
    modified_s = listed["last_modified"].timestamp()
    return Entry(listed["path"], listed["size"], listed["e_tag"], modified_s)


def _path(entry: Entry) -> str:
    return entry.path
