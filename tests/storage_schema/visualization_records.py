"""Records of feature visualizations that nobody made."""

from __future__ import annotations

from dataclasses import replace

from circuit_atlas.storage_schema.visualizations import FeatureRecord

_RECORD = FeatureRecord(
    model="toy",
    layer="",
    unit=0,
    variant="positive",
    sign="positive",
    circuit=None,
    objective="peaks",
    seed=0,
    steps=1,
    learning_rate=0.1,
    height=8,
    width=8,
    tries=1,
    response=2.0,
    best_image_response=1.0,
    best_image=0,
    beats_images=True,
    contrast=0.2,
    attempt=0,
    objects=(),
    compute_s=0.1,
)


def picture_record(layer: str, unit: int, **others: object) -> FeatureRecord:
    """All that is known of a picture of a unit before it is stored; `others`: what is not as
    usual."""
    return replace(_RECORD, layer=layer, unit=unit, **others)
