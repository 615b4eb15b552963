"""Which files an answer depends on: what was read, or listed, for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from circuit_atlas.storage_schema.objects import Below, Entry, Objects


class Watched(Objects):
    """A store that keeps what it was asked for."""

    def __init__(self, objects: Objects) -> None:
        super().__init__(objects.store, location=objects.location)
        self._paths: set[str] = set()
        self._below: set[str] = set()
        self._inside: set[str] = set()

    def reads(self, path: str) -> bool:
        """Tell whether what lies at a path was read, or looked for."""
        return path in self._paths

    def lists(self, path: str) -> bool:
        """Tell whether it was listed."""
        below = any(path.startswith(f"{folder}/") for folder in self._below)
        return below or path.rpartition("/")[0] in self._inside

    def get(self, path: str) -> bytes:
        self._paths.add(path)
        return super().get(path)

    def get_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        self._paths.add(path)
        return super().get_ranges(path, ranges)

    def exists(self, path: str) -> bool:
        self._paths.add(path)
        return super().exists(path)

    def file(self, path: str) -> Path | None:
        self._paths.add(path)
        return super().file(path)

    def list(self, prefix: str = "") -> tuple[Entry, ...]:
        self._below.add(prefix)
        return super().list(prefix)

    def below(self, folder: str = "", *, most: int) -> Below:
        self._below.add(folder)
        return super().below(folder, most=most)

    def names(self, folder: str = "") -> tuple[str, ...]:
        self._inside.add(folder)
        return super().names(folder)
