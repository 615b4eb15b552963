"""Pictures of a few pixels for the tests, and their loading with no change of a pixel."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from obstore.store import MemoryStore
from PIL import Image

from circuit_atlas.jobs.images.image_set import ImageSet
from circuit_atlas.jobs.images.prepared_images import load_images
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.storage_schema.errors import ImageError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.pixel_chunks import PixelChunks

SIZE = (6, 8)
EXACT = PreprocessingSpec(resize=SIZE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def coloured(seed: int = 0) -> NDArray[np.uint8]:
    shape = (*SIZE, 3)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def shown(images: ImageSet, image: int) -> NDArray[np.uint8]:
    """An image as a page would show it, by way of a store."""
    objects = Objects(MemoryStore(), location="memory:")
    record, info = images.store(objects), images.infos[image]
    assert info.pixels_crc32c is not None
    return record.shown(PixelChunks(objects, record).values(info.place, info.pixels_crc32c))


def png(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return stream.getvalue()


def spec_of(source: Path | str, *, seed: int = 0, **images: Any) -> BuildSpec:
    return BuildSpec.from_values(
        {
            "model": {"reference": "demo:squeezenet1_1"},
            "images": {"source": str(source), "held_out": 0.0, **images},
            "layers": [{"name": "any"}],
            "circuits": {"seed": seed},
        }
    )


def load(source: Path | str, *, seed: int = 0, **images: Any) -> ImageSet:
    return load_images(spec_of(source, seed=seed, **images), EXACT)


def refusal(source: Path | str, **images: Any) -> str:
    with pytest.raises(ImageError) as caught:
        load(source, **images)
    assert "\n" not in str(caught.value)
    return str(caught.value)
