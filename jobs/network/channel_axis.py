"""Which axis of a value counts channels, read off the operations that made it.

A shape alone does not say: Swin's blocks give height x width x channels where a convolution gives
channels x height x width. A convolution has its channels first; a linear layer and a layer norm
have them last; moving data takes them along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from circuit_atlas.jobs.network.aten import BATCH_NORM, MOVES

_FIRST = 1
_MOVE_CHANNELS = frozenset("permute transpose movedim".split())
_FIRST_OPS = ("conv", "group_norm", "instance_norm", BATCH_NORM, "max_pool", "avg_pool", "adaptive")


class Operation(Protocol):
    """What is read of a step of the graph."""

    @property
    def name(self) -> str: ...
    @property
    def op(self) -> str: ...
    @property
    def args(self) -> tuple[Any, ...]: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def rows(self) -> int: ...
    @property
    def run(self) -> Callable[[Mapping[str, Any]], Tensor]: ...


def may_move_channels(steps: Sequence[Operation]) -> bool:
    """Says whether any operation may leave channels elsewhere than first, of a value that has more
    axes than that of a vector."""
    return any(
        step.op in _MOVE_CHANNELS or (step.op in ("linear", "layer_norm") and len(step.shape) > 1)
        for step in steps
    )


def channel_axes(
    steps: Sequence[Operation], image: str, image_shape: tuple[int, ...], sizes: Mapping[str, Any]
) -> dict[str, int | None]:
    """Finds the channels' axis of every value.

    Args:
        steps: the operations, in an order in which they can run.
        image: name of the image among the values.
        image_shape: (channels, height, width).
        sizes: batch-dependent integers for a batch of one.

    Returns:
        The axis by the value's name, where axis 0 is the batch; None where it cannot be told.
    """
    values = {image: _Value(_FIRST, (1, *image_shape))}
    for step in steps:
        inputs = [values[name] for name in step.inputs]
        values[step.name] = _result(step, inputs, sizes)
    return {name: value.axis for name, value in values.items()}


@dataclass(frozen=True)
class _Value:
    """The channels' axis of a value, and its shape for one image; the batch axis is not 1 where
    positions or channels are folded into it."""

    axis: int | None
    shape: tuple[int, ...]


def _result(step: Operation, inputs: Sequence[_Value], sizes: Mapping[str, Any]) -> _Value:
    if step.op in MOVES and len(inputs) == 1 and not _has_numbers(step.args):
        return _moved(step, inputs[0], sizes)
    return _Value(_axis(step, inputs), (step.rows, *step.shape))


def _axis(step: Operation, inputs: Sequence[_Value]) -> int | None:
    last = len(step.shape)
    if step.op.startswith(_FIRST_OPS):
        return _FIRST
    if step.op == "linear":
        # One that mixes positions, as in a mixer, leaves the channels where they are.
        before = inputs[0].axis if inputs else None
        return before if before not in (None, last) else last
    if step.op == "layer_norm" and len(step.args[1]) == 1:
        return last
    known = {value.axis for value in inputs if len(value.shape) == 1 + last} - {None}
    return known.pop() if len(known) == 1 else None


def _has_numbers(args: Any) -> bool:
    """Whether a table of numbers is among the arguments, which would stand beside labels."""
    if isinstance(args, Tensor):
        return args.is_floating_point()
    return isinstance(args, (tuple, list)) and any(_has_numbers(item) for item in args)


def _moved(step: Operation, value: _Value, sizes: Mapping[str, Any]) -> _Value:
    """The one axis along which the channels' numbers vary, once they have been moved."""
    axis, shape = value.axis, value.shape
    counts = [1] * len(shape)
    counts[axis or 0] = -1
    labels = torch.arange(shape[axis or 0], dtype=torch.float32).view(counts).expand(shape)
    moved = step.run({**sizes, step.inputs[0]: labels.contiguous()})
    varying = [at for at in range(moved.dim()) if bool((moved != moved.narrow(at, 0, 1)).any())]
    if axis is not None and shape[axis] == 1 and moved.dim() == len(shape):
        return _Value(axis, tuple(moved.shape))
    known = axis is not None and len(varying) == 1 and varying[0] > 0
    return _Value(varying[0] if known else None, tuple(moved.shape))
