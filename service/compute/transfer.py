"""Circuits of some images tested on others: of a model in memory, or of a spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from torch import Tensor, nn

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.circuits import Criterion
from circuit_atlas.jobs.spec.layers import Activation
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.tasks.transfer import REPEATS, TransferRow, transfer_rows
from circuit_atlas.service.compute.in_memory import (
    check_choices,
    fraction_of,
    open_in_memory,
    unit_of,
)
from circuit_atlas.service.compute.spec import load_spec
from circuit_atlas.service.compute.torch_settings import worker_settings
from circuit_atlas.storage_schema.errors import SpecError
from circuit_atlas.storage_schema.ranking import KEEP
from circuit_atlas.storage_schema.wording import nearest

_SCHEMA = pa.schema(
    [
        pa.field("repeat", pa.int32(), nullable=False),
        pa.field("half", pa.int32(), nullable=False),
        pa.field("images", pa.int32(), nullable=False),
        pa.field("kernels", pa.int32(), nullable=False),
        pa.field("chosen", pa.float64()),
        pa.field("tested", pa.float64()),
        pa.field("iou", pa.float64(), nullable=False),
    ]
)


def transfer(
    model: nn.Module,
    images: Tensor,
    *,
    layer: str,
    unit: int,
    criterion: Criterion = "actgrad",
    keep: float = KEEP,
    numbers: Sequence[int] | None = None,
    repeats: int = REPEATS,
    activation: Activation = "post",
    response: str | tuple[int, int] = "sum_abs",
    seed: int = 0,
    self_check: bool = True,
) -> pa.Table:
    """Test circuits of one half of the images on the other, for several numbers of images.

    ```python
    transfer(model, images, layer="features.6", unit=12, keep=0.1)
    ```

    The images are split into halves by chance, `repeats` times. Of each half, the first m images
    choose a circuit by the mean of their scores, and it runs on the other half, with zero ablation.
    Where `tested` falls short of `chosen`, the circuit is one of its images; where it no longer
    grows with m, there are images enough. `actgrad_centred` and `integrated` take means over all
    images with the scores of each.

    Args:
        model, images, layer, unit, keep, activation, response, self_check: as of `find_circuit`.
        criterion: one with scores of single images.
        numbers: the numbers m, each at most half of the images. Default: 1, 2, 4, ... and half.
        repeats: how often to split.
        seed: decides the splits.

    Returns:
        A row a split, half and number. Columns: repeat, which split, and half, from 0; images, m;
        kernels of the circuit; chosen, Pearson r with the whole network over all positions of the m
        images, and tested, over those of the other half, null where either map is constant; iou,
        that with the circuit that as many images of the other half choose.

    Raises:
        ModelError, ImageError: as of `find_circuit`, or fewer than two images.
        SpecError: a value is out of range, or the criterion scores no single images.
        QueryError: the unit is dead.
    """
    with worker_settings():
        one = open_in_memory(
            model,
            images,
            layer=layer,
            unit=unit,
            criterion=criterion,
            keep=keep,
            activation=activation,
            response=response,
            seed=seed,
            self_check=self_check,
        )
        rows = transfer_rows(one.opened, layer, one.unit, numbers=numbers, repeats=repeats)
    return _table(rows)


def transfer_in(
    spec: str | Path | BuildSpec,
    *,
    layer: str,
    unit: int,
    criterion: Criterion | None = None,
    keep: float = KEEP,
    numbers: Sequence[int] | None = None,
    repeats: int = REPEATS,
) -> pa.Table:
    """Do what `transfer` does with the model, scoring images, response and seed of a spec.

    Args:
        spec: path of a TOML file, or a `BuildSpec`; no atlas of it needs to be there.
        layer: one of its layers.
        unit: a channel of the layer, or a direction, which follow the channels.
        criterion: one with scores of single images. Default: the spec's first.
        keep, numbers, repeats: as of `transfer`.

    Raises:
        InputError: as of `transfer`, or the spec cannot be used.
    """
    fraction, number, loaded = fraction_of(keep), unit_of(unit), load_spec(spec)
    chosen = criterion or loaded.circuits.criteria[0]
    check_choices(criterion=chosen)
    table = loaded.layer(layer)
    if table is None:
        names = [each.name for each in loaded.layers]
        raise SpecError(f"the spec has no layer {layer!r}: {nearest(layer, names, what='layers')}")
    values: dict[str, Any] = loaded.model_dump(mode="json", exclude_none=True)
    values["circuits"].update(
        {
            "criteria": [chosen],
            "fractions": [fraction],
            "connected": False,
            "stability": False,
            "ablation": ["zero"],
        }
    )
    values["layers"] = [table.model_dump(mode="json", exclude_none=True)]
    with worker_settings():
        opened = OpenedSpec(BuildSpec.from_values(values))
        opened.layer(layer).index.unit(number)
        rows = transfer_rows(opened, layer, number, numbers=numbers, repeats=repeats)
    return _table(rows)


def _table(rows: Sequence[TransferRow]) -> pa.Table:
    return pa.Table.from_pylist([asdict(row) for row in rows], _SCHEMA)
