"""Images in memory, preprocessed: a tensor to score on, and perhaps one to test on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from circuit_atlas.jobs.images.image_set import ImageInfo, ImageSet
from circuit_atlas.storage_schema.errors import ImageError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.pixel_chunks import checksum, put_chunk
from circuit_atlas.storage_schema.pixels import CHUNK_IMAGES, PixelForm, PixelsRecord


class TensorImages(ImageSet):
    """The images of a tensor, ids in its order, the held-out ones after the others; their names are
    `image 0`, `image 1`, ..., and `held out 0`, ..."""

    def __init__(
        self,
        scoring: Tensor,
        held_out: Tensor | None = None,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        """Checks the images and keeps a copy in main memory.

        Args:
            scoring: (images, channels, height, width), floating, as the network takes them.
            held_out: more images of the same channels, height and width. Default: none.
            mean: what was subtracted from each channel, where colours lie in 0..1. Given with
                `std`, it says how an image is shown. Default: the smallest value of each channel
                is shown as 0 and the largest as 255.
            std: what each channel was divided by after that. Default: as for `mean`.

        Raises:
            ImageError: a tensor is of another type or shape, empty, or not finite; or `mean` and
                `std` do not fit the channels.
        """
        parts = [checked_images(scoring, "images")]
        if held_out is not None:
            parts.append(checked_images(held_out, "held_out"))
            if parts[0].shape[1:] != parts[1].shape[1:]:
                raise ImageError(
                    f"held_out holds images of shape {tuple(parts[1].shape[1:])} and images of "
                    f"{tuple(parts[0].shape[1:])}: give both of one shape"
                )
        self._values = torch.cat(parts)
        self._low, self._range = _scale(self._values, mean, std)
        infos = [
            self._info(n, n, "scoring")
            if n < len(scoring)
            else self._info(n, n - len(scoring), "held_out")
            for n in range(len(self._values))
        ]
        height, width = self._values.shape[2:]
        super().__init__(
            infos,
            size=(height, width),
            mean=(-self._low / self._range).flatten().tolist(),
            std=(1 / self._range).flatten().tolist(),
        )

    def batch(self, ids: Sequence[int]) -> Tensor:
        """Gives the network's input for some images, as `ImageSet.batch` says."""
        return self._values[list(ids)]

    def store(self, objects: Objects) -> PixelsRecord:
        """Writes the images, as `ImageSet.store` says."""
        form = PixelForm("float32", _shape(self._values), False, 1.0)
        values = self._values.numpy()
        low = self._low.flatten()
        return PixelsRecord(
            form,
            tuple(low.tolist()),
            tuple((low + self._range.flatten()).tolist()),
            CHUNK_IMAGES,
            tuple(
                put_chunk(objects, values[start : start + CHUNK_IMAGES])
                for start in range(0, len(values), CHUNK_IMAGES)
            ),
        )

    def _info(self, image: int, number: int, split: Literal["scoring", "held_out"]) -> ImageInfo:
        channels, height, width = _shape(self._values)
        digest = hashlib.sha256(self._values[image].numpy().tobytes()).hexdigest()
        return ImageInfo(
            id=image,
            name=f"{'image' if split == 'scoring' else 'held out'} {number}",
            label=None,
            split=split,
            sha256=digest,
            width=width,
            height=height,
            mode="RGB" if channels == 3 else "L",
            problem=None,
            place=image,
            pixels_crc32c=checksum(self._values[image].numpy()),
        )


def _shape(values: Tensor) -> tuple[int, int, int]:
    _, channels, height, width = values.shape
    return channels, height, width


def checked_images(images: Tensor, what: str) -> Tensor:
    """Gives the images in float32 and main memory.

    Raises ImageError, which calls them `what`, where they are no tensor of that form, empty or not
    finite.
    """
    if not isinstance(images, Tensor):
        raise ImageError(
            f"{what} is of type {type(images).__name__!r}: give a torch.Tensor of shape (images, "
            "channels, height, width)"
        )
    shape = tuple(images.shape)
    if len(shape) != 4:
        raise ImageError(
            f"{what} is of shape {shape}: give (images, channels, height, width)"
            + ("; of one image, image[None]" if len(shape) == 3 else "")
        )
    if 0 in shape:
        raise ImageError(f"{what} is of shape {shape}: give one image or more, none of them empty")
    if not images.is_floating_point():
        raise ImageError(
            f"{what} is of {images.dtype}: give floating numbers, preprocessed as the model wants "
            "them"
        )
    values = images.detach().to("cpu", torch.float32)
    bad = (~values.isfinite()).flatten(1).any(1)
    if bad.any():
        raise ImageError(
            f"{what} holds NaN or infinity ({int(bad.sum())} of {len(values)} images, the first at "
            f"{int(bad.int().argmax())}): give finite values"
        )
    return values


def _scale(
    values: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[Tensor, Tensor]:
    """What is shown as black, and what lies between it and white, (channels, 1, 1) each."""
    if mean is None and std is None:
        low, high = values.amin((0, 2, 3)), values.amax((0, 2, 3))
        # An even channel could be shown as grey just as well as black.
        extent = torch.where(high > low, high - low, 1)
        return low.view(-1, 1, 1), extent.view(-1, 1, 1)
    channels = values.shape[1]
    if mean is None or std is None or {len(mean), len(std)} != {channels} or min(std) <= 0:
        raise ImageError(
            f"mean={mean!r} and std={std!r} do not fit images of {channels} channels: give both, a "
            "number a channel, std above 0"
        )
    first, spread = (torch.tensor(list(given), dtype=torch.float32) for given in (mean, std))
    return (-first / spread).view(-1, 1, 1), (1 / spread).view(-1, 1, 1)
