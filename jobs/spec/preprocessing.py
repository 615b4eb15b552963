"""The `[preprocessing]` table of a spec: how an image becomes the network's input."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from circuit_atlas.jobs.spec.section import Finite, Listed, Positive, Section
from circuit_atlas.storage_schema.errors import SpecError

Interpolation = Literal["bilinear", "bicubic", "nearest"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_Pair = Annotated[tuple[Positive, Positive], Listed]
_PerChannel = Annotated[tuple[Finite, ...], Listed, Field(min_length=1)]


class PreprocessingSpec(Section):
    """`[preprocessing]`: how an image becomes the network's input.

    The numbers of `mean` and `std` are as many as the network's input channels: with one, images
    become grey, with three they have colours, with four an opacity beside them, with two an opacity
    beside grey; those of an array are as they are. What channels hold lies in 0..1: that is 8 or 16
    bits divided by the largest value that they can hold. Arrays of any other type are taken as they
    are.

    Attributes:
        resize: height and width in pixels, or the shorter side alone, keeping the proportions.
            Default: no resizing.
        crop: the centre's height and width in pixels, after resizing. Default: no cropping.
        mean: subtracted from each channel. Default: ImageNet's where there are three channels, and
            0 where there are others.
        std: what each channel is divided by after that. Default: ImageNet's where there are three
            channels, and 1 where there are others.
        interpolation: how resizing reads between pixels, always antialiased. Default: "bilinear".
    """

    resize: Positive | _Pair | None = None
    crop: Positive | _Pair | None = None
    mean: _PerChannel = IMAGENET_MEAN
    std: _PerChannel = IMAGENET_STD
    interpolation: Interpolation = "bilinear"

    @field_validator("resize", "crop", mode="before")
    @classmethod
    def _extent(cls, value: object) -> object:
        numbers = value if isinstance(value, list | tuple) else [value]
        if value is None or (
            len(numbers) == (2 if numbers is value else 1)
            and all(type(n) is int and n >= 1 for n in numbers)
        ):
            return value
        raise ValueError("should be a number of pixels or [height, width], at least 1")

    @field_validator("std")
    @classmethod
    def _divisible(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if min(value) <= 0:
            raise ValueError("should be numbers above 0, one a channel")
        return value

    @model_validator(mode="after")
    def _one_a_channel(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean and std have {len(self.mean)} and {len(self.std)} numbers: give both, one a "
                "channel"
            )
        return self

    @model_validator(mode="after")
    def _crop_within(self) -> Self:
        if self.crop is not None and self.resize is not None:
            crop = self.crop if isinstance(self.crop, tuple) else (self.crop, self.crop)
            # Where one number is given, the longer side is not known.
            sides = (
                zip(crop, self.resize, strict=True)
                if isinstance(self.resize, tuple)
                else [(min(crop), self.resize)]
            )
            if any(cropped > resized for cropped, resized in sides):
                raise ValueError(
                    f"crop = {_plain(self.crop)} is larger than resize = {_plain(self.resize)}, "
                    "and would be filled up with black: give a smaller crop or a larger resize"
                )
        return self

    @property
    def is_imagenets(self) -> bool:
        """Whether mean and std are ImageNet's, given or by default."""
        return (self.mean, self.std) == (IMAGENET_MEAN, IMAGENET_STD)

    @property
    def fixes_size(self) -> bool:
        """Whether images of any size come out of one size."""
        return self.crop is not None or isinstance(self.resize, tuple)

    def for_channels(self, channels: int) -> PreprocessingSpec:
        """Gives the same for images of so many channels, where the default is another for them.

        Raises SpecError where mean and std are given for another number of channels.
        """
        if len(self.mean) == channels:
            return self
        if not self.is_imagenets:
            raise SpecError(
                f"preprocessing.mean has {len(self.mean)} numbers and the images have {channels} "
                "channels: give mean and std, a number a channel"
            )
        return self.model_copy(update={"mean": (0.0,) * channels, "std": (1.0,) * channels})

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input, in pixels; SpecError where they are not
        fixed."""
        extent = self.resize if self.crop is None else self.crop
        if isinstance(extent, tuple):
            return extent
        if extent is None or self.crop is None:
            raise SpecError("preprocessing: set resize = [height, width], or crop")
        return extent, extent


def _plain(extent: int | tuple[int, int]) -> int | list[int]:
    """As in the file."""
    return list(extent) if isinstance(extent, tuple) else extent
