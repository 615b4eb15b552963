"""What a source names: one file or several, on the local disk or in an object store.

Several are named by a glob, `train-*.tar`, or by braces, `train-{000..099}.tar` and `{a,b}.tar`, as
WebDataset and shells have it.
"""

from __future__ import annotations

import glob
import math
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from itertools import product
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, TypeVar

from circuit_atlas.jobs.images.object_files import Bucket, is_url, open_bucket
from circuit_atlas.storage_schema.errors import ImageError, InfrastructureError
from circuit_atlas.storage_schema.http_address import shown
from circuit_atlas.storage_schema.patience import READERS_S
from circuit_atlas.storage_schema.wording import in_words

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_GLOB = re.compile(r"[*?[]")
_MOST_FILES = 100_000
_AT_ONCE = 16

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


class SourceFile(Protocol):
    """A file of a source: a local path, or an object."""

    @property
    def name(self) -> str:
        """The last part of its path."""
        ...

    @property
    def suffix(self) -> str:
        """What its name ends in from the last dot on."""
        ...

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        """Opens it for reading and seeking."""
        ...

    def read_bytes(self) -> bytes:
        """Reads all of it."""
        ...


def named_files(source: str, *, patience_s: float = READERS_S) -> list[SourceFile]:
    """Finds the files that a source names, in the order of braces and, of a glob, by name; none
    where it names a folder, or nothing.

    Args:
        source: a path, a URL, or several.
        patience_s: how long an object store is waited for, in seconds. Default: that of readers.

    Raises:
        ImageError: some of the files that braces stand for are not there, there are too many of
            them, or asking is not permitted.
        InfrastructureError: an object store gives no answer.
    """
    if is_url(source):
        bucket, pattern = open_bucket(source, patience_s=patience_s)
        names = expanded(pattern)
        found = _at_once(partial(_objects, bucket), names)
    else:
        names = [source] if Path(source).exists() else expanded(source)
        found = [_paths(name) for name in names]
    missing = [name for name, files in zip(names, found, strict=True) if not files]
    if missing and len(names) > 1:
        raise ImageError(
            f"images.source {shown(source)!r} names {len(names)} files and {len(missing)} are not "
            f"there, the first {missing[0]!r}: copy them there, or name those that are"
        )
    return [file for files in found for file in files]


def file_at(location: str, *, patience_s: float) -> SourceFile | None:
    """Finds the one file at a path or URL; None where there is none. Errors as of `named_files`."""
    if is_url(location):
        bucket, key = open_bucket(location, patience_s=patience_s)
        return bucket.file(key)
    path = Path(location)
    return path if path.is_file() else None


@contextmanager
def still_there(file: object) -> Iterator[None]:
    """Turns the error of a listed file of many images that is gone, or denied here, into an
    InfrastructureError: it is no fault of the image that is read, and may be there elsewhere."""
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        raise InfrastructureError(
            f"{str(file)!r} was listed and cannot be opened now ({in_words(error)}): see that "
            "every machine can read it"
        ) from error


def expanded(pattern: str) -> list[str]:
    """Writes braces out, the last ones fastest; ImageError for too many names.

    >>> expanded("train-{08..10}.tar")
    ['train-08.tar', 'train-09.tar', 'train-10.tar']
    >>> expanded("{train,val}/{0..1}.tar")
    ['train/0.tar', 'train/1.tar', 'val/0.tar', 'val/1.tar']
    """
    # Every other piece stood in braces.
    choices = [
        _options(piece) if number % 2 else [piece]
        for number, piece in enumerate(_BRACES.split(pattern))
    ]
    if math.prod(len(options) for options in choices) > _MOST_FILES:
        raise ImageError(
            f"images.source {pattern!r} names more than {_MOST_FILES} files: give larger ones"
        )
    return ["".join(chosen) for chosen in product(*choices)]


def from_each(make: Callable[[SourceFile], _Made], files: Sequence[SourceFile]) -> list[_Made]:
    """Makes something of each file; of objects several at a time, as it is mostly waiting for
    answers."""
    if any(isinstance(file, Path) for file in files):
        return [make(file) for file in files]
    return _at_once(make, files)


def _at_once(make: Callable[[_Given], _Made], given: Sequence[_Given]) -> list[_Made]:
    if not given:
        return []
    with ThreadPoolExecutor(min(_AT_ONCE, len(given))) as pool:
        return list(pool.map(make, given))


def _options(content: str) -> Sequence[str]:
    """What braces stand for; themselves, where that is no list and no range."""
    ends = _RANGE.fullmatch(content)
    if ends is None:
        return content.split(",") if "," in content else [f"{{{content}}}"]
    first, last = int(ends[1]), int(ends[2])
    padded = any(len(end) > 1 and end.startswith("0") for end in ends.groups())
    width = max(map(len, ends.groups())) if padded else 0
    step = 1 if first <= last else -1
    # One more than is taken is enough to refuse it.
    numbers = range(first, last + step, step)[: _MOST_FILES + 1]
    return [f"{number:0{width}d}" for number in numbers]


def _paths(name: str) -> list[SourceFile]:
    path = Path(name)
    if path.is_file():
        return [path]
    if path.exists():
        return []
    named = map(Path, sorted(glob.glob(name)))
    # To read from a pipe would wait for ever.
    return [found for found in named if found.is_file() or found.is_dir()]


def _objects(bucket: Bucket, pattern: str) -> list[SourceFile]:
    if not _GLOB.search(pattern):
        file = bucket.file(pattern) if pattern and not pattern.endswith("/") else None
        return [] if file is None else [file]
    parts = pattern.split("/")
    fixed = next(number for number, part in enumerate(parts) if _GLOB.search(part))
    return [
        file
        for file in bucket.below("/".join(parts[:fixed]))
        if _matches(file.key.split("/"), parts)
    ]


def _matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether a path is one that a glob means, whose `*` stands for no `/`."""
    return len(names) == len(patterns) and all(map(fnmatchcase, names, patterns))
