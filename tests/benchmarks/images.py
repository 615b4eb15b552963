"""Photos prepared: against decoding them alone, and what a start and a pass cost afterwards."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from PIL import Image

from circuit_atlas.jobs.images.decode import decode, preprocess
from circuit_atlas.jobs.images.image_set import ImageSet
from circuit_atlas.jobs.images.preparation import Preparation
from circuit_atlas.jobs.images.prepared_images import gathered
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.jobs.tasks.atlas_images import mark_whole, of_source
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.template import Plan, create
from circuit_atlas.storage_schema.version import SCHEMA_VERSION
from tests.benchmarks.engine import straight_line
from tests.benchmarks.measured import Row

_PREPROCESSING = PreprocessingSpec(resize=256, crop=224)
_DIFFERENT = 100
_SPEC = '{"model":{}}'
_BATCH = 16


def photos(*, counts: tuple[int, ...]) -> Row:
    """So many photos of 500 x 375, a folder each; all times are of the processor.

    The slow reference decodes, resizes and crops them, and does nothing else. In `facts`, of the
    largest folder: the times of a later start, and of a later pass over all images, an image; both
    as shares of decoding; and the residual of a line through the times by number.
    """
    prepared, decoded = [], []
    pass_s = [0.0, 0.0]
    with tempfile.TemporaryDirectory() as folder:
        # What the first image of a process loads is no part of what each image takes.
        first = _folder(Path(folder, "first"), 1)
        _prepare(_preparation(first), open_store(Path(folder, "0"), create=True))
        for count in counts:
            source = _folder(Path(folder, f"{count} photos"), count)
            objects = open_store(Path(folder, f"{count}"), create=True)
            preparation = _preparation(source)
            prepared.append(_processor_s(partial(_prepare, preparation, objects)))
            decoded.append(_processor_s(partial(_decode, source)))
            _lay_out(preparation, objects)
            started = perf_counter()
            images = of_source(_preparation(source), Reader(objects))
            start_s = perf_counter() - started
            assert images is not None
            pass_s = [_processor_s(partial(_pass, images)) for _ in range(2)]
    count = counts[-1]
    _, _, residual = straight_line(counts, prepared)
    return Row(
        work=f"{count:,} photos of 500 x 375 prepared",
        of="image",
        ours_s=prepared[-1] / count,
        slow_s=decoded[-1] / count,
        facts={
            "times decoding": prepared[-1] / decoded[-1],
            "a later start, seconds": start_s,
            "a later start, times faster than decoding": decoded[-1] / start_s,
            "a first pass, times faster than decoding": decoded[-1] / pass_s[0],
            "a later pass, times faster than decoding": decoded[-1] / pass_s[1],
            "largest residual of a line by number, share": residual,
        },
    )


def _folder(folder: Path, count: int) -> Path:
    """Photos as files of a camera are, in ten classes; each of a hundred comes again and again."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:375, :500] / 40
    originals = []
    for n in range(min(count, _DIFFERENT)):
        waves = np.sin(rows * rng.normal() + columns * rng.normal())
        colours = waves[..., None] * rng.normal(0, 30, 3) + rng.integers(60, 200, 3)
        noisy = colours + rng.normal(0, 12, (375, 500, 3))
        path = folder / f"class {n % 10}" / f"{n:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        originals.append(path)
    for n in range(_DIFFERENT, count):
        original = originals[n % _DIFFERENT]
        os.link(original, original.with_name(f"{n:06}.jpg"))
    return folder


def _preparation(source: Path) -> Preparation:
    return Preparation(_spec(source), _PREPROCESSING)


def _spec(source: Path) -> BuildSpec:
    return BuildSpec.from_values(
        {
            "model": {"reference": "none"},
            "images": {"source": str(source)},
            "layers": [{"name": "none"}],
        }
    )


def _prepare(preparation: Preparation, objects: Objects) -> None:
    for chunk in range(preparation.chunker.chunks):
        preparation.chunker.prepare(objects, chunk)


def _decode(source: Path) -> None:
    for path in source.rglob("*.jpg"):
        preprocess(decode(path.read_bytes()).image, _PREPROCESSING)


def _pass(images: ImageSet) -> None:
    for start in range(0, len(images.infos), _BATCH):
        images.batch(range(start, min(start + _BATCH, len(images.infos))))


def _lay_out(preparation: Preparation, objects: Objects) -> None:
    """An atlas of these images, without a layer."""
    images = gathered(preparation, objects)
    header = AtlasHeader(
        schema=SCHEMA_VERSION,
        model="none",
        weights_sha256=sha256(b""),
        images_sha256=images.sha256,
        spec_sha256=sha256(_SPEC.encode()),
        spec=_SPEC,
        criteria=(),
        image_criteria=(),
        fractions=(1.0,),
        ablations=(),
        response="sum_abs",
        top_images=1,
        seed=0,
        versions=(),
        input_height=224,
        input_width=224,
    )
    create(objects, header, [], images.table(), Plan(()), pixels=images.store(objects))
    mark_whole(preparation, images, objects)


def _processor_s(work: Callable[[], object]) -> float:
    started = process_time()
    work()
    return process_time() - started
