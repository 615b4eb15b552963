"""One operation of a traced model, and what stands in it for earlier values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from circuit_atlas.jobs.network.convolution import ConvWeights, conv_geometry, convolve


@dataclass(frozen=True)
class Ref:
    """Stands in a step's arguments for the value of an earlier step."""

    name: str


@dataclass(frozen=True)
class Step:
    """One operation on data that depends on the image.

    Attributes:
        name: unique in the graph.
        op: the operation without namespace and overload, such as `conv2d`.
        call: runs it.
        args, kwargs: its arguments, earlier values as `Ref`, parameters as tensors.
        inputs: names of the steps (or the image) whose tensors it reads.
        part: which element of a tuple result this step stands for, or None.
        shape: the shape of the result for one image, its first axis left out.
        dtype: of the result.
        rows: the extent of that first axis for one image.
        folded: whether the first axis of the result is not the batch, or another holds it too: a
            view has folded channels or positions into the batch, or images into channels.
        module: the path of the innermost module that computes it.
        line: the line of the model's source that computes it; "" where torch kept none.
        convolution: the site that it applies, by ordinal; None for any other operation.
    """

    name: str
    op: str
    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[str, ...]
    part: int | None
    shape: tuple[int, ...]
    dtype: torch.dtype
    rows: int = 1
    folded: bool = False
    module: str = ""
    line: str = ""
    convolution: int | None = None

    @property
    def differentiable(self) -> bool:
        """Whether its result is of numbers that a gradient can be taken by."""
        return self.dtype.is_floating_point or self.dtype.is_complex

    @property
    def location(self) -> str:
        """Says where the operation stands: its name, module and line of the model's source."""
        where = f" in {self.module!r}" if self.module else ""
        return f"{self.op!r}{where}" + (f" ({self.line})" if self.line else "")

    def run(self, values: Mapping[str, Any], kernels: ConvWeights | None = None) -> Tensor:
        """Computes the step's result from earlier values.

        Args:
            values: at least the step's inputs, by name.
            kernels: what a convolution runs with. Default: the model's weights.
        """
        args = filled(self.args, values)
        if self.convolution is not None:
            stored = ConvWeights(args[1], args[2] if len(args) > 2 else None)
            return convolve(args[0], kernels or stored, conv_geometry(args))
        result = self.call(*args, **filled(self.kwargs, values))
        return result if self.part is None else result[self.part]


def filled(value: Any, values: Mapping[str, Any]) -> Any:
    """Gives a step's arguments with earlier values in the place of each `Ref`."""
    if isinstance(value, Ref):
        return values[value.name]
    if isinstance(value, (tuple, list)):
        return type(value)(filled(item, values) for item in value)
    if isinstance(value, Mapping):
        return {key: filled(item, values) for key, item in value.items()}
    return value


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Gives a step's arguments as they read values that have other names now."""
    if isinstance(value, Ref):
        return Ref(names.get(value.name, value.name))
    if isinstance(value, (tuple, list)):
        return type(value)(renamed(item, names) for item in value)
    if isinstance(value, Mapping):
        return {key: renamed(item, names) for key, item in value.items()}
    return value
