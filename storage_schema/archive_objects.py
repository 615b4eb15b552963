"""The objects of an atlas in a zip or tar archive, read where they lie.

It answers as any other store does, so that everything above reads from it unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from obstore.store import MemoryStore

from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.archive import Archive
from circuit_atlas.storage_schema.errors import CorruptError, WriteError
from circuit_atlas.storage_schema.objects import Below, Entry, Objects
from circuit_atlas.storage_schema.patience import Patience


class ArchiveObjects(Objects):
    """Reads the objects of an archive. Read-only."""

    sends_ranges = False

    def __init__(self, file: Path) -> None:
        """Look at what is in the archive; errors as of `Archive`."""
        self._archive = Archive(file)
        super().__init__(MemoryStore(), location=str(file), patience=Patience(0))
        members = self._archive.members.values()
        self._entries = {
            path: Entry(path, member.size_bytes, modified_s=member.modified_s)
            for path, member in sorted(
                zip(self._archive.members, members, strict=True), key=lambda pair: pair[0]
            )
        }

    def __reduce__(self) -> tuple[type[ArchiveObjects], tuple[Path]]:
        return ArchiveObjects, (Path(self.location),)

    def copied(self, path: str) -> MemoryStore:
        """Return a store in memory that holds one object, for what streams from a store; errors as
        of `get`."""
        store = MemoryStore()
        store.put(path, self.get(path))
        return store

    @property
    def version(self) -> str:
        """Return a text that is another one where the archive was written anew."""
        return self._archive.version

    def create(self, path: str, data: bytes | memoryview) -> bool:
        """Refuse: an archive cannot be written (WriteError)."""
        del data
        raise self._read_only(path)

    def put(self, path: str, data: bytes) -> None:
        """Refuse: an archive cannot be written (WriteError)."""
        del data
        raise self._read_only(path)

    def delete(self, paths: Sequence[str]) -> None:
        """Refuse: an archive cannot be written (WriteError)."""
        raise self._read_only(paths[0] if paths else "")

    def exists(self, path: str) -> bool:
        """Tell whether there is an object."""
        return path in self._entries

    def _get(self, path: str) -> bytes:
        most, entry = layout.most_bytes(path), self._entries.get(path)
        if most is not None and entry is not None and entry.size_bytes > most:
            raise CorruptError(
                f"{self.at(path)} has {entry.size_bytes:,} bytes, and a document of its kind "
                f"{most:,} at most: it is none of ours"
            )
        return self._archive.read(path)

    def _get_ranges(self, path: str, starts: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        data = self._archive.read(path)
        return [data[start : start + size] for start, size in zip(starts, sizes, strict=True)]

    def list(self, prefix: str = "") -> tuple[Entry, ...]:
        """Return every object below a folder, by path."""
        start = f"{prefix}/" if prefix else ""
        return tuple(entry for path, entry in self._entries.items() if path.startswith(start))

    def below(self, folder: str = "", *, most: int) -> Below:
        """Do as any store."""
        found = self.list(folder)
        if len(found) <= most:
            return Below(found)
        start = f"{folder}/" if folder else ""
        inside = tuple(entry for entry in found if "/" not in entry.path.removeprefix(start))
        folders = {
            start + entry.path.removeprefix(start).partition("/")[0]
            for entry in found
            if "/" in entry.path.removeprefix(start)
        }
        return Below(inside, tuple(sorted(folders)))

    def names(self, folder: str = "") -> tuple[str, ...]:
        """Return the names of the objects and folders in a folder."""
        start = f"{folder}/" if folder else ""
        paths = (entry.path.removeprefix(start) for entry in self.list(folder))
        return tuple(sorted({path.partition("/")[0] for path in paths}))

    def _read_only(self, path: str) -> WriteError:
        return WriteError(
            f"cannot write {self.at(path)}: an atlas in an archive is read-only; unpack it"
        )
