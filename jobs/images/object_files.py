"""Files of images in an object store: listed with their sizes and versions, and read whole or in
stretches.

An object that is missing or denied is an OSError, the fault of that one image; no answer from the
store is an InfrastructureError, which says nothing of any image.
"""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Literal, TypeVar, cast

import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import from_url

from circuit_atlas.storage_schema.answer_errors import (
    StatusError,
    TooLongError,
    UnusableAnswerError,
    WholeObjectsError,
)
from circuit_atlas.storage_schema.client import Store
from circuit_atlas.storage_schema.errors import ImageError, InfrastructureError
from circuit_atlas.storage_schema.http_address import HttpAddress, shown
from circuit_atlas.storage_schema.http_client import HttpClient
from circuit_atlas.storage_schema.patience import (
    READERS_S,
    RETRIES,
    Patience,
    StillOutError,
    interruptible,
)
from circuit_atlas.storage_schema.wording import in_words

if TYPE_CHECKING:
    from obstore import ObjectMeta

_URL = re.compile(r"(?P<root>(?P<scheme>[a-z][a-z0-9+.-]*)://[^/]+)/?(?P<key>.*)", re.DOTALL)
# Codes of S3 that may come with "forbidden" and say nothing of the object that was asked for.
_CREDENTIALS = (
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
)
# Of objects that are read in their order, so much is asked for at once.
_AHEAD_BYTES = 8 << 20
# Bytes not needed cost less than another request, as far as this.
_GAP_BYTES = 2 << 20
_LEAST_BYTES = 64 << 10
# Of a web server, which may be anybody's.
_OBJECT_BYTES = 4 << 30

_T = TypeVar("_T")


@dataclass(frozen=True)
class Bucket:
    """A store that holds images.

    Attributes:
        store: one of obstore's, or a web server.
        url: its URL, without a path, and without who logs in.
        patience: how long it is waited for that does not answer.
    """

    store: Store
    url: str
    patience: Patience

    def at(self, key: str) -> str:
        """Gives the URL of an object."""
        return f"{self.url}/{key}"

    def read(self, key: str) -> bytes:
        """Reads an object.

        Raises:
            OSError: it is missing, or reading it is not permitted.
            InfrastructureError: the store gives no answer.
        """
        return self.asked(key, partial(_read, self.store, key))

    def read_range(self, key: str, *, start: int, size_bytes: int) -> bytes:
        """Reads so many bytes of an object from `start` on, or fewer where it ends before; errors
        as of `read`, and ImageError where the store sends whole objects alone."""
        return self.asked(key, partial(_read_range, self.store, key, start, size_bytes))

    def file(self, key: str) -> ObjectFile | None:
        """Finds an object; None where there is none.

        Raises:
            ImageError: asking for it is not permitted.
            InfrastructureError: the store gives no answer.
        """
        try:
            return self.asked(key, partial(self._found, key))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ImageError(f"cannot find images: {error}") from error

    def below(self, folder: str) -> list[ObjectFile]:
        """Lists the objects below a folder, by key, but hidden ones and those in hidden folders.

        Raises:
            ImageError: listing is not permitted, or cannot be done, as at an `https://` address.
            InfrastructureError: the store gives no answer.
        """
        store = self.store
        if isinstance(store, HttpClient):
            raise ImageError(
                f"what lies below {self.at(folder)} cannot be listed: name each file, as "
                "https://host/train-{000..099}.tar"
            )
        folder = folder.rstrip("/")
        hidden = re.compile(r"(^|/)\.")
        try:
            objects = self.asked(folder, lambda: obstore.list(store, folder or None).collect())
        except OSError as error:
            raise ImageError(f"cannot list images: {error}") from error
        files = (self._file(found) for found in objects)
        shown = (file for file in files if not hidden.search(file.key, len(folder)))
        return sorted(shown, key=lambda file: file.key)

    def asked(self, key: str, ask: Callable[[], _T]) -> _T:
        """Gives what the store answers of an object, which is asked again as long as it is waited
        for; errors as of `asked`."""
        return asked(self.at(key), ask, patience=self.patience)

    def _found(self, key: str) -> ObjectFile:
        if not isinstance(self.store, HttpClient):
            return self._file(obstore.head(self.store, key))
        head = self.store.head(key)
        version = head.etag or head.modified or str(head.size_bytes)
        return ObjectFile(self, key, head.size_bytes, version)

    def _file(self, found: ObjectMeta) -> ObjectFile:
        key = found["path"]
        version = found["e_tag"] or found["last_modified"].isoformat()
        return ObjectFile(self, key, found["size"], version)


@dataclass(frozen=True)
class ObjectFile:
    """An object, to be used as the path of a local file is.

    Attributes:
        bucket: the store that holds it.
        key: its path in the store.
        size_bytes: its size.
        version: another one where it was written anew.
    """

    bucket: Bucket
    key: str
    size_bytes: int
    version: str

    @property
    def name(self) -> str:
        """The last part of its path."""
        return posixpath.basename(self.key)

    @property
    def suffix(self) -> str:
        """What its name ends in from the last dot on, as of a path."""
        return posixpath.splitext(self.key)[1]

    def __str__(self) -> str:
        return self.bucket.at(self.key)

    def read_bytes(self) -> bytes:
        """Reads the whole object; errors as of `Bucket.read`."""
        return self.bucket.read(self.key)

    def read_range(self, start: int, size_bytes: int) -> bytes:
        """Reads so many bytes from `start` on; errors as of `Bucket.read`, and OSError where the
        object has become shorter."""
        data = self.bucket.read_range(self.key, start=start, size_bytes=size_bytes)
        if len(data) != size_bytes:
            raise OSError(f"{self} has become shorter")
        return data

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        """Opens it for reading and seeking; who reads it in its order asks for much at once."""
        del mode
        return cast(BinaryIO, _Stretches(self))


