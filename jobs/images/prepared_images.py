"""The images of a build as they lie prepared in a store, and the ways in which they got there."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from circuit_atlas.jobs.images.image_set import ImageSet
from circuit_atlas.jobs.images.network_input import NetworkInput
from circuit_atlas.jobs.images.preparation import Preparation, PreparedSet
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.storage_schema.errors import ImageError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.pixel_chunks import PixelChunks
from circuit_atlas.storage_schema.pixels import PixelsRecord

Prepare = Callable[[Preparation], "PreparedImages"]
"""Prepares the images of a spec, or finds them prepared."""


class PreparedImages(ImageSet):
    """Images whose pixels lie in a store."""

    def __init__(
        self,
        objects: Objects,
        found: PreparedSet,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        passed_over: Mapping[str, int],
        remark: str,
    ) -> None:
        """Takes what was found of the images; of their pixels nothing is read yet.

        Args:
            objects: the store.
            found: every image by id, and where their pixels are.
            mean: subtracted from each channel of an image's divided values.
            std: what each channel is divided by after that.
            passed_over, remark: as the attributes.
        """
        pixels = found.pixels
        low, high = np.array(pixels.low), np.array(pixels.high)
        extent = np.where(high > low, high - low, 1.0)
        super().__init__(
            found.infos,
            size=pixels.form.size,
            mean=((np.array(mean) - low) / extent).tolist(),
            std=(np.array(std) / extent).tolist(),
            passed_over=passed_over,
            remark=remark,
        )
        self._objects, self._pixels = objects, pixels
        self._chunks = PixelChunks(objects, pixels)
        self._input = NetworkInput(pixels.form, mean, std)

    def batch(self, ids: Sequence[int]) -> Tensor:
        """Gives the network's input for some images, as `ImageSet.batch` says; CorruptError where
        their pixels are missing or altered."""
        out = torch.empty(len(ids), self.channels, *self.size)
        for row, image in enumerate(ids):
            if not 0 <= image < len(self.infos):
                raise ImageError(f"no image {image}: ids go from 0 to {len(self.infos) - 1}")
            info = self.infos[image]
            if info.pixels_crc32c is None:
                raise ImageError(f"image {image} ({info.name!r}) is left out: {info.problem}")
            self._input.write(self._chunks.values(info.place, info.pixels_crc32c), out[row])
        return out

    def store(self, objects: Objects) -> PixelsRecord:
        """Copies the pixels, as `ImageSet.store` says, unless they are there."""
        if objects is not self._objects:
            for stored in self._pixels.chunks:
                if not objects.exists(stored.path):
                    objects.create(stored.path, self._objects.get(stored.path))
        return self._pixels


def gathered(preparation: Preparation, objects: Objects) -> PreparedImages:
    """Puts together the images whose chunks are all prepared; errors as `Preparation.gather`."""
    found = preparation.gather(objects)
    return PreparedImages(
        objects,
        found,
        mean=preparation.form.preprocessing.mean,
        std=preparation.form.preprocessing.std,
        passed_over=preparation.passed_over,
        remark=preparation.form.remark(found.pixels.low, found.pixels.high),
    )


def prepare_here(preparation: Preparation) -> PreparedImages:
    """Prepares the images in this process, into a folder for temporary files that goes with them.

    Raises ImageError where none can be read, or none is left for scoring.
    """
    folder = tempfile.mkdtemp(prefix="circuit-atlas-")
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        objects = open_store(folder)
        for chunk in range(preparation.chunker.chunks):
            preparation.chunker.prepare(objects, chunk)
        images = gathered(preparation, objects)
        weakref.finalize(images, undo.pop_all().close)
    return images


def load_images(
    spec: BuildSpec, preprocessing: PreprocessingSpec, *, channels: int | None = None
) -> PreparedImages:
    """Reads every image of the spec's source once, and splits them.

    An image that can't be read is left out, with its problem on record. Arguments as of
    `Preparation`; errors as of it and of `prepare_here`.
    """
    return prepare_here(Preparation(spec, preprocessing, channels=channels))
