"""Images in tar shards, as WebDataset has them, each read by itself from where it lies."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.jobs.images.distinct import distinct
from circuit_atlas.jobs.images.entry import Entry, Listing
from circuit_atlas.jobs.images.folder import label_of
from circuit_atlas.jobs.images.named_files import SourceFile, from_each, still_there
from circuit_atlas.jobs.images.tar_samples import CLASS, ShardSamples, Wanted, read_samples
from circuit_atlas.jobs.spec.images import ImagesSpec
from circuit_atlas.storage_schema.errors import ImageError
from circuit_atlas.storage_schema.wording import nearest, one_line

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""What archives are called; compressed ones are refused."""

_NO_PIECE = -1


def read_tars(files: Sequence[SourceFile], names: Sequence[str], spec: ImagesSpec) -> Listing:
    """Lists one entry a sample with an image, shard by shard, in the order of the images.

    Reads headers and the small members with classes and names alone. An image is called by its
    shard and key, `train-000.tar/0001`; a name that comes again gets `#2`, `#3` ... behind it. Its
    class is what its `.cls` says; where no sample has one, the folder in its key.

    Args:
        files: the shards.
        names: the shards' names, as those of the images begin.
        spec: its `column` names the extension of the images, its `ids` and `labels` the extensions
            of members, or keys in the `.json`, with names and classes; None for the above.

    Raises:
        ImageError: a shard cannot be read whole, or what the spec names is in none.
        InfrastructureError: an object store gives no answer.
    """
    wanted = Wanted(image=spec.column, label=spec.labels, id=spec.ids)
    shards = from_each(partial(_listed, wanted=wanted), files)
    _require_what_is_named(shards, spec)
    labelled = spec.labels is not None or any(CLASS in shard.extensions for shard in shards)
    samples = [(n, sample) for n, shard in enumerate(shards) for sample in shard.samples]
    ids = distinct(sample.id or f"{names[n]}/{sample.key}" for n, sample in samples)
    entries = [
        Entry(name, sample.label if labelled else label_of(sample.key, spec.label_level), row)
        for row, (name, (_, sample)) in enumerate(zip(ids, samples, strict=True))
    ]
    images = [(n, sample.image) for n, sample in samples]
    pieces = [
        (n, image.start, _NO_PIECE if image.size_bytes is None else image.size_bytes)
        for n, image in images
    ]
    passed_over = sum((shard.passed_over for shard in shards), Counter[str]())
    return Listing(entries, TarBytes(files, np.array(pieces, np.int64).reshape(-1, 3)), passed_over)


class TarBytes:
    """Reads images in shards, one at a time; keeps the shard used last open."""

    def __init__(self, files: Sequence[SourceFile], pieces: NDArray[np.int64]) -> None:
        """Takes the shards, and where each image lies.

        Args:
            files: the shards.
            pieces: (images, 3), a row an image: the number of its shard, the start of its bytes
                there, and how many they are.
        """
        self._files, self._pieces = tuple(files), pieces
        self._lock = threading.Lock()
        self._open: tuple[int, BinaryIO] | None = None

    def __reduce__(self) -> tuple[type[TarBytes], tuple[Sequence[SourceFile], NDArray[np.int64]]]:
        return TarBytes, (self._files, self._pieces)

    def __call__(self, entry: Entry) -> bytes:
        """Reads an image.

        Raises:
            OSError: it cannot be read, or does not lie in one piece.
            InfrastructureError: its shard cannot be opened, or an object store gives no answer.
        """
        shard, start, size = map(int, self._pieces[entry.row])
        if size == _NO_PIECE:
            raise OSError("it is a sparse file in its archive, which is not read: pack it whole")
        # What is read ahead serves all threads.
        with self._lock, still_there(self._files[shard]):
            file = self._opened(shard)
            file.seek(start)
            data = file.read(size)
        if len(data) != size:
            raise OSError(f"{self._files[shard]} has become shorter")
        return data

    def __del__(self) -> None:
        self._close()

    def _opened(self, shard: int) -> BinaryIO:
        if self._open is None or self._open[0] != shard:
            self._close()
            self._open = shard, self._files[shard].open("rb")
        return self._open[1]

    def _close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None


def _listed(file: SourceFile, wanted: Wanted) -> ShardSamples:
    try:
        with file.open("rb") as stream:
            size_bytes = stream.seek(0, 2)
            return read_samples(stream, wanted, size_bytes=size_bytes, location=str(file))
    except OSError as error:
        raise ImageError(
            f"the images in {str(file)!r} cannot be read: {one_line(error)}"
        ) from error


def _require_what_is_named(shards: Sequence[ShardSamples], spec: ImagesSpec) -> None:
    """ImageError where an extension or key that the spec names is in no shard."""
    extensions = set[str]().union(*(shard.extensions for shard in shards))
    if not extensions:
        return
    keys = set[str]().union(*(shard.json_keys for shard in shards))
    for what, given, known in (
        ("column", spec.column, extensions),
        ("labels", spec.labels, extensions | keys),
        ("ids", spec.ids, extensions | keys),
    ):
        if given is None or given in known or given.lstrip(".").lower() in extensions:
            continue
        kinds = "extensions" if what == "column" else "extensions and keys of .json"
        raise ImageError(
            f"images.{what} {given!r} is in no member of {spec.shown_source!r}: "
            f"{nearest(given, sorted(known), what=kinds)}"
        )
