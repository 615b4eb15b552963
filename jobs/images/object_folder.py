"""Images below a prefix of an object store, by what their names end in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from circuit_atlas.jobs.images.entry import Entry, Listing
from circuit_atlas.jobs.images.folder import SUFFIXES, label_of
from circuit_atlas.jobs.images.object_files import Bucket


def list_objects(bucket: Bucket, prefix: str, names: Sequence[str], *, label_level: int) -> Listing:
    """Lists the objects that are called as images are, and counts the others by suffix.

    No object is read, so that one of another name is none of the images, whatever it holds.

    Args:
        bucket: the store.
        prefix: what their keys begin with.
        names: how these go on.
        label_level: as in `ImagesSpec`.
    """
    passed_over: Counter[str] = Counter()
    images = []
    for name in names:
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in SUFFIXES:
            images.append(name)
        else:
            passed_over[suffix or "without a suffix"] += 1
    entries = [Entry(name, label_of(name, label_level), row) for row, name in enumerate(images)]
    return Listing(entries, ObjectBytes(bucket, prefix), passed_over)


@dataclass(frozen=True)
class ObjectBytes:
    """Reads objects below a prefix.

    Attributes:
        bucket: the store.
        prefix: what their keys begin with before the names of their entries.
    """

    bucket: Bucket
    prefix: str

    def __call__(self, entry: Entry) -> bytes:
        """Reads an object; errors as of `Bucket.read`."""
        return self.bucket.read(f"{self.prefix}{entry.name}")
