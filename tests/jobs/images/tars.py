"""Tar shards for the tests, of pictures and whatever lies beside them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from circuit_atlas.jobs.images.image_set import ImageSet
from tests.jobs.images.pictures import coloured, png


def picture(seed: int) -> bytes:
    return png(Image.fromarray(coloured(seed)))


def levels(images: ImageSet, image: int) -> NDArray[np.uint8]:
    """An image that was loaded as it is, (height, width, 3)."""
    return np.rint(images.batch([image])[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)


def tar(
    path: Path,
    members: Iterable[tuple[str, bytes | tarfile.TarInfo]],
    *,
    form: int = tarfile.PAX_FORMAT,
) -> Path:
    """Writes an archive of files, by name and content, and of other members as they are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def samples(count: int, *, first: int = 0) -> list[tuple[str, bytes]]:
    """An image and its class for each of so many samples."""
    return [
        member
        for seed in range(first, first + count)
        for member in (
            (f"{seed:04d}.png", picture(seed)),
            (f"{seed:04d}.cls", b"%d\n" % (seed % 3)),
        )
    ]
