"""The members of a tar archive: where their bytes lie, found by the archive's headers alone."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from circuit_atlas.storage_schema.errors import ImageError
from circuit_atlas.storage_schema.wording import one_line

_BLOCK_BYTES = 512
# How files begin that are compressed, with what makes a plain archive of them.
_COMPRESSED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ\x00": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
}


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive.

    Attributes:
        name: its path in the archive, without `./` or `/` before it.
        start: where its bytes begin, in bytes from the archive's beginning.
        size_bytes: how many they are; None where they do not lie in one piece, as those of a sparse
            file.
    """

    name: str
    start: int
    size_bytes: int | None


def read_members(file: BinaryIO, *, size_bytes: int, location: str) -> Iterator[Member]:
    """Reads the headers of an archive, one after the other, and none of its files.

    Hard links are files too, with the bytes of the file that they name. Folders, other links and
    devices are passed by.

    Args:
        file: the archive, to seek in; whoever calls may do so too between two members.
        size_bytes: of the archive.
        location: names the archive in messages.

    Raises:
        ImageError: it is compressed, no archive, cut short or damaged.
    """
    _refuse_compressed(file, location)
    files: dict[str, Member] = {}
    try:
        with tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as archive:
            while (info := archive.next()) is not None:
                # It would keep them all.
                archive.members.clear()  # type: ignore[attr-defined]
                if info.size < 0:  # it would be read for ever
                    raise ValueError(f"a file of {info.size} bytes")
                member = _member(info, files)
                if member is not None:
                    files[member.name] = member
                    yield member
            _require_an_end(file, archive.offset, location=location, size_bytes=size_bytes)
    except tarfile.ReadError as error:
        if "unexpected end of data" in str(error):
            raise _cut(location, size_bytes) from error
        raise _no_archive(location, error) from error
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise _no_archive(location, error) from error


def _member(info: tarfile.TarInfo, files: dict[str, Member]) -> Member | None:
    name = _name(info.name)
    if info.islnk():
        named = files.get(_name(info.linkname))
        return named and Member(name, named.start, named.size_bytes)
    if not info.isreg():
        return None
    return Member(name, info.offset_data, None if info.issparse() else info.size)


def _name(path: str) -> str:
    shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return posixpath.normpath(shown).lstrip("/")


def _refuse_compressed(file: BinaryIO, location: str) -> None:
    file.seek(0)
    head = file.read(_BLOCK_BYTES)
    file.seek(0)
    for beginning, command in _COMPRESSED.items():
        if head.startswith(beginning):
            raise ImageError(
                f"{location!r} is compressed, so that no image in it can be read alone: unpack it "
                f"with {command}, images gain next to nothing by it"
            )


def _require_an_end(file: BinaryIO, offset: int, *, location: str, size_bytes: int) -> None:
    """ImageError unless the archive ends here: by blocks of zeros, or with the file."""
    file.seek(offset)
    block = file.read(_BLOCK_BYTES)
    if not block.strip(b"\0"):
        return
    if len(block) < _BLOCK_BYTES:
        raise _cut(location, size_bytes)
    raise ImageError(
        f"{location!r} is damaged at byte {offset}, what follows is lost: copy it again"
    )


def _cut(location: str, size_bytes: int) -> ImageError:
    return ImageError(
        f"{location!r} is cut short at {size_bytes} bytes, in the middle of a file: copy it again, "
        "or leave it out of images.source"
    )


def _no_archive(location: str, error: Exception) -> ImageError:
    return ImageError(f"{location!r} cannot be read as a tar archive: {one_line(error)}")
