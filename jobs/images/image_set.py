"""The images of a build: stable ids, a split, a fingerprint, and batches for the network."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.images.decode import UnreadableImageError, jpeg
from circuit_atlas.jobs.images.entry import Entry, Listing, ReadsBytes
from circuit_atlas.jobs.images.formats import ImageFormat, format_of
from circuit_atlas.jobs.images.sources import open_source
from circuit_atlas.jobs.images.splits import Candidate, held_out
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.storage_schema.errors import ImageError
from circuit_atlas.storage_schema.image_table import IMAGES
from circuit_atlas.storage_schema.wording import one_line

ImageSplit = Literal["scoring", "held_out", "left_out"]

# Some 1,780 images of 224 x 224: most sets are decoded once. A larger set is decoded again.
_PIXELS_LIMIT_BYTES = 256 << 20


@dataclass(frozen=True)
class ImageInfo:
    """What is known about one image; its id is its rank by name, from 0.

    Width and height in pixels and Pillow's mode are as in the file, before the image is turned
    upright; of an array, `mode` is the type of its numbers. They are None where the image is left
    out as unreadable; `problem` then says why.
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
        mean: subtracted from each channel of an image as it is shown, black 0 and white 1, to make
            it the network's input.
        std: what each channel is divided by after that.
        passed_over: how many files of each suffix lie beside the images and are taken for none.
        remark: what a person should know of the images; empty where there is nothing.
    """

    remark = ""

    def __init__(
        self,
        infos: Sequence[ImageInfo],
        *,
        size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        passed_over: Mapping[str, int] = MappingProxyType({}),
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

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return len(self.mean)

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
        """Shows what the network sees of an image before normalisation: (height, width, 3).

        One channel is grey, three are red, green and blue, and an opacity lies over white; any
        other number of channels is the grey of their mean.
        """

    def table(self) -> pa.Table:
        """Makes the stored table, a row an image, with a JPEG of what the network sees."""
        columns: dict[str, list[object]] = {
            name: [getattr(info, name) for info in self.infos] for name in ImageInfo.__annotations__
        }
        columns["picture"] = [
            None if info.problem is not None else jpeg(self.pixels(info.id)) for info in self.infos
        ]
        return IMAGES.from_columns(columns)


class SourceImages(ImageSet):
    """The images of a source: files, rows of a table, or an array.

    What is read of the images used last stays in memory, up to 256 MiB; the others are read again
    when they are asked for.

    Attributes:
        preprocessing: the spec's, or the model's, with a mean and std for each channel.
    """

    def __init__(
        self,
        infos: Sequence[ImageInfo],
        listing: Listing,
        image_format: ImageFormat,
        *,
        values: _Values,
    ) -> None:
        """Takes every image by id, with its entry in the source, and what is read so far."""
        super().__init__(
            infos,
            size=image_format.size,
            mean=image_format.mean,
            std=image_format.std,
            passed_over=listing.passed_over,
        )
        self.preprocessing = image_format.preprocessing
        self.remark = image_format.remark
        self._entries, self._bytes = tuple(listing.entries), listing.read
        self._format = image_format
        self._values = values

    def batch(self, ids: Sequence[int]) -> Tensor:
        """Gives the network's input for some images, as `ImageSet.batch` says."""
        out = torch.empty(len(ids), self.channels, *self.size)
        for row, image in enumerate(ids):
            out[row] = self._format.network_input(self._read(image))
        return out

    def pixels(self, image: int) -> NDArray[np.uint8]:
        """Shows an image, as `ImageSet.pixels` says."""
        return self._format.pixels(self._read(image))

    def _read(self, image: int) -> NDArray[Any]:
        if not 0 <= image < len(self.infos):
            raise ImageError(f"no image {image}: ids go from 0 to {len(self.infos) - 1}")
        info = self.infos[image]
        if info.problem is not None:
            raise ImageError(f"image {image} ({info.name!r}) is left out: {info.problem}")
        values = self._values.get(image)
        if values is not None:
            return values
        changed = f"image {image} ({info.name!r}) changed after the set was loaded: run again"
        try:
            data = self._bytes(self._entries[image])
            if hashlib.sha256(data).hexdigest() != info.sha256:
                raise ImageError(changed)
            values = self._format.read(data).values
        except (OSError, UnreadableImageError) as error:
            raise ImageError(f"{changed} ({one_line(error)})") from error
        self._values.put(image, values)
        return values


class _Values:
    """Images as read, by id, the least recently used ones dropped above a limit of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._by_image: OrderedDict[int, NDArray[Any]] = OrderedDict()

    def get(self, image: int) -> NDArray[Any] | None:
        if image in self._by_image:
            self._by_image.move_to_end(image)
        return self._by_image.get(image)

    def put(self, image: int, values: NDArray[Any]) -> None:
        self._by_image[image] = values
        self._size_bytes += values.nbytes
        while self._size_bytes > self._limit_bytes:
            self._size_bytes -= self._by_image.popitem(last=False)[1].nbytes


def load_images(
    spec: BuildSpec, preprocessing: PreprocessingSpec, *, channels: int | None = None
) -> SourceImages:
    """Reads every image of the spec's source once, and splits them.

    An image that can't be read is left out, with its problem on record.

    Args:
        spec: names the source and the images held out.
        preprocessing: of the images.
        channels: how many image files are to have where mean and std are the default; an array has
            as many as it has. Default: three.

    Raises:
        ImageError: there are no images, none can be read, or none is left for scoring.
        SpecError: mean and std are of another number of channels.
    """
    listing = open_source(spec.images).listing()
    image_format = format_of(listing, preprocessing, channels=channels)
    listed = listing.entries
    values = _Values(_PIXELS_LIMIT_BYTES)
    read: dict[int, ImageInfo] = {}
    for image, entry in sorted(enumerate(listed), key=lambda pair: pair[1].row):
        read[image] = _read(image, entry, listing.read, image_format, values)
    infos = [read[image] for image in range(len(listed))]
    _require_some(infos, spec)
    image_format.check()
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
    return SourceImages(infos, listing, image_format, values=values)


def _read(
    image: int, entry: Entry, read: ReadsBytes, image_format: ImageFormat, values: _Values
) -> ImageInfo:
    data = b""
    try:
        data = read(entry)
        found = image_format.read(data)
        values.put(image, found.values)
        image_format.note(found.values)
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
        found.width,
        found.height,
        found.mode,
        None,
    )


def _require_some(infos: Sequence[ImageInfo], spec: BuildSpec) -> None:
    if all(info.problem is not None for info in infos):
        first = infos[0]
        raise ImageError(
            f"none of the {len(infos)} images in {spec.images.source!r} can be read "
            f"(the first, {first.name!r}: {first.problem}): give at least one image"
        )
