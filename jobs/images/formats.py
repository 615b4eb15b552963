"""The two formats of what a source reads: encoded images, and single images of an array.

A format says how the bytes of an image become its values, how values become the network's input,
and how they are shown.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import center_crop, resize

from circuit_atlas.jobs.images.arrays import ArrayListing
from circuit_atlas.jobs.images.decode import MODES, UnreadableImageError, decode, preprocess
from circuit_atlas.jobs.images.entry import Listing
from circuit_atlas.jobs.images.shown import shown
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.storage_schema.errors import ImageError, SpecError

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
        values: resized and cropped, as the format keeps them.
    """

    width: int
    height: int
    mode: str
    values: NDArray[Any]


class ImageFormat(ABC):
    """How images of a source become the network's input.

    Attributes:
        preprocessing: with mean and std for each channel.
        size: height and width of the network's input, in pixels.
        remark: what a person should know of the images; empty where there is nothing.
    """

    preprocessing: PreprocessingSpec
    size: tuple[int, int]
    remark: str

    @property
    def mean(self) -> tuple[float, ...]:
        """What is subtracted from each channel of an image as it is shown, from 0 to 1."""
        return self.preprocessing.mean

    @property
    def std(self) -> tuple[float, ...]:
        """What each channel is divided by after that."""
        return self.preprocessing.std

    @abstractmethod
    def read(self, data: bytes) -> ReadImage:
        """Reads an image; UnreadableImageError where it is to be left out."""

    @abstractmethod
    def note(self, values: NDArray[Any]) -> None:
        """Takes note of an image of the set, for how all of them are shown."""

    @abstractmethod
    def check(self) -> None:
        """Raises ImageError where the images noted do not fit the preprocessing."""

    @abstractmethod
    def network_input(self, values: NDArray[Any]) -> Tensor:
        """Gives the network's input, (channels, height, width), float32."""

    @abstractmethod
    def pixels(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Shows an image, (height, width, 3)."""

    def _normalised(self, values: Tensor) -> Tensor:
        mean = torch.tensor(self.preprocessing.mean).view(-1, 1, 1)
        std = torch.tensor(self.preprocessing.std).view(-1, 1, 1)
        return (values - mean) / std


class EncodedFormat(ImageFormat):
    """Image files; values are (height, width, channels), uint8."""

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
        self.remark = ""

    def note(self, values: NDArray[Any]) -> None:
        """Notes nothing: levels of 8 bits have a range of their own."""

    def check(self) -> None:
        """Finds nothing to refuse."""

    def read(self, data: bytes) -> ReadImage:
        """Reads an image, as `ImageFormat.read` says."""
        decoded = decode(data, channels=len(self.preprocessing.mean))
        values = preprocess(decoded.image, self.preprocessing)
        return ReadImage(decoded.width, decoded.height, decoded.mode, values)

    def network_input(self, values: NDArray[Any]) -> Tensor:
        """Gives the network's input, as `ImageFormat.network_input` says."""
        return self._normalised(torch.from_numpy(values).permute(2, 0, 1).float() / 255)

    def pixels(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Shows an image, as `ImageFormat.pixels` says: what has an opacity over white."""
        if values.shape[-1] in (2, 4):
            opacity = values[..., -1:] / 255
            values = np.rint(values[..., :-1] * opacity + 255 * (1 - opacity)).astype(np.uint8)
        return np.broadcast_to(values, (*values.shape[:2], 3))


class ArrayFormat(ImageFormat):
    """Single images of an array, as `.npy` files hold them; values are (channels, height, width),
    float32, before mean and std.

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
        self._low = np.full(shape[0], 0.0 if self._largest else np.inf)
        self._high = np.full(shape[0], 1.0 if self._largest else -np.inf)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean, as `ImageFormat.mean` says."""
        given = np.array(self.preprocessing.mean)
        return tuple(((given - self._low) / self._range).tolist())

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation, as `ImageFormat.std` says."""
        return tuple((np.array(self.preprocessing.std) / self._range).tolist())

    def read(self, data: bytes) -> ReadImage:
        """Reads an image, as `ImageFormat.read` says."""
        array = np.load(io.BytesIO(data), allow_pickle=False)
        with np.errstate(over="ignore"):  # what float32 does not hold becomes infinity
            values = torch.from_numpy(array.astype(np.float32)) / (self._largest or 1)
        if not values.isfinite().all():
            raise UnreadableImageError("it holds NaN or infinity")
        _, height, width = self._shape
        mode = self._dtype.name
        return ReadImage(width, height, mode, self._cropped(self._resized(values)).numpy())

    def note(self, values: NDArray[Any]) -> None:
        """Notes the smallest and the largest value of each channel."""
        if self._largest is None:
            self._low = np.minimum(self._low, values.min((1, 2)))
            self._high = np.maximum(self._high, values.max((1, 2)))

    def check(self) -> None:
        """Raises ImageError where mean and std are ImageNet's and values lie far outside of its."""
        channels, height, width = self._shape
        low, high = self._low.min(), self._high.max()
        how = "divided by the largest number" if self._largest else f"from {low:.4g} to {high:.4g}"
        self.remark = (
            f"the images are arrays of {self._dtype.name}, {how}, {channels} "
            f"channel{'' if channels == 1 else 's'} of {height} x {width}"
        )
        least, most = _ABOUT_0_TO_1
        if self.preprocessing.is_imagenets and (low < least or high > most):
            raise ImageError(
                f"the images' values go from {low:.4g} to {high:.4g}, and mean and std are "
                "ImageNet's, for values from 0 to 1: give preprocessing.mean and std, [0, 0, 0] "
                "and [1, 1, 1] where they are normalised already"
            )

    def network_input(self, values: NDArray[Any]) -> Tensor:
        """Gives the network's input, as `ImageFormat.network_input` says."""
        return self._normalised(torch.from_numpy(values))

    def pixels(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Shows an image, as `ImageFormat.pixels` says."""
        levels = (values - self._low[:, None, None]) / self._range[:, None, None]
        return shown(torch.from_numpy(levels))

    @property
    def _range(self) -> NDArray[Any]:
        # An even channel could be shown as grey just as well as black.
        return np.where(self._high > self._low, self._high - self._low, 1.0)

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
