"""What has weights and yet no kernels that could be pruned: it stays whole in every circuit."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from circuit_atlas.jobs.network.graph import Network, Step


class Kind(NamedTuple):
    """What something with weights is called: one, and several."""

    singular: str
    plural: str


_LINEAR = Kind("linear layer", "linear layers")
_KINDS = {
    "conv_transpose": Kind("transposed convolution", "transposed convolutions"),
    "conv1d": Kind("convolution along one axis", "convolutions along one axis"),
    "conv3d": Kind("convolution along three axes", "convolutions along three axes"),
    "conv2d": Kind(
        "convolution with a weight made from the image",
        "convolutions with weights made from the image",
    ),
    "linear": _LINEAR,
    "bilinear": _LINEAR,
}


def whole_modules(network: Network) -> dict[Kind, tuple[str, ...]]:
    """Lists what stands between a layer and the image with weights that are no candidates.

    Returns:
        The paths of the modules by what they are.
    """
    found: dict[Kind, dict[str, None]] = {}
    for step in network.up_to(network.base).steps:
        kind = next((kind for op, kind in _KINDS.items() if step.op.startswith(op)), None)
        if kind is not None and step.convolution is None and _is_weighted(step):
            found.setdefault(kind, {})[step.module or step.op] = None
    return {kind: tuple(paths) for kind, paths in found.items()}


def _is_weighted(step: Step) -> bool:
    """Whether the operation has a weight of its own, or computes one from the image."""
    return step.op == "conv2d" or any(isinstance(argument, Tensor) for argument in step.args)
