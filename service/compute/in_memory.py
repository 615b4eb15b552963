"""A model and images in memory, opened as a build opens those of a spec."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, get_args

from torch import Tensor, nn

from circuit_atlas.jobs.images.tensor_images import TensorImages
from circuit_atlas.jobs.network.model_copy import copy_model, model_device
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.circuits import Ablation, Criterion
from circuit_atlas.jobs.spec.layers import Activation
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.storage_schema.errors import ModelError, SpecError
from circuit_atlas.storage_schema.wording import nearest

_CHOICES = {
    "criterion": get_args(Criterion),
    "ablation": get_args(Ablation),
    "activation": get_args(Activation),
}


@dataclass(frozen=True)
class UnitInMemory:
    """One unit of a model in memory, its arguments checked.

    Attributes:
        opened: the model and images, as those of a spec of that unit.
        unit: number of the channel.
        fraction: of the kernels, to keep.
    """

    opened: OpenedSpec
    unit: int
    fraction: float


def open_in_memory(
    model: nn.Module,
    images: Tensor,
    *,
    layer: str,
    unit: int,
    criterion: Criterion,
    keep: float,
    activation: Activation,
    response: str | tuple[int, int],
    seed: int,
    self_check: bool,
    fractions: Sequence[float] = (),
    ablation: Ablation = "zero",
    circuits: Mapping[str, Any] | None = None,
    learned: Mapping[str, Any] | None = None,
    held_out: Tensor | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> UnitInMemory:
    """Open a copy of a model with images as a spec of one unit.

    Args:
        circuits: further keys of the table `[circuits]`.
        learned: keys of the table `[learned]`.

    All other arguments are those of `find_circuit`, which describes them.

    Raises:
        ModelError, ImageError, SpecError: one of them cannot be used.
    """
    fraction, number = fraction_of(keep), unit_of(unit)
    check_choices(criterion=criterion, ablation=ablation, activation=activation)
    if not isinstance(learned, Mapping | None):
        raise SpecError(f'learned={learned!r} is no table: give one such as {{"steps": 130}}')
    loaded = copy_model(model)
    image_set = TensorImages(images, held_out, mean=mean, std=std)
    device = model_device(model)
    spec = BuildSpec.from_values(
        {
            "model": {"reference": loaded.reference},
            "images": {"source": "memory:"},
            "layers": [{"name": layer, "units": [number], "activation": activation}],
            "circuits": {
                "response": response,
                "criteria": [criterion],
                "fractions": [fraction, *fractions],
                "ablation": [ablation],
                "seed": seed,
                **(circuits or {}),
            },
            "learned": {"seed": seed, **(learned or {})},
            "run": {
                "device": "mps" if device.type == "mps" else str(device),
                "self_check": self_check,
            },
        }
    )
    opened = OpenedSpec(spec, model=loaded, images=image_set)
    return UnitInMemory(opened, number, fraction)


def check_choices(**given: str) -> None:
    """Raise SpecError, with the nearest one, where a criterion, ablation or activation is none."""
    for name, value in given.items():
        if value not in _CHOICES[name]:
            told = nearest(value, _CHOICES[name], what=f"choices of {name}")
            raise SpecError(f"{name}={value!r}: {told}")


def fraction_of(keep: object) -> float:
    """Return a kept fraction; SpecError where it is none."""
    if not isinstance(keep, Real) or isinstance(keep, bool) or not 0 < float(keep) <= 1:
        raise SpecError(f"keep={keep!r}: give a fraction of the kernels in (0, 1], such as 0.1")
    return float(keep)


def unit_of(unit: Any) -> int:
    """Return the number of a channel; ModelError where it is none."""
    try:
        number = operator.index(unit)
    except TypeError:
        raise ModelError(f"unit={unit!r}: give a channel of the layer, a number from 0") from None
    if number < 0:
        raise ModelError(f"unit={number}: channels count from 0")
    return number
