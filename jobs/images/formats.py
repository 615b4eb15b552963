"""The two formats of what a source reads: encoded images, and single images of an array."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import center_crop, resize

from circuit_atlas.jobs.images.arrays import ArrayListing
from circuit_atlas.jobs.images.decode import MODES, UnreadableImageError, decode, preprocess
from circuit_atlas.jobs.images.entry import Listing
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.storage_schema.errors import ImageError, SpecError
from circuit_atlas.storage_schema.pixels import PixelForm, PixelType

# What images are stored in: their numbers are shares of the largest.
_SCALED = {"bool": 1, "uint8": 255, "uint16": 65535}
# So far outside 0..1, an interpolation's overshoot is no reason for it.
_ABOUT_0_TO_1 = (-0.5, 1.5)


@dataclass(frozen=True)
class ReadImage:
    """An image as read.

    Attributes:
        width, height: as in the source, in pixels.
        mode: Pillow's, or the type of an array's numbers.
        values: resized and cropped, of the format's form.
    """

    width: int
    height: int
    mode: str
    values: NDArray[Any]


class ImageFormat(ABC):
    """How images of a source become stored values.

    Attributes:
        preprocessing: with mean and std for each channel.
        size: height and width of the network's input, in pixels.
        form: what the values of an image are.
    """

    preprocessing: PreprocessingSpec
    size: tuple[int, int]
    form: PixelForm

    @abstractmethod
    def read(self, data: bytes) -> ReadImage:
        """Reads an image; UnreadableImageError where it is to be left out."""

    @abstractmethod
    def remark(self, low: Sequence[float], high: Sequence[float]) -> str:
        """Says what a person should know of the images, perhaps nothing.

        Raises ImageError where they do not fit the preprocessing.

        Args:
            low: the smallest value of each channel, over all images.
            high: the largest.
        """


class EncodedFormat(ImageFormat):
    """Image files; values are (channels, height, width), uint8."""

    def __init__(self, preprocessing: PreprocessingSpec) -> None:
        """Takes as many channels as `preprocessing` has means; SpecError for more than four."""
        if len(preprocessing.mean) not in MODES:
            raise SpecError(
                f"preprocessing.mean has {len(preprocessing.mean)} numbers: image files have one "
                "channel (grey), two (grey, opacity), three (colours) or four (colours, opacity); "
                "give others as an array, .npy or .zarr"
            )
        self.preprocessing = preprocessing
        self.size = preprocessing.size
        channels = len(preprocessing.mean)
        self.form = PixelForm("uint8", (channels, *self.size), channels in (2, 4), 255)

    def read(self, data: bytes) -> ReadImage:
        """Reads an image, as `ImageFormat.read` says."""
        decoded = decode(data, channels=len(self.preprocessing.mean))
        pixels = preprocess(decoded.image, self.preprocessing)
        values = np.moveaxis(pixels, -1, 0)
        return ReadImage(decoded.width, decoded.height, decoded.mode, values)

    def remark(self, low: Sequence[float], high: Sequence[float]) -> str:
        """Finds nothing: levels of 8 bits have a range of their own."""
        del low, high
        return ""


class ArrayFormat(ImageFormat):
    """Single images of an array, as `.npy` files hold them; values are (channels, height, width),
    before mean and std.

    Numbers of 8 or 16 bits without a sign, which images are stored in, are divided by the largest
    that their type holds, and so lie in 0..1. Others are taken as they are, and shown between the
    smallest and the largest value of each channel.
    """

    def __init__(
        self, preprocessing: PreprocessingSpec, dtype: np.dtype[Any], shape: Sequence[int]
    ) -> None:
        """Takes images of that type and shape, (channels, height, width).

        Raises SpecError where the crop is larger than they are.
        """
        self.preprocessing = preprocessing
        self._dtype = dtype
        self._shape = tuple(shape)
        whole = self._resized(torch.zeros(1, *shape[1:]))
        crop = preprocessing.crop and preprocessing.size
        if crop and (crop[0] > whole.shape[1] or crop[1] > whole.shape[2]):
            raise SpecError(
                f"preprocessing.crop {list(crop)} is larger than the images, "
                f"{list(whole.shape[1:])}, which would be filled up with 0: give a smaller crop"
            )
        self.size = crop or (int(whole.shape[1]), int(whole.shape[2]))
        self._largest = _SCALED.get(dtype.name)
        # As they are where they stay whole numbers.
        whole_numbers = self._largest is not None and preprocessing.resize is None
        self.form = PixelForm(
            cast(PixelType, dtype.name) if whole_numbers else "float32",
            (self._shape[0], *self.size),
            False,
            float(self._largest or 1) if whole_numbers else 1.0,
        )

    def read(self, data: bytes) -> ReadImage:
        """Reads an image, as `ImageFormat.read` says."""
        array = np.load(io.BytesIO(data), allow_pickle=False)
        _, height, width = self._shape
        read = partial(ReadImage, width, height, self._dtype.name)
        if self.form.dtype != "float32":
            native = torch.from_numpy(np.ascontiguousarray(array, self.form.dtype))
            return read(self._cropped(native).numpy())
        with np.errstate(over="ignore"):  # what float32 does not hold becomes infinity
            values = torch.from_numpy(array.astype(np.float32)) / (self._largest or 1)
        if not values.isfinite().all():
            raise UnreadableImageError("it holds NaN or infinity")
        return read(self._cropped(self._resized(values)).numpy())

    def remark(self, low: Sequence[float], high: Sequence[float]) -> str:
        """Says what type and range the values are of.

        Raises ImageError where mean and std are ImageNet's and values lie far outside of its.
        """
        channels, height, width = self._shape
        lowest, highest = min(low), max(high)
        if self.preprocessing.is_imagenets and not (
            _ABOUT_0_TO_1[0] <= lowest and highest <= _ABOUT_0_TO_1[1]
        ):
            raise ImageError(
                f"the images' values go from {lowest:.4g} to {highest:.4g}, and mean and std are "
                "ImageNet's, for values from 0 to 1: give preprocessing.mean and std, [0, 0, 0] "
                "and [1, 1, 1] where they are normalised already"
            )
        how = f"from {lowest:.4g} to {highest:.4g}"
        return (
            f"the images are arrays of {self._dtype.name}, "
            f"{'divided by the largest number' if self._largest else how}, {channels} "
            f"channel{'' if channels == 1 else 's'} of {height} x {width}"
        )

    def _resized(self, values: Tensor) -> Tensor:
        given = self.preprocessing
        if given.resize is not None:
            size = list(given.resize) if isinstance(given.resize, tuple) else [given.resize]
            mode = InterpolationMode(given.interpolation)
            values = resize(values, size, interpolation=mode, antialias=True)
        return values

    def _cropped(self, values: Tensor) -> Tensor:
        if self.preprocessing.crop is None:
            return values
        return center_crop(values, list(self.preprocessing.size)).contiguous()


def format_of(
    listing: Listing, preprocessing: PreprocessingSpec, *, channels: int | None = None
) -> ImageFormat:
    """Gives the format of a source's images.

    Args:
        listing: the images.
        preprocessing: of the images.
        channels: how many image files are to have where mean and std are the default; an array has
            as many as it has. Default: as many as mean has.

    Raises:
        SpecError: mean and std are of another number of channels, or it cannot be had.
    """
    if isinstance(listing, ArrayListing):
        fitting = preprocessing.for_channels(listing.shape[0])
        return ArrayFormat(fitting, listing.dtype, listing.shape)
    if channels is not None and preprocessing.is_imagenets:
        preprocessing = preprocessing.for_channels(channels)
    return EncodedFormat(preprocessing)
