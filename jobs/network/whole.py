"""What has weights and yet no kernels that could be pruned: it stays whole in every circuit."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.step import Ref, Step


class Kind(NamedTuple):
    """What something with weights is called: one, and several."""

    singular: str
    plural: str


_LINEAR = Kind("linear layer", "linear layers")
_MADE_FROM_IMAGE = Kind(
    "convolution with a weight made from the image",
    "convolutions with weights made from the image",
)
_ON_FOLDED = Kind(
    "convolution of images folded into the batch", "convolutions of images folded into the batch"
)
_KINDS = {
    "conv_transpose": Kind("transposed convolution", "transposed convolutions"),
    "conv1d": Kind("convolution along one axis", "convolutions along one axis"),
    "conv3d": Kind("convolution along three axes", "convolutions along three axes"),
    "linear": _LINEAR,
    "bilinear": _LINEAR,
}


def whole_modules(network: Network) -> dict[Kind, tuple[str, ...]]:
    """Lists what stands between a layer and the image with weights that are no candidates.

    Returns:
        The paths of the modules by what they are.
    """
    found: dict[Kind, dict[str, None]] = {}
    carrying = {network.image}
    for step in network.up_to(network.base).steps:
        if carrying.isdisjoint(step.inputs):
            continue
        carrying.add(step.name)
        if (kind := _kind(step)) is not None:
            found.setdefault(kind, {})[step.module or step.op] = None
    return {kind: tuple(paths) for kind, paths in found.items()}


def _kind(step: Step) -> Kind | None:
    """What stays whole in an operation with a weight of its own, or with one that is computed from
    the image."""
    if step.op == "conv2d" and step.convolution is None:
        made = any(isinstance(argument, Ref) for argument in step.args[1:3])
        return _MADE_FROM_IMAGE if made else _ON_FOLDED
    kind = next((kind for op, kind in _KINDS.items() if step.op.startswith(op)), None)
    return kind if any(isinstance(argument, Tensor) for argument in step.args) else None
