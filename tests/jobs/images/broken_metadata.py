"""Images whose pixels are whole and whose metadata is broken, byte by byte."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image

from tests.jobs.images.pictures import coloured

TURNED = Image.Transpose.ROTATE_270
ORIENTATION = (0x112, 3, 1, struct.pack("<H", 6))
X_RESOLUTION_AS_TEXT = (0x11A, 2, 3, b"72\0")
WIDTH_OF_MINUS_5 = (0x100, 9, 1, struct.pack("<i", -5))


def exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """Exif data with entries of tag, type, count and value."""
    listed = b"".join(
        struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
        for tag, kind, count, value in entries
    )
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + listed + bytes(4)


def chunk(name: bytes, content: bytes, *, broken: bool = False) -> bytes:
    checksum = zlib.crc32(name + content) ^ broken
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png_with(*chunks: bytes) -> bytes:
    """A PNG of `coloured()` with chunks behind its header."""
    stream = io.BytesIO()
    Image.fromarray(coloured()).save(stream, "PNG")
    data = stream.getvalue()
    return data[:33] + b"".join(chunks) + data[33:]


def fine(kind: str, data: bytes) -> bytes:
    """A file of `coloured()` in a format that loses little or nothing, with that Exif data."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow remarks on what it is given to write
        Image.fromarray(coloured()).save(
            stream, kind, exif=data, lossless=True, quality=100, subsampling="4:4:4"
        )
    return stream.getvalue()


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    """A JPEG of large pixels with application segments behind its first marker."""
    stream = io.BytesIO()
    Image.fromarray(np.kron(coloured(), np.ones((8, 8, 1), np.uint8))).save(stream, "JPEG")
    data = stream.getvalue()
    listed = b"".join(
        bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
        for marker, content in segments
    )
    return data[:2] + listed + data[2:]


def text(keyword: bytes, content: bytes) -> bytes:
    return chunk(b"tEXt", keyword + b"\0" + content)


WHOLE_PNG = {
    "garbage eXIf": png_with(chunk(b"eXIf", b"garbage!" * 9)),
    "eXIf of a bad checksum": png_with(chunk(b"eXIf", exif(ORIENTATION), broken=True)),
    "raw profile that is no number": png_with(
        text(b"Raw profile type exif", b"\nexif\n      12\nno numbers\n")
    ),
    "text of a bad checksum": png_with(chunk(b"tEXt", b"a\0b", broken=True)),
    "long text": png_with(text(b"a", b"b" * 1_500_000)),
    "long packed text": png_with(chunk(b"zTXt", b"a\0\0" + zlib.compress(b"b" * 1_500_000))),
    "long international text": png_with(
        chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"b" * 1_500_000))
    ),
    "much text": png_with(*[text(b"a", b"b" * 1_000_000)] * 70),
    "packed in an unknown way": png_with(chunk(b"zTXt", b"a\0\x09zz")),
    "large colour profile": png_with(chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(5_000_000)))),
    "short resolution": png_with(chunk(b"pHYs", b"\0\0")),
    "short gamma": png_with(chunk(b"gAMA", b"\0")),
    "unknown chunk of a bad checksum": png_with(chunk(b"abCd", b"xx", broken=True)),
    "broken animation": png_with(chunk(b"acTL", b"\0")),
}
TURNED_PNG = {
    "eXIf before a broken text": png_with(
        chunk(b"eXIf", exif(ORIENTATION)), chunk(b"tEXt", b"a\0b", broken=True)
    ),
    "raw profile": png_with(
        text(
            b"Raw profile type exif",
            b"\nexif\n      32\n" + (b"Exif\0\0" + exif(ORIENTATION)).hex().encode(),
        )
    ),
    "resolution as text": png_with(chunk(b"eXIf", exif(ORIENTATION, X_RESOLUTION_AS_TEXT))),
    "width of -5": png_with(chunk(b"eXIf", exif(WIDTH_OF_MINUS_5, ORIENTATION))),
    "garbage eXIf beside XMP": png_with(
        chunk(b"eXIf", b"garbage"),
        chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'),
    ),
}
JPEG = {
    "garbage": (jpeg_with((0xE1, b"Exif\0\0garbage")), False),
    "short Exif": (jpeg_with((0xE1, b"Exif\0\0II")), False),
    "short colour profile": (jpeg_with((0xE2, b"ICC_PROFILE\0")), False),
    "broken list of images": (jpeg_with((0xE2, b"MPF\0garbage")), False),
    "resolution as text": (
        jpeg_with((0xE1, b"Exif\0\0" + exif(ORIENTATION, X_RESOLUTION_AS_TEXT))),
        True,
    ),
    "width of -5": (
        jpeg_with((0xE1, b"Exif\0\0" + exif(WIDTH_OF_MINUS_5, ORIENTATION))),
        True,
    ),
    "fewer entries than it says": (
        jpeg_with((0xE1, b"Exif\0\0" + exif(ORIENTATION, ORIENTATION)[:26])),
        True,
    ),
    "colour profile that is short": (
        jpeg_with((0xE1, b"Exif\0\0" + exif(ORIENTATION)), (0xE2, b"ICC_PROFILE\0")),
        True,
    ),
}
