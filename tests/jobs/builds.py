"""What tests of whole builds share: pictures of noise, and a store laid out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.plan import resolve
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.template import create


def write_noise(folder: Path, *, count: int, side: int) -> None:
    """So many square pictures, always the same, into a new folder."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for n in range(count):
        pixels = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{n:02}.png")


def lay_out(spec: BuildSpec) -> None:
    """The store of a build, before any unit."""
    build = resolve(spec)
    store = open_store(spec.run.store, create=True)
    create(
        store,
        build.header,
        build.layers,
        build.images,
        build.plan,
        pixels=build.store_pixels(store),
        directions=build.directions,
        unit_labels=build.unit_labels,
    )
