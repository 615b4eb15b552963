"""What lies in an image file beside its pixels: the orientation, and what may be broken there.

A camera, an editor or a download often breaks a text, a colour profile or a resolution, and the
pixels are whole all the same: such an image is used.
"""

from __future__ import annotations

import re
import zlib
from typing import Literal

from PIL import Image

_ORIENTATION = 0x0112
_TURNED: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
# What decides a JPEG's colours is Adobe's segment alone; Exif holds the orientation.
_JPEG_ADOBE, _JPEG_EXIF = 0xEE, 0xE1
_JPEG_COMMENT = 0xFE
_JPEG_SCAN = 0xDA
# An item of AVIF is declared by an `infe` box: version, flags, id, protection, then its type.
_AVIF_EXIF = re.compile(rb"(infe\x02.{7})Exif", re.DOTALL)
# Byte order of the numbers in a TIFF file, by how it begins.
_TIFF: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}
# Tags that say what the pixels are: TIFF 6.0, sections 2 to 22.
_TIFF_PIXELS = frozenset(
    {*range(254, 260), 262, 266, 273, 274, *range(277, 280), 284, 292, 293, *range(317, 326)}
    | {330, 332, 334, 336, *range(338, 342), 347, *range(512, 522), *range(529, 533)}
)
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=\"|>)([1-8])")


def upright(image: Image.Image) -> Image.Image:
    """Turns an image as its Exif or XMP data says; as it is where they can't be read.

    `PIL.ImageOps.exif_transpose` also writes the data anew without the orientation, and fails where
    any other entry cannot be written, such as a width of -5.
    """
    turn = _TURNED.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def without_metadata(data: bytes) -> bytes:
    """Leaves out of a PNG, JPEG, TIFF or AVIF file what decides no pixel; others stay as they are.

    Exif data that looks whole is kept, for the orientation.
    """
    if data.startswith(_PNG):
        return _png(data)
    if data.startswith(_JPEG):
        return _jpeg(data)
    if data[:4] in _TIFF:
        return _tiff(data)
    if data[4:8] == b"ftyp":
        return _AVIF_EXIF.sub(rb"\1free", data)
    return data


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # whatever Pillow stumbles over: the data is broken
        xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
        found = _XMP_ORIENTATION.search(xmp.encode() if isinstance(xmp, str) else xmp)
        return int(found[1]) if found else None


def _png(data: bytes) -> bytes:
    """Keeps critical chunks, whose names begin with a capital, and transparency; see the PNG
    specification, section 5.4. What follows a chunk that is cut short is kept."""
    kept, at = [_PNG], len(_PNG)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        name, body = data[at + 4 : at + 8], data[at + 4 : end - 4]
        if end > len(data):
            break
        whole = zlib.crc32(body) == int.from_bytes(data[end - 4 : end], "big")
        if name[:1].isupper() or name == b"tRNS" or (name == b"eXIf" and whole):
            kept.append(data[at:end])
        at = end
    return b"".join(kept) + data[at:]


def _jpeg(data: bytes) -> bytes:
    """Drops application segments but Exif and Adobe's, and comments, up to the first scan."""
    kept, at = [_JPEG], len(_JPEG)
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker = data[at + 1]
        if marker in (0xFF, _JPEG_SCAN):
            break
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        is_exif = marker == _JPEG_EXIF and data[at + 4 : at + 8] == b"Exif"
        application = 0xE0 <= marker <= 0xEF and marker != _JPEG_ADOBE and not is_exif
        if not application and marker != _JPEG_COMMENT:
            kept.append(data[at:end])
        at = end
    return b"".join(kept) + data[at:]


def _tiff(data: bytes) -> bytes:
    """Keeps the entries of the first image that say what its pixels are, and no other image."""
    order = _TIFF[data[:4]]
    start = int.from_bytes(data[4:8], order)
    count = int.from_bytes(data[start : start + 2], order)
    entries = [data[start + 2 + 12 * n : start + 14 + 12 * n] for n in range(count)]
    kept = [entry for entry in entries if int.from_bytes(entry[:2], order) in _TIFF_PIXELS]
    listed = len(kept).to_bytes(2, order) + b"".join(kept) + bytes(4)
    return data[:start] + listed + data[start + len(listed) :]
