"""Pictures of every kind become the pixels that they should."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from circuit_atlas.jobs.images.decode import UnreadableImageError, decode, preprocess
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from tests.jobs.images.pictures import EXACT, SIZE, coloured, png


def seen(data: bytes) -> NDArray[np.uint8]:
    return preprocess(decode(data).image, EXACT)


def test_grey_is_the_same_in_all_colours() -> None:
    grey = coloured()[..., 0]
    assert np.array_equal(seen(png(Image.fromarray(grey))), np.stack([grey] * 3, axis=-1))


def test_one_bit_is_black_and_white() -> None:
    grey = coloured()[..., 0] > 127
    expected = np.stack([grey * 255] * 3, axis=-1)
    assert np.array_equal(seen(png(Image.fromarray(grey))), expected)


def over_white(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.float64]:
    weight = alpha[..., None] / 255.0
    return rgb * weight + 255 * (1 - weight)


def test_transparency_lies_over_white() -> None:
    rgb, alpha = coloured(), coloured(1)[..., 0]
    alpha[0, 0], alpha[0, 1] = 0, 255
    found = seen(png(Image.fromarray(np.dstack([rgb, alpha]))))
    assert tuple(found[0, 0]) == (255, 255, 255)
    assert np.array_equal(found[0, 1], rgb[0, 1])
    # Pillow composes in whole numbers.
    assert np.abs(found - over_white(rgb, alpha)).max() <= 1


def test_grey_with_transparency_lies_over_white() -> None:
    grey, alpha = coloured()[..., 0], coloured(1)[..., 0]
    found = seen(png(Image.fromarray(np.dstack([grey, alpha]))))
    assert np.abs(found - over_white(np.stack([grey] * 3, axis=-1), alpha)).max() <= 1


def test_a_palette_is_looked_up_and_its_transparent_entry_is_white() -> None:
    colours = [(200, 10, 30), (0, 90, 250), (7, 7, 7)]
    index = (coloured()[..., 0] % 3).astype(np.uint8)
    image = Image.fromarray(index).convert("P")
    image.putdata(index.ravel().tolist())
    image.putpalette([value for colour in colours for value in colour])
    assert image.mode == "P"
    expected = np.array(colours, dtype=np.uint8)[index]
    assert np.array_equal(seen(png(image)), expected)
    expected[index == 1] = 255
    assert np.array_equal(seen(png(image, transparency=1)), expected)


def test_sixteen_bits_are_scaled_and_rounded() -> None:
    values = np.linspace(0, 65535, 48).astype(np.uint16).reshape(SIZE)
    data = png(Image.fromarray(values))
    assert decode(data).mode.startswith("I")
    expected = np.rint(values / 257).astype(np.uint8)
    assert np.array_equal(seen(data), np.stack([expected] * 3, axis=-1))


def test_thirty_two_bits_and_floats_have_no_fixed_range() -> None:
    for values, reason in (
        (np.full(SIZE, 70_000, dtype=np.int32), "exceed 16 bits"),
        (np.zeros(SIZE, dtype=np.float32), "mode 'F' have no fixed range"),
    ):
        stream = io.BytesIO()
        Image.fromarray(values).save(stream, "TIFF")
        with pytest.raises(UnreadableImageError, match=reason):
            decode(stream.getvalue())


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda stored: stored),
        (2, lambda stored: stored[:, ::-1]),
        (3, lambda stored: np.rot90(stored, 2)),
        (4, lambda stored: stored[::-1]),
        (5, lambda stored: stored.transpose(1, 0, 2)),
        (6, lambda stored: np.rot90(stored, -1)),
        (7, lambda stored: np.rot90(stored, 2).transpose(1, 0, 2)),
        (8, lambda stored: np.rot90(stored, 1)),
    ],
)
def test_exif_turns_a_picture_upright(
    orientation: int, upright: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
) -> None:
    stored = coloured()
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(png(Image.fromarray(stored), exif=exif.tobytes()))
    assert np.array_equal(np.asarray(picture.image), upright(stored))
    assert (picture.height, picture.width) == SIZE


def test_cmyk_becomes_rgb() -> None:
    stream = io.BytesIO()
    Image.new("CMYK", (8, 6), (0, 255, 255, 0)).save(stream, "TIFF")
    assert np.array_equal(seen(stream.getvalue())[0, 0], [255, 0, 0])


def test_resizing_and_cropping_are_torchvisions() -> None:
    from torchvision.transforms._presets import ImageClassification

    rng = np.random.default_rng(3)
    rgb = Image.fromarray(rng.integers(0, 256, (70, 50, 3)).astype(np.uint8))
    given = PreprocessingSpec(resize=40, crop=32)
    expected = ImageClassification(crop_size=32, resize_size=40)(rgb)
    pixels = torch.from_numpy(preprocess(rgb, given)).permute(2, 0, 1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (given.mean, given.std))
    assert torch.equal((pixels.float() / 255 - mean) / std, expected)


def test_a_picture_too_thin_to_resize_is_left_out() -> None:
    with pytest.raises(UnreadableImageError, match="30000 x 1 pixels are too long and thin"):
        preprocess(Image.new("RGB", (30_000, 1)), PreprocessingSpec(resize=256, crop=224))


def test_a_format_that_would_start_a_program_is_unknown() -> None:
    stream = io.BytesIO()
    Image.fromarray(coloured()).save(stream, "EPS")
    with pytest.raises(UnreadableImageError, match="not an image of a known format"):
        decode(stream.getvalue())
