"""The header of a spec's atlas."""

from __future__ import annotations

import importlib.metadata
import platform

from circuit_atlas.jobs.engine.targets import response_text
from circuit_atlas.jobs.scores.crops import check_crop
from circuit_atlas.jobs.scores.per_image import PER_IMAGE
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.tasks.sample import decided
from circuit_atlas.storage_schema.errors import SpecError
from circuit_atlas.storage_schema.grouping import FEWEST_IMAGES as FEWEST_IMAGES_OF_GROUPS
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.stability import DRAWS, FEWEST_IMAGES
from circuit_atlas.storage_schema.version import SCHEMA_VERSION


def atlas_header(opened: OpenedSpec, *, whole: bool = False) -> AtlasHeader:
    """Makes the header of a spec's atlas, for which no layer is opened; SpecError where the spec's
    settings do not go together with the images. `whole` as of `resolve_opened`."""
    spec = opened.spec
    circuits = spec.circuits
    usable = len(opened.images.scoring) + len(opened.images.held_out)
    height, width = opened.size
    if "learned" in circuits.criteria and spec.learned.crop is not None:
        check_crop(spec.learned.crop, (height, width))
    return AtlasHeader(
        schema=SCHEMA_VERSION,
        model=spec.model.reference,
        weights_sha256=opened.weights_sha256,
        images_sha256=opened.images.sha256,
        spec_sha256=spec.sha256(),
        spec=spec.canonical(),
        criteria=circuits.criteria,
        image_criteria=tuple(name for name in circuits.criteria if name in PER_IMAGE),
        fractions=circuits.fractions,
        ablations=circuits.ablation,
        response=response_text(circuits.response),
        top_images=min(circuits.top_images, len(opened.images.scoring)),
        seed=circuits.seed,
        versions=_versions(),
        input_height=height,
        input_width=width,
        connected=circuits.connected,
        redrawn=_redrawn(spec, images=len(opened.images.scoring)),
        grouped=_grouped(spec, images=len(opened.images.scoring)),
        sample=None if whole else decided(circuits, images=usable),
    )


def _redrawn(spec: BuildSpec, *, images: int) -> tuple[tuple[str, int], ...]:
    """The criteria whose circuits are drawn anew, and how often; SpecError where that cannot be."""
    circuits, redrawn = spec.circuits, []
    if circuits.stability:
        redrawn = [(name, DRAWS) for name in circuits.criteria if name in PER_IMAGE]
        if not redrawn:
            raise SpecError(
                f"circuits.stability: {', '.join(circuits.criteria)} "
                f"{'has' if len(circuits.criteria) == 1 else 'have'} no scores of single images to "
                "draw anew; add a criterion that has, such as 'actgrad', or leave stability out"
            )
        if (number := min(circuits.top_images, images)) < FEWEST_IMAGES:
            raise SpecError(
                f"circuits.stability: units have scores of {number} image, and there is nothing to "
                f"draw; give top_images, and scoring images, of {FEWEST_IMAGES} or more"
            )
    if "learned" in circuits.criteria and spec.learned.seeds > 1:
        redrawn.append(("learned", spec.learned.seeds))
    return tuple(redrawn)


def _grouped(spec: BuildSpec, *, images: int) -> tuple[str, ...]:
    """The criteria whose circuits are trained for each sub-feature group; SpecError where that
    cannot be."""
    if not spec.learned.groups or "learned" not in spec.circuits.criteria:
        return ()
    if (number := min(spec.circuits.top_images, images)) < FEWEST_IMAGES_OF_GROUPS:
        raise SpecError(
            f"learned.groups: units have {number} top image{'' if number == 1 else 's'}, too few "
            f"for groups; give top_images, and scoring images, of {FEWEST_IMAGES_OF_GROUPS} or more"
        )
    if not isinstance(spec.circuits.response, str):
        raise SpecError(
            "learned.groups: a group's few images are trained on as crops, and the response at a "
            'position is that of whole images; give response "sum_abs" or "max", or leave groups '
            "out"
        )
    return ("learned",)


def _versions() -> tuple[tuple[str, str], ...]:
    packages = ("circuit-atlas", "numpy", "pyarrow", "ray", "torch", "torchvision", "zarr")
    python = ("python", platform.python_version())
    return (python, *((name, importlib.metadata.version(name)) for name in packages))
