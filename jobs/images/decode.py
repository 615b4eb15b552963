"""From one encoded image to the pixels that the network sees.

Every kind of image is turned upright as its EXIF data says and becomes one of 8 bits: a palette is
looked up, 16 bits are scaled to 8 and rounded. It gets as many channels as the network reads: grey,
grey and opacity, red, green and blue, or these and opacity. Where there is to be no opacity,
anything transparent is laid over white, as a page would show it. The first frame of an animation
counts. What a file holds is told by its content, not by its name.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import center_crop, resize

from circuit_atlas.jobs.images.metadata import upright, without_metadata
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.storage_schema.wording import one_line

# What `convert("RGB")` turns into 8-bit colours without a choice of ours.
_PLAIN_MODES = frozenset({"1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV"})
# Only what Pillow decodes by itself: of others, EPS would start a program on the file.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_JPEG_QUALITY = 85
_TRANSPARENT = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Pillow's mode of images with so many channels."""


class UnreadableImageError(Exception):
    """An image that is left out; the message says why, in one line."""


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image.

    Attributes:
        width, height: as in the file, in pixels.
        mode: Pillow's, as in the file.
        image: upright, in the mode of the channels that were asked for.
    """

    width: int
    height: int
    mode: str
    image: Image.Image


def decode(data: bytes, *, channels: int = 3) -> DecodedImage:
    """Decodes a whole image, however broken its metadata.

    Args:
        data: the encoded file.
        channels: one of `MODES`. Default: 3.

    Raises:
        UnreadableImageError: the pixels are not whole, or of no known format.
    """
    if not data:
        raise UnreadableImageError("the file is empty")
    try:
        return _decoded(data, channels)
    except UnreadableImageError as error:
        pixels_alone = without_metadata(data)
        if pixels_alone == data:
            raise
        try:
            return _decoded(pixels_alone, channels)
        except UnreadableImageError:
            raise error from None


def _decoded(data: bytes, channels: int) -> DecodedImage:
    try:
        with warnings.catch_warnings():
            # Pillow's remarks on odd metadata, and on images that are large but allowed.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                # Some formats hold metadata behind the pixels.
                image.load()
                converted = _with_channels(upright(image), channels)
                return DecodedImage(image.width, image.height, image.mode, converted)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError("not an image of a known format") from error
    except Exception as error:  # decoders of broken data raise whatever they stumble over
        raise UnreadableImageError(one_line(error)) from error


def preprocess(image: Image.Image, preprocessing: PreprocessingSpec) -> NDArray[np.uint8]:
    """Resizes and crops an image for the network: (height, width, channels), 0..255.

    Raises UnreadableImageError for an image so long and thin that resizing its shorter side
    would fill memory.
    """
    target = preprocessing.resize
    if target is not None:
        size = list(target) if isinstance(target, tuple) else _shorter_side(image, target)
        mode = InterpolationMode(preprocessing.interpolation)
        image = resize(image, size, interpolation=mode, antialias=True)
    if preprocessing.crop is not None:
        image = center_crop(image, list(preprocessing.size))
    pixels = np.array(image, dtype=np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Encodes pixels (height, width, 3) as a small JPEG to look at."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()


def _shorter_side(image: Image.Image, pixels: int) -> list[int]:
    long, short = max(image.size), min(image.size)
    if pixels * pixels * long / short > (Image.MAX_IMAGE_PIXELS or np.inf):
        raise UnreadableImageError(
            f"{image.width} x {image.height} pixels are too long and thin to resize to {pixels}"
        )
    return [pixels]


def _with_channels(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I"):
        image = _from_16_bit(image)
    transparent = image.mode in _TRANSPARENT or image.has_transparency_data
    if not transparent and image.mode not in _PLAIN_MODES:
        raise UnreadableImageError(f"images of mode {image.mode!r} have no fixed range of values")
    image = image.convert("RGBA" if transparent else "RGB")
    if transparent and MODES[channels] not in _TRANSPARENT:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
    return image.convert(MODES[channels])


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits; Pillow's 32-bit mode is taken where all values are of 16."""
    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise UnreadableImageError(f"values from {values.min()} to {values.max()} exceed 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 = 255 * 257
