"""The images of a build: stable ids, a split, a fingerprint, and batches for the network."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal

import pyarrow as pa
from torch import Tensor

from circuit_atlas.storage_schema.image_table import IMAGES
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.pixels import PixelsRecord

ImageSplit = Literal["scoring", "held_out", "left_out"]


@dataclass(frozen=True)
class ImageInfo:
    """What is known about one image; its id is its rank by name, from 0.

    Width and height in pixels and Pillow's mode are as in the file, before the image is turned
    upright; of an array, `mode` is the type of its numbers. They are None where the image is left
    out as unreadable; `problem` then says why. `place` says where its values are stored, and
    `pixels_crc32c` is their checksum.
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
    place: int
    pixels_crc32c: int | None


class ImageSet(ABC):
    """The images of a build, those that can't be read included.

    Attributes:
        infos: every image, by id.
        scoring: ids of the images that kernels are scored on, ascending.
        held_out: ids of the images that circuits are tested on, ascending.
        size: height and width of the network's input, in pixels.
        mean: subtracted from each channel of an image as it is shown, black 0 and white 1, to make
            it the network's input.
        std: what each channel is divided by after that.
        passed_over: how many files of each suffix lie beside the images and are taken for none.
        remark: what a person should know of the images; empty where there is nothing.
    """

    def __init__(
        self,
        infos: Sequence[ImageInfo],
        *,
        size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        passed_over: Mapping[str, int] = MappingProxyType({}),
        remark: str = "",
    ) -> None:
        """Takes every image by id; the size, and a mean and std a channel, of the network's
        input."""
        self.infos = tuple(infos)
        self.scoring = tuple(info.id for info in infos if info.split == "scoring")
        self.held_out = tuple(info.id for info in infos if info.split == "held_out")
        self.size = size
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.passed_over = dict(passed_over)
        self.remark = remark

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return len(self.mean)

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of the set, in hexadecimal: name, bytes, label and split of every image."""
        rows = [[info.name, info.sha256, info.label, info.split] for info in self.infos]
        return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()

    @abstractmethod
    def batch(self, ids: Sequence[int]) -> Tensor:
        """Gives the network's input for some images: (ids, channels, height, width), float32.

        An image's values do not depend on the others. Raises ImageError for an image that is left
        out.
        """

    @abstractmethod
    def store(self, objects: Objects) -> PixelsRecord:
        """Writes the values of all images into a store, where they are not there already."""

    def table(self) -> pa.Table:
        """Makes the stored table, a row an image."""
        columns: dict[str, list[object]] = {
            name: [getattr(info, name) for info in self.infos] for name in ImageInfo.__annotations__
        }
        return IMAGES.from_columns(columns)
