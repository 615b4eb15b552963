"""The files in a zip or tar archive: what is in it and where, looked at before anything is read.

An archive may come from a stranger. Nothing is unpacked: each file is read where it lies, as long
as it says it is and no longer. An archive is refused where a name leads out of it, is there twice
or is no plain file's, where files overlap, and where one would grow by more than packing can do.
"""

from __future__ import annotations

import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.errors import CorruptError, NotAnAtlasError
from circuit_atlas.storage_schema.wording import in_words, one_line

ENDINGS = (".zip", ".tar")
PACKED_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")

_MOST_MEMBERS = 1_000_000
_MOST_INDEX_BYTES = 2**30
_MOST_BYTES = 2**32
# Deflate makes a thousand bytes of one at most; what an atlas holds is packed already.
_LARGE_BYTES, _MOST_GROWTH = 2**24, 100
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_END_BYTES = 22 + 2**16
_REMEDY = "unpack it and look at it, or ask for another copy"


@dataclass(frozen=True, slots=True)
class Member:
    """Says where a file lies in an archive.

    Attributes:
        path: its name, from the folder of the atlas.
        start: of a zip, of its header; of a tar, of its bytes.
        packed_bytes: how many bytes it takes in the archive.
        size_bytes: its size.
        deflated: whether it is packed.
        crc32: of its bytes; None in a tar, which has none.
        modified_s: when it was written, in seconds since 1970 UTC; None where nothing says it.
    """

    path: str
    start: int
    packed_bytes: int
    size_bytes: int
    deflated: bool = False
    crc32: int | None = None
    modified_s: float | None = None


