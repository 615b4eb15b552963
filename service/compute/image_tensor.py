"""Images of an atlas as its network takes them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError
from torch import Tensor

from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.jobs.tasks.atlas_images import atlas_images
from circuit_atlas.service.analysis import arguments
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.wording import one_line


def image_tensor(reader: Reader, images: Sequence[int]) -> Tensor:
    """Return what `Atlas.image_tensor` gives, whose arguments these are."""
    ids = [
        arguments.whole(image, what="image") for image in arguments.several(images, what="images")
    ]
    named = reader.header.spec_content.get("preprocessing")
    if named is None:  # of `find_circuit`, which is given images that are preprocessed
        form = reader.pixels().form
        named = {
            "resize": list(form.size),
            "mean": [0.0] * form.channels,
            "std": [1.0] * form.channels,
        }
    try:
        preprocessing = PreprocessingSpec(**named)
    except (TypeError, ValidationError) as error:
        raise CorruptError(
            f"the header of {reader.objects.location} does not say how images are preprocessed "
            f"({one_line(error)}): restore it from a copy"
        ) from error
    return atlas_images(reader, preprocessing).batch(ids)
