"""The images of a build: stable ids, a split, a fingerprint, and batches for the network."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.images.decode import UnreadableImageError, decode, jpeg, preprocess
from circuit_atlas.jobs.images.entry import Entry, Listing
from circuit_atlas.jobs.images.sources import entries
from circuit_atlas.jobs.images.splits import Candidate, held_out
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.sections import PreprocessingSpec
from circuit_atlas.storage_schema.errors import ImageError
from circuit_atlas.storage_schema.tables import IMAGES
from circuit_atlas.storage_schema.wording import one_line

ImageSplit = Literal["scoring", "held_out", "left_out"]

# Some 1,780 images of 224 x 224: most sets are decoded once. A larger set is decoded again.
_PIXELS_LIMIT_BYTES = 256 << 20


@dataclass(frozen=True)
class ImageInfo:
    """What is known about one image; its id is its rank by name, from 0.

    Width and height in pixels and Pillow's mode are as in the file, before the image is turned
    upright. They are None where the image is left out as unreadable; `problem` then says why.
    """

    id: int
    name: str
    label: str | None
    split: ImageSplit
    sha256: str
    width: int | None
    height: int | None
    mode: str | None
    problem: str | None


class ImageSet(ABC):
    """The images of a build, those that can't be read included.

    Attributes:
        infos: every image, by id.
        scoring: ids of the images that kernels are scored on, ascending.
        held_out: ids of the images that circuits are tested on, ascending.
        size: height and width of the network's input, in pixels.
        channels: channels of the network's input.
        passed_over: how many files of each suffix lie beside the images and are taken for none.
    """

    def __init__(
        self,
        infos: Sequence[ImageInfo],
        *,
        size: tuple[int, int],
        channels: int,
        passed_over: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Takes every image by id; size and channels are those of the network's input."""
        self.passed_over = dict(passed_over)
        self.infos = tuple(infos)
        self.scoring = tuple(info.id for info in infos if info.split == "scoring")
        self.held_out = tuple(info.id for info in infos if info.split == "held_out")
        self.size = size
        self.channels = channels

    @property
    def sha256(self) -> str:
        """Fingerprint of the set, in hexadecimal: name, bytes, label and split of every image."""
        rows = [[info.name, info.sha256, info.label, info.split] for info in self.infos]
        return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()

    @abstractmethod
    def batch(self, ids: Sequence[int]) -> Tensor:
        """Gives the network's input for some images: (ids, channels, height, width), float32.

        An image's values do not depend on the others. Raises ImageError for an image that is left
        out, or that has changed since the set was loaded.
        """

    @abstractmethod
    def pixels(self, image: int) -> NDArray[np.uint8]:
        """Gives what the network sees of an image before normalisation: (height, width, 3)."""

    def table(self) -> pa.Table:
        """Makes the stored table, a row an image, with a JPEG of what the network sees."""
        columns: dict[str, list[object]] = {
            name: [getattr(info, name) for info in self.infos] for name in ImageInfo.__annotations__
        }
        columns["picture"] = [
            None if info.problem is not None else jpeg(self.pixels(info.id)) for info in self.infos
        ]
        return IMAGES.from_columns(columns)


