"""The files of an atlas in a folder: each is a plain file of that folder, or nothing is read of it.

An atlas may come from a stranger. A link in it could point at any file of this machine, a pipe in
it would be waited for without end, and a device be read for ever.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_BLOCK_BYTES = 512
_LARGE_BYTES, _MOST_FOLD = 64 << 20, 64
_MOST_KNOWN = 10_000


class LocalFiles:
    """Looks at files of one folder before they are read. Safe to share between threads.

    The folder itself may be a link, and links from one place in it to another are followed, but not
    by listings. Folders in it are looked at once: who alters an atlas while it is read is not
    guarded against.
    """

    def __init__(self, folder: Path) -> None:
        """Looks at nothing yet."""
        self._root = str(folder)
        self._real = os.path.realpath(folder)
        self._looked_at = {self._root}

    def file(self, path: str) -> Path:
        """Return the file at a path from the folder, there or not."""
        return Path(self._root, path)

    def fault(self, path: str) -> str | None:
        """Say what is wrong with a path from the folder, which has no `..` in it: that it leads out
        of the folder, or to what is neither a file nor a folder. None of others, and where there is
        nothing."""
        file = os.path.join(self._root, path)
        folder = os.path.dirname(file) if path else self._root
        if folder not in self._looked_at:
            if fault := self._way_out(folder):
                return fault
            if len(self._looked_at) > _MOST_KNOWN:
                self._looked_at.clear()
            self._looked_at.add(folder)
        try:
            found = os.lstat(file)
            if stat.S_ISLNK(found.st_mode):
                if fault := self._way_out(file):
                    return fault
                found = os.stat(file)
            if stat.S_ISREG(found.st_mode):
                if found.st_size > _LARGE_BYTES and _is_of_holes(file, found):
                    return f"says that it has {found.st_size:,} bytes, and is of holes"
                return None
        except (OSError, ValueError):  # nothing, or nothing that can be read under that name here
            return None
        return None if stat.S_ISDIR(found.st_mode) else f"is {_kind(found.st_mode)}"

    def fault_below(self, path: str) -> tuple[str, str] | None:
        """Find a link to a folder below a path, by which a listing would leave the folder or find
        no end, and say what is wrong with it; None where there is none."""
        if fault := self.fault(path):
            return path, fault
        waiting = [os.path.join(self._root, path)]
        while waiting:
            try:
                with os.scandir(waiting.pop()) as found:
                    for entry in found:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                        elif entry.is_symlink() and os.path.isdir(entry.path):
                            fault = self._way_out(entry.path) or "is a link to a folder"
                            return os.path.relpath(entry.path, self._root), fault
            except OSError:  # the listing itself says what is wrong
                continue
        return None

    def _way_out(self, file: str) -> str | None:
        """Say that a file or folder lies elsewhere in truth, or is a link that leads nowhere."""
        try:
            real = os.path.realpath(file, strict=True)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):  # links in a circle, or no name of a file
            return "is a link that leads in a circle" if os.path.islink(file) else None
        inside = real == self._real or real.startswith(self._real.rstrip(os.sep) + os.sep)
        return None if inside else "is a link that leads out of the atlas"


def _is_of_holes(file: str, found: os.stat_result) -> bool:
    """Whether next to nothing of a large file lies on the disk: read, it would fill the memory."""
    if found.st_blocks * _BLOCK_BYTES * _MOST_FOLD > found.st_size:
        return False
    with open(file, "rb") as opened:
        # Some file systems count no blocks; those that know of no holes put one at the end.
        return os.lseek(opened.fileno(), 0, os.SEEK_HOLE) < found.st_size


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for is_of, name in kinds if is_of(mode)), "a device")