class _Stretches(io.RawIOBase):
    """Reads an object by ranges: those asked for or, where one follows the last, more behind it."""

    def __init__(self, file: ObjectFile) -> None:
        self._file = file
        self._position = 0
        self._start = 0
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = (0, self._position, self._file.size_bytes)[whence]
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        size = min(len(view), max(self._file.size_bytes - self._position, 0))
        if size:
            view[:size] = self._stretch(self._position, size)
            self._position += size
        return size

    def _stretch(self, start: int, size: int) -> memoryview:
        end = self._start + len(self._held)
        if not self._start <= start <= start + size <= end:
            follows = self._start <= start <= end + _GAP_BYTES
            wanted = max(size, _AHEAD_BYTES if follows else _LEAST_BYTES)
            wanted = min(wanted, self._file.size_bytes - start)
            self._held = memoryview(self._file.read_range(start, wanted))
            self._start = start
        return self._held[start - self._start :][:size]


def is_url(source: str) -> bool:
    """Whether a source lies in an object store or at a web address."""
    return _URL.match(source) is not None and not source.startswith("file://")


def open_bucket(url: str, *, patience_s: float = READERS_S) -> tuple[Bucket, str]:
    """Opens the store of a URL (`s3://`, `gs://`, `az://`, `https://`, ...); returns it, and the
    key that the URL names in it.

    Credentials come from where obstore looks for them. Nothing is asked of the store yet. A web
    server may send on to others, as those do that keep data sets.

    Args:
        url: it.
        patience_s: how long the store is waited for that does not answer, in seconds. Default: that
            of readers.

    Raises:
        ImageError: the URL is of no known kind.
    """
    parts = _URL.fullmatch(url)
    try:
        if parts is None:
            raise ValueError("it names no bucket")
        root = parts["root"]
        store: Store
        if parts["scheme"] in ("http", "https"):
            store = HttpClient(HttpAddress.of(root), other_hosts=True)
        else:
            store = from_url(root, retry_config=RETRIES)
    except (BaseError, OSError, ValueError) as error:
        raise ImageError(
            f"cannot open {shown(url)}: {in_words(error)}; give a URL such as s3://bucket/images"
        ) from error
    # A password is no part of messages, some of which are stored.
    return Bucket(store, shown(root), Patience(patience_s)), parts["key"]


def asked(location: str, ask: Callable[[], _T], *, patience: Patience) -> _T:
    """Gives what a store answers, which is asked again as long as it is waited for where it gives
    no answer or has too much to do.

    Raises:
        OSError: it refuses this one object, or has none of this name.
        ImageError: it cannot give a part of an object.
        InfrastructureError: it gives no answer, or does not take the credentials.
    """
    try:
        return patience.ask(location, partial(interruptible, ask))
    except StillOutError as error:
        raise InfrastructureError(f"cannot read {location}: {error}") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{location} is missing") from error
    except InvalidPathError as error:
        raise OSError(f"{location} cannot be named: {in_words(error)}") from error
    except TooLongError as error:
        raise OSError(
            f"{location} has {error.size_bytes:,} bytes, more than are read of one object"
        ) from error
    except (NotSupportedError, WholeObjectsError) as error:
        raise ImageError(
            f"{location} cannot be read in parts, as its server sends whole files alone: copy it "
            "to a folder or an object store"
        ) from error
    except UnusableAnswerError as error:
        raise InfrastructureError(f"cannot read {location}: {in_words(error)}") from error
    except (BaseError, OSError) as error:
        text = str(error)
        code = next((code for code in _CREDENTIALS if code in text), "")
        if code or isinstance(error, UnauthenticatedError) or _is(error, 401):
            raise InfrastructureError(
                f"cannot read {location}: the store does not take the credentials "
                f"({code or 'unauthenticated'}): give valid ones and run again"
            ) from error
        if isinstance(error, PermissionDeniedError) or _is(error, 403):
            raise PermissionError(f"reading {location} is not permitted") from error
        if "404 Not Found" in text:  # what S3 says of a bucket
            raise FileNotFoundError(f"{location} is missing") from error
        if "416 Range Not Satisfiable" in text or _is(error, 416):
            raise OSError(f"{location} has become shorter") from error
        raise InfrastructureError(
            f"cannot read {location}: {in_words(error)}; run again when the store answers"
        ) from error


def _is(error: Exception, status: int) -> bool:
    return isinstance(error, StatusError) and error.status == status


def _read(store: Store, key: str) -> bytes:
    if isinstance(store, HttpClient):
        return store.get(key, most_bytes=_OBJECT_BYTES)[0]
    return bytes(obstore.get(store, key).bytes())


def _read_range(store: Store, key: str, start: int, size_bytes: int) -> bytes:
    if isinstance(store, HttpClient):
        return store.get_range(key, start=start, size_bytes=size_bytes)
    return bytes(obstore.get_range(store, key, start=start, length=size_bytes))