class Archive:
    """Reads the files of an archive. Safe to share between threads, and to use after a fork."""

    def __init__(self, file: Path) -> None:
        """Look at what is in it.

        Raises:
            NotAnAtlasError: it is no archive, or one without an atlas.
            CorruptError: something in it is not as an archive of an atlas has it.
        """
        self.location = str(file)
        try:
            self._file = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise NotAnAtlasError(f"cannot open {file}: {in_words(error)}") from error
        status = os.fstat(self._file)
        self._size_bytes = status.st_size
        self.version = f"{status.st_mtime_ns}-{status.st_size}"
        is_zip = file.suffix.lower() == ".zip"
        try:
            found = list(self._zipped(file) if is_zip else self._tarred(file))
        except (zipfile.BadZipFile, tarfile.TarError, ValueError, struct.error) as error:
            raise NotAnAtlasError(
                f"{file} is no {'zip' if is_zip else 'tar'} archive ({one_line(error)}): "
                "give one that an atlas was packed into"
            ) from error
        except OSError as error:
            raise NotAnAtlasError(f"cannot read {file}: {in_words(error)}") from error
        self.members = self._of_atlas(found)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def read(self, path: str) -> bytes:
        """Return a file's bytes; FileNotFoundError where there is none, CorruptError where they are
        not what the archive says."""
        member = self.members.get(path)
        if member is None:
            raise FileNotFoundError(f"{path} is not in {self.location}")
        start = member.start if member.crc32 is None else self._data_start(member)
        data = self._stretch(start, member.packed_bytes)
        if len(data) != member.packed_bytes:
            raise self._corrupt(path, "is cut")
        if member.deflated:
            unpack = zlib.decompressobj(-15)
            try:
                data = unpack.decompress(data, member.size_bytes + 1)
            except zlib.error as error:
                raise self._corrupt(path, f"cannot be unpacked ({error})") from error
        if len(data) != member.size_bytes:
            raise self._corrupt(path, "is not as long as it says")
        if member.crc32 is not None and zlib.crc32(data) != member.crc32:
            raise self._corrupt(path, "is altered")
        return data

    def _zipped(self, file: Path) -> Iterator[Member]:
        # The list of a zip is read whole, so first how long it says that it is.
        end = self._stretch(max(0, self._size_bytes - _END_BYTES), _END_BYTES)
        at = end.rfind(b"PK\x05\x06")
        if at < 0 or len(end) < at + 22:
            raise zipfile.BadZipFile("it has no list of its files")
        if 0xFFFFFFFF > struct.unpack_from("<I", end, at + 12)[0] > _MOST_INDEX_BYTES:
            raise self._corrupt("", "has a list of files that is too long")
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
        ended = 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            if info.header_offset < ended:
                raise self._corrupt(info.filename, "lies where another file does")
            ended = info.header_offset + _LOCAL_HEADER.size + info.compress_size
            if info.is_dir():
                continue
            mode = info.external_attr >> 16
            if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise self._corrupt(info.filename, "is a link or no plain file")
            if info.flag_bits & 1:
                raise self._corrupt(info.filename, "is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise self._corrupt(info.filename, "is packed in a way that is not read here")
            yield Member(
                info.filename,
                info.header_offset,
                info.compress_size,
                info.file_size,
                deflated=info.compress_type == zipfile.ZIP_DEFLATED,
                crc32=info.CRC,
            )

    def _tarred(self, file: Path) -> Iterator[Member]:
        with tarfile.open(file, "r:") as archive:
            for number, info in enumerate(archive):
                if number > _MOST_MEMBERS:  # before as many are held
                    raise self._corrupt("", f"has more than {_MOST_MEMBERS:,} files")
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    raise self._corrupt(info.name, "is a link or no plain file")
                yield Member(
                    info.name,
                    info.offset_data,
                    info.size,
                    info.size,
                    modified_s=float(info.mtime),
                )

    def _of_atlas(self, found: list[Member]) -> dict[str, Member]:
        """The members below the folder that the atlas lies in, by path from there."""
        if len(found) > _MOST_MEMBERS:
            raise self._corrupt("", f"has more than {_MOST_MEMBERS:,} files")
        members: dict[str, Member] = {}
        for member in found:
            path = member.path.removeprefix("./")
            if not _is_path(path):
                raise self._corrupt(member.path, "has a name that leads out of it or is none")
            if path in members:
                raise self._corrupt(path, "is there twice")
            grown = member.size_bytes > max(_LARGE_BYTES, _MOST_GROWTH * member.packed_bytes)
            if member.size_bytes > _MOST_BYTES or grown:
                raise self._corrupt(path, f"says that it has {member.size_bytes:,} bytes")
            if member.start + member.packed_bytes > self._size_bytes:
                raise self._corrupt(path, "is cut")
            members[path] = member
        headers = [p for p in members if p.rpartition("/")[2] == layout.HEADER]
        headers = [path for path in headers if path.count("/") <= 1]
        if len(headers) != 1:
            what = "no atlas" if not headers else f"{len(headers)} atlases"
            raise NotAnAtlasError(
                f"{self.location} holds {what}: give an archive of one folder that "
                "`circuit-atlas build` wrote"
            )
        root = headers[0].removesuffix(layout.HEADER)
        return {p.removeprefix(root): m for p, m in members.items() if p.startswith(root)}

    def _data_start(self, member: Member) -> int:
        """Where the bytes of a zip's member begin, behind a header of its own length."""
        header = self._stretch(member.start, _LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
            raise self._corrupt(member.path, "has no header")
        _, name, extra = _LOCAL_HEADER.unpack(header)
        return member.start + _LOCAL_HEADER.size + name + extra

    def _stretch(self, start: int, size_bytes: int) -> bytes:
        pieces, at = [], start
        while size_bytes > 0 and (piece := os.pread(self._file, size_bytes, at)):
            pieces.append(piece)
            at += len(piece)
            size_bytes -= len(piece)
        return b"".join(pieces)

    def _corrupt(self, path: str, fault: str) -> CorruptError:
        what = f"{path[:200]!r} in {self.location}" if path else self.location
        return CorruptError(f"{what} {fault}, and nothing is read of the archive: {_REMEDY}")


def _is_path(path: str) -> bool:
    """Whether a member's name is that of a file below the archive's root."""
    plain = path.isascii() and path.isprintable() and len(path) <= 1024 and "\\" not in path
    return plain and all(part not in ("", ".", "..") for part in path.split("/"))
