"""The pictures of a build: stable ids, a split, a fingerprint, and batches for the network."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.images.decode import UnreadableImageError, decode, jpeg, preprocess
from circuit_atlas.jobs.images.entry import Entry
from circuit_atlas.jobs.images.sources import entries
from circuit_atlas.jobs.images.splits import Candidate, held_out
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.sections import PreprocessingSpec
from circuit_atlas.storage_schema.errors import ImageError
from circuit_atlas.storage_schema.tables import IMAGES
from circuit_atlas.storage_schema.wording import one_line

ImageSplit = Literal["scoring", "held_out", "left_out"]

# Some 1,780 pictures of 224 x 224: most sets are decoded once. A larger set is decoded again.
_PIXELS_LIMIT_BYTES = 256 << 20


@dataclass(frozen=True)
class ImageInfo:
    """What is known of one picture; its id is its place by name, from 0.

    Width and height in pixels and Pillow's mode are as found, before it is turned upright;
    they are None, and `problem` says why, where the picture is left out as unreadable.
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
    """The pictures of a build, those that can't be read included.

    Attributes:
        infos: every picture, by id.
        scoring: ids of the pictures that kernels are scored on, ascending.
        held_out: ids of the pictures that circuits are tested on, ascending.
        size: height and width of the network's input, in pixels.
        channels: channels of the network's input.
    """

    def __init__(self, infos: Sequence[ImageInfo], *, size: tuple[int, int], channels: int) -> None:
        self.infos = tuple(infos)
        self.scoring = tuple(info.id for info in infos if info.split == "scoring")
        self.held_out = tuple(info.id for info in infos if info.split == "held_out")
        self.size = size
        self.channels = channels

    @property
    def sha256(self) -> str:
        """Fingerprint of the set: name, bytes, label and split of every picture, in hexadecimal."""
        rows = [[info.name, info.sha256, info.label, info.split] for info in self.infos]
        return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()

    @abstractmethod
    def batch(self, ids: Sequence[int]) -> Tensor:
        """The network's input for some pictures. Shape: (ids, channels, height, width), float32.

        Each picture's values are the same in whatever company it comes. Raises ImageError for a
        picture that is left out, or that has changed since the set was loaded.
        """

    @abstractmethod
    def pixels(self, image: int) -> NDArray[np.uint8]:
        """What the network sees of a picture before normalisation. Shape: (height, width, 3)."""

    def table(self) -> pa.Table:
        """One row a picture, as the store keeps it, with a JPEG of what the network sees."""
        columns: dict[str, list[object]] = {
            name: [getattr(info, name) for info in self.infos] for name in ImageInfo.__annotations__
        }
        columns["picture"] = [
            None if info.problem is not None else jpeg(self.pixels(info.id)) for info in self.infos
        ]
        return IMAGES.from_columns(columns)


class EncodedImages(ImageSet):
    """The pictures of a source of encoded files. Decoded pixels of the pictures used last are kept,
    up to 256 MiB; the others are read again when they are asked for."""

    def __init__(
        self,
        infos: Sequence[ImageInfo],
        found: Sequence[Entry],
        preprocessing: PreprocessingSpec,
        *,
        pixels: _Pixels,
    ) -> None:
        super().__init__(infos, size=preprocessing.size, channels=3)
        self._entries = tuple(found)
        self._preprocessing = preprocessing
        self._pixels = pixels

    def batch(self, ids: Sequence[int]) -> Tensor:
        """See `ImageSet.batch`."""
        height, width = self.size
        out = torch.empty(len(ids), 3, height, width)
        mean = torch.tensor(self._preprocessing.mean).view(3, 1, 1)
        std = torch.tensor(self._preprocessing.std).view(3, 1, 1)
        for row, image in enumerate(ids):
            colours = torch.from_numpy(self.pixels(image)).permute(2, 0, 1)
            out[row] = (colours.float() / 255 - mean) / std
        return out

    def pixels(self, image: int) -> NDArray[np.uint8]:
        """See `ImageSet.pixels`."""
        if not 0 <= image < len(self.infos):
            raise ImageError(f"no image {image}: ids go from 0 to {len(self.infos) - 1}")
        info = self.infos[image]
        if info.problem is not None:
            raise ImageError(f"image {image} ({info.name!r}) is left out: {info.problem}")
        kept = self._pixels.get(image)
        if kept is not None:
            return kept
        changed = f"image {image} ({info.name!r}) changed after the set was loaded: run again"
        try:
            data = self._entries[image].read()
            if hashlib.sha256(data).hexdigest() != info.sha256:
                raise ImageError(changed)
            again = preprocess(decode(data).rgb, self._preprocessing)
        except (OSError, UnreadableImageError) as error:
            raise ImageError(f"{changed} ({one_line(error)})") from error
        self._pixels.put(image, again)
        return again


class _Pixels:
    """Decoded pictures by id, the least recently used ones dropped above a limit of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._kept: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    def get(self, image: int) -> NDArray[np.uint8] | None:
        if image in self._kept:
            self._kept.move_to_end(image)
        return self._kept.get(image)

    def put(self, image: int, pixels: NDArray[np.uint8]) -> None:
        self._kept[image] = pixels
        self._size_bytes += pixels.nbytes
        while self._size_bytes > self._limit_bytes:
            self._size_bytes -= self._kept.popitem(last=False)[1].nbytes


def load_images(spec: BuildSpec, preprocessing: PreprocessingSpec) -> ImageSet:
    """Read and decode every picture of the spec's source once, and split them.

    A picture that can't be read is left out, with its problem on record. Raises ImageError where
    there are no pictures, none can be read, or none is left for scoring.
    """
    found = entries(spec.images)
    pixels = _Pixels(_PIXELS_LIMIT_BYTES)
    read: dict[int, ImageInfo] = {}
    for image, entry in sorted(enumerate(found), key=lambda pair: pair[1].place):
        read[image] = _read(image, entry, preprocessing, pixels)
    infos = [read[image] for image in range(len(found))]
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
    return EncodedImages(infos, found, preprocessing, pixels=pixels)


def _read(image: int, entry: Entry, preprocessing: PreprocessingSpec, pixels: _Pixels) -> ImageInfo:
    data = b""
    try:
        data = entry.read()
        picture = decode(data)
        pixels.put(image, preprocess(picture.rgb, preprocessing))
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
        picture.width,
        picture.height,
        picture.mode,
        None,
    )


def _require_some(infos: Sequence[ImageInfo], spec: BuildSpec) -> None:
    if all(info.problem is not None for info in infos):
        first = infos[0]
        raise ImageError(
            f"none of the {len(infos)} images in {spec.images.source!r} can be read "
            f"(the first, {first.name!r}: {first.problem}): give at least one picture"
        )
