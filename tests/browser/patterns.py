"""Pictures of our own for the pictures in the documentation: patterns of ten kinds, drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

SIDE = 224
EACH = 6


def write_patterns(folder: Path) -> None:
    """A folder of class folders, always the same."""
    for kind, draw in KINDS.items():
        (folder / kind).mkdir(parents=True)
        for n in range(EACH):
            generator = np.random.default_rng([n, *kind.encode()])
            draw(generator).save(folder / kind / f"{n}.png")


def _colours(generator: np.random.Generator, count: int) -> list[tuple[int, int, int]]:
    """Colours far from each other, by hue."""
    first = generator.uniform()
    image = Image.new("HSV", (count, 1))
    for n in range(count):
        hue = int(255 * ((first + n / count + generator.uniform(-0.06, 0.06)) % 1))
        value = 255 if n % 2 else int(generator.uniform(90, 200))
        image.putpixel((n, 0), (hue, int(generator.uniform(120, 255)), value))
    return list(image.convert("RGB").getdata())


def _grid(generator: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates, turned and shifted."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - generator.uniform(0.3, 0.7)
    angle = generator.uniform(0, np.pi)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _between(share: NDArray[np.float64], generator: np.random.Generator) -> Image.Image:
    """Two colours, mixed by a share of 0 to 1 a pixel, with some grain."""
    first, second = (np.array(colour, float) for colour in _colours(generator, 2))
    pixels = first + (second - first) * share[..., None]
    pixels += generator.normal(0, 6, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def stripes(generator: np.random.Generator) -> Image.Image:
    x, _ = _grid(generator)
    return _between((np.sin(x * generator.uniform(40, 90)) > 0).astype(float), generator)


def waves(generator: np.random.Generator) -> Image.Image:
    x, y = _grid(generator)
    bent = x + 0.05 * np.sin(y * generator.uniform(10, 25))
    return _between(0.5 + 0.5 * np.sin(bent * generator.uniform(40, 80)), generator)


def rings(generator: np.random.Generator) -> Image.Image:
    x, y = _grid(generator)
    return _between(0.5 + 0.5 * np.sin(np.hypot(x, y) * generator.uniform(50, 110)), generator)


def checks(generator: np.random.Generator) -> Image.Image:
    x, y = _grid(generator)
    size = generator.uniform(25, 60)
    return _between((np.sin(x * size) * np.sin(y * size) > 0).astype(float), generator)


def spokes(generator: np.random.Generator) -> Image.Image:
    x, y = _grid(generator)
    turns = generator.integers(8, 24)
    return _between(0.5 + 0.5 * np.sin(np.arctan2(y, x) * turns), generator)


def clouds(generator: np.random.Generator) -> Image.Image:
    noise = sum(
        np.asarray(
            Image.fromarray(generator.uniform(0, 1, (n, n)).astype(np.float32)).resize(
                (SIDE, SIDE), Image.Resampling.BICUBIC
            )
        )
        / n
        for n in (4, 8, 16, 32)
    )
    share = (noise - noise.min()) / np.ptp(noise)
    return _between(share.astype(np.float64), generator)


def _scattered(generator: np.random.Generator, count: int) -> tuple[Image.Image, ImageDraw.Draw]:
    ground, *_ = _colours(generator, count)
    image = Image.new("RGB", (SIDE, SIDE), ground)
    return image, ImageDraw.Draw(image)


def dots(generator: np.random.Generator) -> Image.Image:
    image, draw = _scattered(generator, 3)
    colours = _colours(generator, 4)
    size = generator.uniform(5, 14)
    for n in range(260):
        x, y = generator.uniform(0, SIDE, 2)
        draw.ellipse((x - size, y - size, x + size, y + size), fill=colours[n % 4])
    return image


def blades(generator: np.random.Generator) -> Image.Image:
    image, draw = _scattered(generator, 3)
    greens = [(int(g * 0.4), int(g), int(g * 0.25)) for g in generator.uniform(70, 230, 6)]
    for n in range(500):
        x, y = generator.uniform(0, SIDE, 2)
        dx, dy = generator.uniform(-18, 18), generator.uniform(25, 60)
        draw.polygon([(x - 2, y), (x + 2, y), (x + dx, y - dy)], fill=greens[n % 6])
    return image


def bricks(generator: np.random.Generator) -> Image.Image:
    image, draw = _scattered(generator, 2)
    wide, tall = generator.uniform(28, 46), generator.uniform(13, 22)
    for row in range(int(SIDE / tall) + 1):
        for column in range(-1, int(SIDE / wide) + 1):
            red = generator.uniform(120, 210)
            x, y = (column + 0.5 * (row % 2)) * wide, row * tall
            fill = (int(red), int(red * 0.45), int(red * 0.3))
            draw.rectangle((x, y, x + wide - 3, y + tall - 3), fill=fill)
    return image.filter(ImageFilter.GaussianBlur(0.6))


def stars(generator: np.random.Generator) -> Image.Image:
    image, draw = _scattered(generator, 2)
    colours = _colours(generator, 3)
    for n in range(70):
        x, y = generator.uniform(0, SIDE, 2)
        size, turn = generator.uniform(8, 22), generator.uniform(0, 6)
        corners = [
            (
                x + size * (1 if k % 2 else 0.4) * np.cos(turn + k * np.pi / 5),
                y + size * (1 if k % 2 else 0.4) * np.sin(turn + k * np.pi / 5),
            )
            for k in range(10)
        ]
        draw.polygon(corners, fill=colours[n % 3])
    return image


KINDS = {
    draw.__name__: draw
    for draw in (stripes, waves, rings, checks, spokes, clouds, dots, blades, bricks, stars)
}
