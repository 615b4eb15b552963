"""Feature visualizations: images made by gradient ascent to drive one unit each.

The method is that of Olah, Mordvintsev and Schubert, "Feature Visualization", Distill 2017
(doi:10.23915/distill.00007): the image is optimised as Fourier coefficients of decorrelated
colours, and shifted, turned and scaled a little before each pass through the network, so that what
remains is what the unit sees wherever it lies, and not noise that happens to excite it.

horama 0.3.0 was tried for this and not taken. Its `fourier` makes one image a call, from the
global random state, for inputs in [-2.5, 2.5] that no 8-bit image holds; with its defaults a step
took 590 ms on one core, where it takes 5 here; one crop a step ends in a ValueError; and it imports
einops and tqdm, which it does not require.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import affine

from circuit_atlas.jobs.images.decode import MODES

Gradient = Callable[[Tensor], Tensor]
"""Images (images, channels, height, width), as the network takes them -> the gradient of what each
is to make large, of the same shape."""

# A square root of the covariance of the colours of ImageNet's photos (rows red, green, blue), as
# published with Lucid: github.com/tensorflow/lucid, lucid/optvis/param/color.py.
_COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
# Rows are channels of the image. Of other numbers of channels none is known, nor a PNG of them.
_MIXED = {1: ((1.0,),), 3: _COLOURS}
CHANNELS = tuple(_MIXED)
"""The numbers of channels of images that can be made: grey, and colours."""
START = 0.01
"""Standard deviation of the first coefficients, as in Lucid: so the start is all but grey."""
# What images are divided by, as in Lucid.
_SCALE = 4.0
# Drawn at each step: a shift of at most this part of the side, a turn in degrees, a change of
# size.
_SHIFT = 1 / 16
_TURN_DEGREES = 5.0
_ZOOM = 0.1


@dataclass(frozen=True)
class Recipe:
    """How visualizations are made.

    Attributes:
        size: height and width, in pixels.
        steps: of gradient ascent.
        learning_rate: Adam's.
        mean, std: for each channel, from an image in 0..1 to the network's input.
        start: standard deviation of the first coefficients. Default: `START`.
    """

    size: tuple[int, int]
    steps: int
    learning_rate: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    start: float = START

    @property
    def channels(self) -> int:
        """Channels of the images, one of `CHANNELS`."""
        return len(self.mean)


class Canvas:
    """Images as Fourier coefficients of decorrelated colours, or of grey.

    A coefficient at frequency f (cycles a pixel) counts 1 / max(f, 1 / longer side), as in photos,
    whose amplitudes fall so. All images of one seed start as the same noise.
    """

    def __init__(self, seeds: Sequence[int], recipe: Recipe, device: torch.device) -> None:
        """Draws the noise that each image starts as, from its seed."""
        height, width = recipe.size
        # Drawn on the processor, so that every device starts from the same.
        shape = (recipe.channels, height, width // 2 + 1, 2)
        noise = [_noise(seed, shape) for seed in seeds]
        self.spectrum = (torch.stack(noise) * recipe.start).to(device).requires_grad_()
        frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
        self._decay = (1 / frequency.clamp(min=1 / max(height, width))).to(device)
        colours = torch.tensor(_MIXED[recipe.channels])
        self._colours = (colours / colours.norm(dim=0).max()).to(device)
        self._recipe = recipe

    def levels(self) -> Tensor:
        """Renders the images: (images, channels, height, width), each channel in 0..1."""
        coefficients = torch.view_as_complex(self.spectrum) * self._decay
        flat = torch.fft.irfft2(coefficients, s=self._recipe.size, norm="ortho") / _SCALE
        return torch.einsum("rc,nchw->nrhw", self._colours, flat).sigmoid()


class Normalisation:
    """Turns images in 0..1 into what the network takes."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        """Takes mean and standard deviation from the recipe."""
        self._mean = torch.tensor(recipe.mean, device=device).view(-1, 1, 1)
        self._std = torch.tensor(recipe.std, device=device).view(-1, 1, 1)

    def __call__(self, levels: Tensor) -> Tensor:
        return (levels - self._mean) / self._std


@dataclass(frozen=True)
class Visualization:
    """A feature visualization as it will be stored.

    Attributes:
        pixels: (height, width, 3), or (height, width) of grey; uint8.
        finite: false where NaN or infinity came into it, and the pixels mean nothing.
        change: root mean square distance from the noise that it started as, 0 to 1.
    """

    pixels: NDArray[np.uint8]
    finite: bool
    change: float

    @property
    def contrast(self) -> float:
        """Root mean square distance from mid-grey: 0 to 0.5."""
        return float(np.sqrt(np.mean((self.pixels / 255.0 - 0.5) ** 2)))

    @cached_property
    def png(self) -> bytes:
        """The image as PNG."""
        stream = io.BytesIO()
        Image.fromarray(self.pixels).save(stream, "PNG")
        return stream.getvalue()


def make_visualizations(
    gradient: Gradient,
    seeds: Sequence[int],
    recipe: Recipe,
    *,
    device: torch.device,
    transform_seed: int,
) -> tuple[Visualization, ...]:
    """Optimises one image a seed, all of them together.

    The same arguments give the same images on one machine. An image does not depend on those
    beside it, but for rounding.

    Args:
        gradient: what to climb.
        seeds: of the noise that each starts as.
        recipe: size, steps and the like.
        device: where to compute.
        transform_seed: decides the shifts, turns and changes of size, the same for all images.
    """
    canvas = Canvas(seeds, recipe, device)
    normalise = Normalisation(recipe, device)
    chance = torch.Generator().manual_seed(transform_seed)
    with torch.no_grad():
        first = canvas.levels()
    adam = torch.optim.Adam([canvas.spectrum], lr=recipe.learning_rate, maximize=True)
    for _ in range(recipe.steps):
        seen = _transformed(normalise(canvas.levels()), chance, recipe.size)
        adam.zero_grad()
        seen.backward(gradient(seen.detach()))
        adam.step()
    with torch.no_grad():
        last = canvas.levels()
    changes = (last - first).square().flatten(1).mean(1).sqrt().tolist()
    levels = last.permute(0, 2, 3, 1).squeeze(-1).cpu()
    finite = levels.isfinite().flatten(1).all(1).tolist()
    pixels = (levels.nan_to_num() * 255).round().to(torch.uint8).numpy()
    made = zip(pixels, finite, changes, strict=True)
    return tuple(Visualization(*parts) for parts in made)


def read_visualization(png: bytes, recipe: Recipe, device: torch.device) -> Tensor:
    """Reads a stored visualization as the network takes it: (1, channels, height, width)."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        pixels = np.array(image.convert(MODES[recipe.channels]))
    levels = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).to(device)
    return Normalisation(recipe, device)(levels.permute(2, 0, 1)[None].float() / 255)


def seed_of(*parts: object) -> int:
    """Derives a seed that depends on every part, and on nothing else.

    >>> seed_of(0, "conv", 3) == seed_of(0, "conv", 3) != seed_of(1, "conv", 3)
    True
    """
    text = "\n".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _transformed(images: Tensor, chance: torch.Generator, size: tuple[int, int]) -> Tensor:
    """The images shifted, turned and scaled by chance, each alike.

    A shift moves what leaves at one side in at the other: a Fourier series goes on there. What a
    turn brings in at the corners is zero, the mean colour.
    """
    down, right, turn, zoom = (2 * torch.rand(4, generator=chance) - 1).tolist()
    shifts = (round(down * _SHIFT * size[0]), round(right * _SHIFT * size[1]))
    return affine(
        images.roll(shifts, (2, 3)),
        angle=turn * _TURN_DEGREES,
        translate=[0, 0],
        scale=1 + zoom * _ZOOM,
        shear=[0.0, 0.0],
        interpolation=InterpolationMode.BILINEAR,
    )
