"""The gallery's image set: crops of free photos, and pictures drawn here.

The photos lie in scikit-image's wheel; those that its documentation calls public domain or CC0 are
taken, and no other. Crops for scoring are of a photo's left part and held-out ones of its right, so
that no pixel is in both. Drawn pictures have numbers of their own in each split.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont

LICENCES = {
    "astronaut.png": "public domain",
    "brick.png": "CC0",
    "camera.png": "CC0",
    "chelsea.png": "CC0",
    "clock_motion.png": "public domain",
    "coffee.png": "CC0",
    "grass.png": "CC0",
    "gravel.png": "CC0",
    "horse.png": "CC0",
    "hubble_deep_field.jpg": "public domain",
    "retina.jpg": "CC0",
    "rocket.jpg": "public domain",
    "text.png": "public domain",
}
"""File in `skimage/data` -> its licence, as the docstring of its function in skimage.data says."""

SIZE = 224  # pixels a side
HELD_OUT = "held-out"
"""Begins the name of each file that is held out."""

_LEFT = 0.6  # of a photo's width: the part that scoring crops are of
_SCALES = {"scoring": (0.95, 0.6, 0.4), HELD_OUT: (0.95, 0.6)}
_DRAWN = {"scoring": 6, HELD_OUT: 3}
_CANVAS = 2 * SIZE  # drawn larger and made smaller, so that edges are smooth


def make(folder: Path) -> list[str]:
    """Writes the image set, a folder a class, and lists the names of those to hold out.

    Raises:
        importlib.metadata.PackageNotFoundError: scikit-image is not installed.
    """
    held_out = []
    for label, name, picture in _pictures():
        path = folder / label / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        if name.startswith(HELD_OUT):
            held_out.append(f"{label}/{path.name}")
    return held_out


def _pictures() -> Iterator[tuple[str, str, Image.Image]]:
    """Class, name in its split, and picture."""
    for file in LICENCES:
        photo = _photo(file)
        random = np.random.default_rng(list(file.encode()))
        for split, scales in _SCALES.items():
            for number, scale in enumerate(scales):
                yield Path(file).stem, f"{split}-{number}", _crop(photo, split, scale, random)
    for label, draw in _KINDS.items():
        random = np.random.default_rng(list(label.encode()))
        for split, count in _DRAWN.items():
            for number in range(count):
                yield label, f"{split}-{number}", draw(random)


def _photo(file: str) -> Image.Image:
    """One photo of the wheel, in RGB on white."""
    path = importlib.metadata.distribution("scikit-image").locate_file(f"skimage/data/{file}")
    with Image.open(str(path)) as photo:
        clear = photo.convert("RGBA")
    ground = Image.new("RGBA", clear.size, "white")
    ground.alpha_composite(clear)
    return ground.convert("RGB")


def _crop(photo: Image.Image, split: str, scale: float, random: Generator) -> Image.Image:
    """A square of one split's part of a photo, at a random place."""
    edge = round(_LEFT * photo.width)
    start, stop = (edge, photo.width) if split == HELD_OUT else (0, edge)
    side = int(scale * min(stop - start, photo.height))
    left = start + int(random.integers(stop - start - side + 1))
    top = int(random.integers(photo.height - side + 1))
    box = (left, top, left + side, top + side)
    return photo.crop(box).resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def _grating(random: Generator) -> Image.Image:
    """Stripes of one direction and wavelength, between two colours."""
    angle, phase = random.uniform(0, np.pi), random.uniform(0, 2 * np.pi)
    wavelength = 6 * 8 ** random.uniform()  # 6 to 48 pixels
    rows, columns = np.mgrid[:SIZE, :SIZE]
    along = np.cos(angle) * columns + np.sin(angle) * rows
    wave = (1 + np.sin(2 * np.pi * along / wavelength + phase)) / 2
    dark, light = (np.array(_colour(random), float) for _ in range(2))
    mixed = dark + wave[..., None] * (light - dark)
    return Image.fromarray(mixed.astype(np.uint8))


def _curves(random: Generator) -> Image.Image:
    """Arcs of circles."""
    picture, pen = _canvas(random)
    for _ in range(5):
        x, y = random.integers(_CANVAS, size=2)
        radius = random.integers(30, 200)
        start = random.integers(360)
        stop = start + random.integers(60, 240)
        width = int(random.integers(6, 30))
        box = (x - radius, y - radius, x + radius, y + radius)
        pen.arc(tuple(map(int, box)), int(start), int(stop), fill=_colour(random), width=width)
    return _finished(picture)


def _shapes(random: Generator) -> Image.Image:
    """Circles, and polygons of three to six corners."""
    picture, pen = _canvas(random)
    for corners in (0, 3, 4, 5, 6):
        x, y = (int(place) for place in random.integers(40, _CANVAS - 40, size=2))
        radius, turn = int(random.integers(30, 110)), int(random.integers(360))
        if corners:
            pen.regular_polygon((x, y, radius), corners, rotation=turn, fill=_colour(random))
        else:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_colour(random))
    return _finished(picture)


def _letters(random: Generator) -> Image.Image:
    """Capital letters of many sizes."""
    picture, pen = _canvas(random)
    for _ in range(8):
        letter = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[int(random.integers(26))]
        font = ImageFont.load_default(size=int(random.integers(60, 220)))
        place = tuple(int(one) for one in random.integers(_CANVAS - 120, size=2))
        pen.text(place, letter, font=font, fill=_colour(random))
    return _finished(picture)


_KINDS: dict[str, Callable[[Generator], Image.Image]] = {
    "drawn_gratings": _grating,
    "drawn_curves": _curves,
    "drawn_shapes": _shapes,
    "drawn_letters": _letters,
}


def _canvas(random: Generator) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (_CANVAS, _CANVAS), _colour(random))
    return picture, ImageDraw.Draw(picture)


def _finished(picture: Image.Image) -> Image.Image:
    return picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def _colour(random: Generator) -> tuple[int, int, int]:
    red, green, blue = (int(part) for part in random.integers(256, size=3))
    return red, green, blue
