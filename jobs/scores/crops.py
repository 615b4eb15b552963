"""Random crops of images: other images without end, of which the whole network says what is
right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from circuit_atlas.jobs.network.convolution import channels_last
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.storage_schema.errors import SpecError

_SMALLEST, _LARGEST = 0.7, 1.4
# Of each side: 128 of 224 pixels.
_PART = 4 / 7
_LEAST_PIXELS = 64


def crop_size(network: Network, pixels: int | None) -> tuple[int, int]:
    """Decides on the height and width of crops.

    Args:
        network: the traced network; where it takes images of one size alone, crops are of that.
        pixels: the sides asked for, each at most the image's. Default: four sevenths of each, at
            least 64 pixels.

    Raises:
        SpecError: more pixels are asked for than either side of the images has.
    """
    _, *sides = network.image_shape
    if pixels is not None:
        check_crop(pixels, (sides[0], sides[1]))
    asked = [round(_PART * side) if pixels is None else pixels for side in sides]
    least = 1 if pixels is not None else _LEAST_PIXELS
    height, width = (min(side, max(least, n)) for side, n in zip(sides, asked, strict=True))
    return (height, width) if _takes(network, height, width) else (sides[0], sides[1])


def check_crop(pixels: int, sides: tuple[int, int]) -> None:
    """Raises SpecError where a crop's side is longer than both of an image's."""
    if pixels > max(sides):
        raise SpecError(
            f"learned.crop = {pixels} is larger than the images, which are of {sides[0]} x "
            f"{sides[1]}: give at most {max(sides)}, or leave it out"
        )


def random_crops(
    images: Sequence[Tensor], size: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Draws a crop of each image, at .7 to 1.4 of its scale, flipped half the time.

    Args:
        images: (channels, height, width) each.
        size: height and width of the crops.
        generator: on the processor, whatever the images are on.

    Returns:
        (images, channels, *size).
    """
    return channels_last(torch.stack([_crop(image, size, generator) for image in images]))


def _crop(image: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    _, height, width = image.shape
    scale, down, right, mirrored = torch.rand(4, generator=generator).tolist()
    scale = _SMALLEST + (_LARGEST - _SMALLEST) * scale
    rows, columns = min(height, round(size[0] / scale)), min(width, round(size[1] / scale))
    top, left = int(down * (height - rows + 1)), int(right * (width - columns + 1))
    crop = image[:, top : top + rows, left : left + columns]
    if (rows, columns) != size:
        crop = functional.interpolate(crop[None], size, mode="bilinear", antialias=True)[0]
    return crop.flip(2) if mirrored < 0.5 else crop


def _takes(network: Network, height: int, width: int) -> bool:
    """Whether the network takes images of another size than it was traced for, and makes maps of
    them."""
    channels, *sides = network.image_shape
    if [height, width] == sides:
        return True
    if network.folded:
        return False
    like = network.sites[-1].weight
    try:
        with torch.no_grad():
            output = network.output(like.new_zeros((2, channels, height, width)))
    except RuntimeError:
        return False
    return output.dim() == 4 and output.shape[:2] == (2, network.target.shape[0])
