"""Whole pixels are read whatever lies beside them, and turned where that can be read."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from circuit_atlas.jobs.images.decode import UnreadableImageError, decode
from circuit_atlas.jobs.images.metadata import without_metadata
from tests.jobs.images.broken_metadata import (
    JPEG,
    ORIENTATION,
    TURNED,
    TURNED_PNG,
    WHOLE_PNG,
    WIDTH_OF_MINUS_5,
    X_RESOLUTION_AS_TEXT,
    chunk,
    exif,
    fine,
    jpeg_with,
    png_with,
)
from tests.jobs.images.pictures import coloured, png


def upright() -> Image.Image:
    return Image.fromarray(coloured()).transpose(TURNED)


@pytest.mark.parametrize("case", WHOLE_PNG)
def test_a_whole_png_is_read(case: str) -> None:
    assert np.array_equal(np.asarray(decode(WHOLE_PNG[case]).image), coloured())


@pytest.mark.parametrize("case", TURNED_PNG)
def test_a_png_is_turned_where_its_orientation_can_be_read(case: str) -> None:
    assert np.array_equal(np.asarray(decode(TURNED_PNG[case]).image), np.asarray(upright()))


@pytest.mark.parametrize("case", JPEG)
def test_a_whole_jpeg_is_read_and_turned(case: str) -> None:
    data, turned = JPEG[case]
    plain = decode(jpeg_with()).image
    expected = plain.transpose(TURNED) if turned else plain
    assert np.array_equal(np.asarray(decode(data).image), np.asarray(expected))


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_webp_and_avif_with_broken_metadata(kind: str) -> None:
    plain = np.asarray(decode(fine(kind, b"")).image).astype(int)
    assert np.abs(plain - coloured()).mean() < 3
    assert np.array_equal(np.asarray(decode(fine(kind, b"II*\0garbage")).image), plain)
    if kind == "WEBP":  # Pillow writes no such AVIF
        turned = np.asarray(Image.fromarray(plain.astype(np.uint8)).transpose(TURNED))
        for broken in (X_RESOLUTION_AS_TEXT, WIDTH_OF_MINUS_5):
            data = fine(kind, exif(ORIENTATION, broken))
            assert np.array_equal(np.asarray(decode(data).image), turned)


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_with_a_description_that_lies_nowhere(big: bool) -> None:
    stream = io.BytesIO()
    Image.fromarray(coloured()).save(
        stream, "TIFF", tiffinfo={274: 6, 270: "what it shows"}, dpi=(72, 72), big_endian=big
    )
    whole = bytearray(stream.getvalue())
    order = "<" if whole[:2] == b"II" else ">"
    assert np.array_equal(np.asarray(decode(bytes(whole)).image), np.asarray(upright()))
    (start,) = struct.unpack_from(f"{order}I", whole, 4)
    (count,) = struct.unpack_from(f"{order}H", whole, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from(f"{order}H", whole, entry) == (270,):
            struct.pack_into(f"{order}HII", whole, entry + 2, 5, 1, 0xFFFFFF)
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(whole))
    assert np.array_equal(np.asarray(decode(bytes(whole)).image), np.asarray(upright()))


def test_transparency_is_kept_and_colours_of_cmyk_are_right() -> None:
    rgba = Image.fromarray(np.dstack([coloured(), coloured(1)[..., :1]]))
    whole, broken = png(rgba), chunk(b"tEXt", b"a\0b", broken=True)
    assert decode(whole[:33] + broken + whole[33:]).image == decode(whole).image
    palette = Image.fromarray(coloured()).quantize(4)
    whole = png(palette, transparency=1)
    assert decode(whole[:33] + broken + whole[33:]).image == decode(whole).image
    stream = io.BytesIO()
    Image.fromarray(coloured()).convert("CMYK").save(stream, "JPEG")
    whole = stream.getvalue()
    assert b"Adobe" in whole
    bad = b"\xff\xe2\0\x0eICC_PROFILE\0"
    assert decode(whole[:2] + bad + whole[2:]).image == decode(whole).image


def test_broken_pixels_stay_broken() -> None:
    data = png_with(chunk(b"tEXt", b"a\0b", broken=True))
    with pytest.raises(UnreadableImageError):
        decode(data[: len(data) // 2])
    with pytest.raises(UnreadableImageError):
        decode(png_with()[:60])
    assert without_metadata(b"GIF89a") == b"GIF89a"
