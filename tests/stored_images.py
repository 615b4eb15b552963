"""Images of a test's atlas, with their pixels in its store."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from circuit_atlas.storage_schema.image_table import IMAGES
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.pixel_chunks import checksum, put_chunk
from circuit_atlas.storage_schema.pixels import CHUNK_IMAGES, PixelForm, PixelsRecord


def store_images(
    objects: Objects,
    columns: Mapping[str, Sequence[object]],
    pictures: Sequence[bytes | NDArray[np.uint8] | None],
) -> dict[str, Any]:
    """The arguments `images` and `pixels` of `template.create`.

    `columns` are those of the table but for where pixels are; `pictures`, files or (height, width,
    3), are None where an image is left out, and of one size.
    """
    values = [
        np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
        if isinstance(picture, bytes)
        else picture
        for picture in pictures
    ]
    values = [None if array is None else np.moveaxis(array, -1, 0) for array in values]
    shape = next((array.shape for array in values if array is not None), (3, 1, 1))
    form = PixelForm("uint8", shape, False, 255)
    whole = np.zeros((len(values), *shape), np.uint8)
    for array, value in zip(whole, values, strict=True):
        array[:] = 0 if value is None else value
    chunks = tuple(
        put_chunk(objects, whole[start : start + CHUNK_IMAGES])
        for start in range(0, len(values), CHUNK_IMAGES)
    )
    checksums = [None if array is None else checksum(array) for array in values]
    table = IMAGES.from_columns(
        {**columns, "place": list(range(len(values))), "pixels_crc32c": checksums}
    )
    low, high = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return {"images": table, "pixels": PixelsRecord(form, low, high, CHUNK_IMAGES, chunks)}
