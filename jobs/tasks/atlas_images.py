"""The images of an atlas, opened as it has them stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType

from circuit_atlas.jobs.images.image_set import ImageInfo
from circuit_atlas.jobs.images.preparation import Preparation, PreparedSet
from circuit_atlas.jobs.images.prepared_images import PreparedImages
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.prepared import PreparedSource
from circuit_atlas.storage_schema.reader import Reader


def atlas_images(
    reader: Reader,
    preprocessing: PreprocessingSpec,
    *,
    passed_over: Mapping[str, int] = MappingProxyType({}),
    remark: str = "",
) -> PreparedImages:
    """Opens the images of an atlas.

    Args:
        reader: the atlas.
        preprocessing: what its spec says.
        passed_over, remark: as the attributes of the images. Default: nothing.

    Raises:
        QueryError: the atlas is of a schema before 4, and has no pixels.
        CorruptError: what is on record of them is missing or altered.
    """
    pixels = reader.pixels()
    table = reader.images(columns=[field.name for field in fields(ImageInfo)])
    # Column by column, which for a hundred thousand images saves half a second.
    infos = tuple(map(ImageInfo, *(table[field.name].to_pylist() for field in fields(ImageInfo))))
    fitting = preprocessing.for_channels(pixels.form.channels)
    return PreparedImages(
        reader.objects,
        PreparedSet(infos, pixels),
        mean=fitting.mean,
        std=fitting.std,
        passed_over=passed_over,
        remark=remark,
    )


def of_source(preparation: Preparation, reader: Reader) -> PreparedImages | None:
    """Opens the images of an atlas where they are known to be those of the source as it is now;
    None where they are not, or a repair has set aside what is on record of them."""
    objects, path = reader.objects, layout.prepared_whole(preparation.key)
    try:
        whole = PreparedSource.stored_at(objects, path, objects.get(path))
    except FileNotFoundError:
        return None
    if whole.images_sha256 != reader.header.images_sha256:
        return None
    if not all(map(objects.exists, (layout.IMAGES_RECORD, layout.IMAGES))):
        return None
    pixels = reader.pixels()
    return atlas_images(
        reader,
        preparation.form.preprocessing,
        passed_over=whole.passed_over,
        remark=preparation.form.remark(pixels.low, pixels.high),
    )


def mark_whole(preparation: Preparation, images: PreparedImages, objects: Objects) -> None:
    """Puts on record that the source as it is now holds an atlas' images."""
    record = PreparedSource(images.sha256, dict(images.passed_over), preparation.key)
    objects.put_if_absent(layout.prepared_whole(preparation.key), record.to_json().encode())
