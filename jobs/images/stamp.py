"""A fingerprint of files that tells whether any of them changed, without reading them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol


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


def stamp_of(paths: Iterable[Path]) -> str:
    """Gives the fingerprint of files, and of all files below folders."""
    stamp = Stamp()
    for path in paths:
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        for file in inside if path.is_dir() else [path]:
            stamp.add(str(file), file)
    return stamp.text()