class EncodedImages(ImageSet):
    """The images of a source of encoded files.

    The decoded pixels of the images used last stay in memory, up to 256 MiB; the others are read
    again when they are asked for.
    """

    def __init__(
        self,
        infos: Sequence[ImageInfo],
        listing: Listing,
        preprocessing: PreprocessingSpec,
        *,
        pixels: _Pixels,
    ) -> None:
        """Takes every image by id, with its entry in the source, and pixels decoded so far."""
        super().__init__(
            infos, size=preprocessing.size, channels=3, passed_over=listing.passed_over
        )
        self._entries = tuple(listing.entries)
        self._preprocessing = preprocessing
        self._pixels = pixels

    def batch(self, ids: Sequence[int]) -> Tensor:
        """Gives the network's input for some images, as `ImageSet.batch` says."""
        height, width = self.size
        out = torch.empty(len(ids), 3, height, width)
        mean = torch.tensor(self._preprocessing.mean).view(3, 1, 1)
        std = torch.tensor(self._preprocessing.std).view(3, 1, 1)
        for row, image in enumerate(ids):
            colours = torch.from_numpy(self.pixels(image)).permute(2, 0, 1)
            out[row] = (colours.float() / 255 - mean) / std
        return out

    def pixels(self, image: int) -> NDArray[np.uint8]:
        """Gives what the network sees of an image, as `ImageSet.pixels` says."""
        if not 0 <= image < len(self.infos):
            raise ImageError(f"no image {image}: ids go from 0 to {len(self.infos) - 1}")
        info = self.infos[image]
        if info.problem is not None:
            raise ImageError(f"image {image} ({info.name!r}) is left out: {info.problem}")
        pixels = self._pixels.get(image)
        if pixels is not None:
            return pixels
        changed = f"image {image} ({info.name!r}) changed after the set was loaded: run again"
        try:
            data = self._entries[image].read()
            if hashlib.sha256(data).hexdigest() != info.sha256:
                raise ImageError(changed)
            pixels = preprocess(decode(data).rgb, self._preprocessing)
        except (OSError, UnreadableImageError) as error:
            raise ImageError(f"{changed} ({one_line(error)})") from error
        self._pixels.put(image, pixels)
        return pixels


class _Pixels:
    """Decoded images by id, the least recently used ones dropped above a limit of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._by_image: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    def get(self, image: int) -> NDArray[np.uint8] | None:
        if image in self._by_image:
            self._by_image.move_to_end(image)
        return self._by_image.get(image)

    def put(self, image: int, pixels: NDArray[np.uint8]) -> None:
        self._by_image[image] = pixels
        self._size_bytes += pixels.nbytes
        while self._size_bytes > self._limit_bytes:
            self._size_bytes -= self._by_image.popitem(last=False)[1].nbytes


def load_images(spec: BuildSpec, preprocessing: PreprocessingSpec) -> ImageSet:
    """Reads and decodes every image of the spec's source once, and splits them.

    An image that can't be read is left out, with its problem on record. Raises ImageError where
    there are no images, none can be read, or none is left for scoring.
    """
    listing = entries(spec.images)
    listed = listing.entries
    pixels = _Pixels(_PIXELS_LIMIT_BYTES)
    read: dict[int, ImageInfo] = {}
    for image, entry in sorted(enumerate(listed), key=lambda pair: pair[1].row):
        read[image] = _read(image, entry, preprocessing, pixels)
    infos = [read[image] for image in range(len(listed))]
    _require_some(infos, spec)
    held = held_out(
        [Candidate(info.name, info.sha256, info.problem is None) for info in infos],
        spec.images,
        seed=spec.circuits.seed,
    )
    infos = [
        replace(info, split="held_out") if info.problem is None and info.name in held else info
        for info in infos
    ]
    if not any(info.split == "scoring" for info in infos):
        raise ImageError(
            f"no image of {spec.images.source!r} is left for scoring: all "
            f"{sum(info.problem is None for info in infos)} readable ones are held out; "
            "hold out fewer, with images.held_out"
        )
    return EncodedImages(infos, listing, preprocessing, pixels=pixels)


def _read(image: int, entry: Entry, preprocessing: PreprocessingSpec, pixels: _Pixels) -> ImageInfo:
    data = b""
    try:
        data = entry.read()
        decoded = decode(data)
        pixels.put(image, preprocess(decoded.rgb, preprocessing))
    except (OSError, UnreadableImageError) as error:
        sha256 = hashlib.sha256(data).hexdigest()
        return ImageInfo(
            image, entry.name, entry.label, "left_out", sha256, None, None, None, one_line(error)
        )
    return ImageInfo(
        image,
        entry.name,
        entry.label,
        "scoring",
        hashlib.sha256(data).hexdigest(),
        decoded.width,
        decoded.height,
        decoded.mode,
        None,
    )


def _require_some(infos: Sequence[ImageInfo], spec: BuildSpec) -> None:
    if all(info.problem is not None for info in infos):
        first = infos[0]
        raise ImageError(
            f"none of the {len(infos)} images in {spec.images.source!r} can be read "
            f"(the first, {first.name!r}: {first.problem}): give at least one image"
        )
