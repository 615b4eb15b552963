"""From one encoded image to the pixels that the network sees.

Every kind of image becomes 8-bit RGB, turned upright as its EXIF data says: grey in all three
colours, a palette looked up, 16 bits scaled to 8 and rounded, and anything transparent laid over
white, as a page would show it. The first frame of an animation counts. What a file holds is told
by its content, not by its name.
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
from circuit_atlas.jobs.spec.sections import PreprocessingSpec
from circuit_atlas.storage_schema.wording import one_line

# What `convert("RGB")` turns into 8-bit colours without a choice of ours.
_PLAIN_MODES = frozenset({"1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV"})
# Only what Pillow decodes by itself: of others, EPS would start a program on the file.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_JPEG_QUALITY = 85


class UnreadableImageError(Exception):
    """An image that is left out; the message says why, in one line."""


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image.

    Attributes:
        width, height: as in the file, in pixels.
        mode: Pillow's, as in the file.
        rgb: the image upright, in RGB.
    """

    width: int
    height: int
    mode: str
    rgb: Image.Image


def decode(data: bytes) -> DecodedImage:
    """Decodes a whole image, however broken its metadata; UnreadableImageError where its pixels
    are not whole."""
    if not data:
        raise UnreadableImageError("the file is empty")
    try:
        return _decoded(data)
    except UnreadableImageError as error:
        pixels_alone = without_metadata(data)
        if pixels_alone == data:
            raise
        try:
            return _decoded(pixels_alone)
        except UnreadableImageError:
            raise error from None


def _decoded(data: bytes) -> DecodedImage:
    try:
        with warnings.catch_warnings():
            # Pillow's remarks on odd metadata, and on images that are large but allowed.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                # Some formats hold metadata behind the pixels.
                image.load()
                return DecodedImage(image.width, image.height, image.mode, _rgb(upright(image)))
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError("not an image of a known format") from error
    except Exception as error:  # decoders of broken data raise whatever they stumble over
        raise UnreadableImageError(one_line(error)) from error


def preprocess(rgb: Image.Image, preprocessing: PreprocessingSpec) -> NDArray[np.uint8]:
    """Resizes and crops an image for the network: (height, width, 3), 0..255.

    Raises UnreadableImageError for an image so long and thin that resizing its shorter side
    would fill memory.
    """
    target = preprocessing.resize
    if target is not None:
        size = list(target) if isinstance(target, tuple) else _shorter_side(rgb, target)
        mode = InterpolationMode(preprocessing.interpolation)
        rgb = resize(rgb, size, interpolation=mode, antialias=True)
    if preprocessing.crop is not None:
        rgb = center_crop(rgb, list(preprocessing.size))
    return np.array(rgb, dtype=np.uint8)


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Encodes pixels (height, width, 3) as a small JPEG to look at."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()


def _shorter_side(rgb: Image.Image, pixels: int) -> list[int]:
    long, short = max(rgb.size), min(rgb.size)
    if pixels * pixels * long / short > (Image.MAX_IMAGE_PIXELS or np.inf):
        raise UnreadableImageError(
            f"{rgb.width} x {rgb.height} pixels are too long and thin to resize to {pixels}"
        )
    return [pixels]


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if image.mode not in _PLAIN_MODES:
        raise UnreadableImageError(f"images of mode {image.mode!r} have no fixed range of values")
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits; Pillow's 32-bit mode is taken where all values are of 16."""
    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise UnreadableImageError(f"values from {values.min()} to {values.max()} exceed 16 bits")
    grey = ((values + 128) // 257).astype(np.uint8)  # 65535 = 255 * 257
    return Image.fromarray(grey).convert("RGB")
