"""Which steps of a network keep channels apart, and which only move elements: what is known of an
operation by name, where the step's inputs are what it is known for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from torch import Tensor

from circuit_atlas.jobs.network.aten import (
    BY_MAP,
    MOVES_OF_CHANNELS,
    MOVES_OF_MAPS,
    PADS,
    POINTWISE,
    REDUCTIONS,
    UNARY,
)
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.step import Ref, Step

_Found = TypeVar("_Found")


def once(find: Callable[[Network, Step], _Found]) -> Callable[[Network, Step], _Found]:
    """Makes a function of a step find out what it says once for each, however often it is asked:
    circuits ask by the thousand."""

    @wraps(find)
    def remembered(network: Network, step: Step) -> _Found:
        key = (find, step.name)
        if key not in network.measured:
            network.measured[key] = find(network, step)
        found: _Found = network.measured[key]
        return found

    return remembered


def is_elementwise(network: Network, step: Step) -> bool:
    """Says whether each element of the result is a function of one element, at its position."""
    return (
        step.op in UNARY
        and len(step.inputs) == 1
        and not step.folded
        and not network.is_folded(step.inputs[0])
        and network.shape(step.inputs[0]) == step.shape
        and network.dtype(step.inputs[0]) == step.dtype
        and step.dtype.is_floating_point
    )


def is_channelwise(network: Network, step: Step) -> bool:
    """Says whether inputs and result are maps of numbers, and channel c of the result is made of
    channel c of each input alone, or of an input's only channel."""
    if step.op not in POINTWISE | BY_MAP | REDUCTIONS or not _are_maps(network, step):
        return False
    if step.op in REDUCTIONS and not _reduces_positions(step):
        return False
    if step.op in PADS and len(step.args[1]) > 4:
        return False
    spread = (step.shape[0], 1) if step.op in POINTWISE else (step.shape[0],)
    return all(network.shape(name)[0] in spread for name in step.inputs)


def is_concatenation(network: Network, step: Step) -> bool:
    """Says whether the step puts the channels of maps side by side, and nothing else with them."""
    return (
        step.op == "cat"
        and step.args[1:] in ((1,), (-3,))
        and all(isinstance(part, Ref) for part in step.args[0])
        and _are_maps(network, step)
    )


def moves_maps(network: Network, step: Step) -> bool:
    """Says whether the step moves elements between channels or positions so that the last two axes
    of its inputs are those of its result."""
    if step.folded or any(network.is_folded(name) for name in step.inputs):
        return False
    if step.op in MOVES_OF_MAPS:
        return True
    if step.op not in MOVES_OF_CHANNELS or len(step.shape) < 3:
        return False
    if step.op == "transpose":
        axes = len(step.shape) + 1
        return max(axis % axes for axis in step.args[1:3]) < axes - 2
    return all(network.shape(name)[-2:] == step.shape[-2:] for name in step.inputs)


def has_constant_tensors(step: Step) -> bool:
    """Says whether tensors with axes, which do not depend on the image, are among the arguments."""
    arguments = (*step.args, *step.kwargs.values())
    return any(isinstance(each, Tensor) and each.dim() > 0 for each in arguments)


def _reduces_positions(step: Step) -> bool:
    """Whether a reduction runs over rows, columns or both alone."""
    axes = step.args[1] if len(step.args) > 1 else None
    return isinstance(axes, (tuple, list)) and {axis % 4 for axis in axes} <= {2, 3} and bool(axes)


def _are_maps(network: Network, step: Step) -> bool:
    names = (*step.inputs, step.name)
    return all(
        len(network.shape(name)) == 3
        and network.dtype(name).is_floating_point
        and not network.is_folded(name)
        for name in names
    )
