"""A fingerprint of files that tells whether any of them changed, without reading them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from circuit_atlas.jobs.images.named_files import SourceFile
from circuit_atlas.jobs.images.object_files import ObjectFile


class _HasStat(Protocol):
    """A path, or an entry of a folder that is being listed."""

    def stat(self) -> os.stat_result: ...


class Stamp:
    """Takes files one after the other, each by its name, size and time."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, name: str, file: _HasStat) -> None:
        """Takes a file; one that is gone, or no file, is taken as such."""
        try:
            found = file.stat()
            what = f"{found.st_size} {found.st_mtime_ns}"
        except OSError:
            what = "-"
        self.note(f"{name}\0{what}")

    def note(self, text: str) -> None:
        """Takes what else counts."""
        self._hash.update(os.fsencode(f"{text}\n"))

    def text(self) -> str:
        """Gives the fingerprint of those taken so far, in hexadecimal."""
        return self._hash.hexdigest()


def stamp_of(files: Iterable[SourceFile]) -> str:
    """Gives the fingerprint of files, and of all files below folders."""
    stamp = Stamp()
    for file in files:
        if isinstance(file, ObjectFile):
            stamp.note(f"{file}\0{file.size_bytes} {file.version}")
        elif isinstance(file, Path):
            inside = sorted(below for below in file.rglob("*") if below.is_file())
            for path in inside if file.is_dir() else [file]:
                stamp.add(str(path), path)
    return stamp.text()
