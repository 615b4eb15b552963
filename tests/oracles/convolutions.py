"""Sees every convolution of a forward pass, and may replace its result.

The oracles are slow and obvious: float64, one image at a time, plain autograd, loops over kernels.
They share no line with the engine.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Response = str | tuple[int, int]
Masks = dict[str, Tensor]
"""Of each convolution, which kernels stay: bool, (out channels, in channels of a group)."""


@dataclass(frozen=True)
class Mixed:
    """A direction over the channels, with a bias, and perhaps a ReLU at the end."""

    weights: tuple[float, ...]
    bias: float
    rectified: bool


@dataclass(frozen=True)
class Target:
    """What is explained: a unit (or direction over the channels) of a layer, and the response.

    `response` is "sum_abs", "max", or a position (row, column) for abs(y[row, column]).
    """

    layer: str
    unit: int | tuple[float, ...] | Mixed = 0
    response: Response = "sum_abs"


@dataclass(frozen=True)
class ConvCall:
    """One call of a convolution: `kernel_map` gives A_oi, what kernel (o, i) adds to channel o.

    `inputs` is (1, channels, H, W) and `weight` (out, in of a group, kh, kw), masked or not.
    """

    name: str
    inputs: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: Any
    padding: Any
    dilation: Any
    groups: int

    def input_channel(self, out: int, column: int) -> int:
        """The channel of the whole input that kernel (out, column) reads."""
        return (out // (len(self.weight) // self.groups)) * self.weight.shape[1] + column

    def kernel_map(self, out: int, column: int) -> Tensor:
        """A_oi (H, W): a convolution of a single channel with a single kernel."""
        channel = self.input_channel(out, column)
        return functional.conv2d(
            self.inputs[:, channel : channel + 1],
            self.weight[out : out + 1, column : column + 1],
            None,
            self.stride,
            self.padding,
            self.dilation,
        )[0, 0]

    def run(self, weight: Tensor) -> Tensor:
        """The convolution's result with other weights of the same shape: (1, out, H, W)."""
        return functional.conv2d(
            self.inputs, weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


Handler = Callable[[ConvCall], Tensor]


@contextmanager
def intercept(
    model: nn.Module,
    handler: Handler,
    replace: dict[Callable[..., Any], Callable[..., Any]] | None = None,
) -> Iterator[None]:
    """While open, hands each `conv2d` inside a named `nn.Conv2d` of the model to `handler`, whose
    return value the network goes on with. Other functions are swapped by `replace`."""
    inside: list[str] = []
    hooks = [
        hook
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
        for hook in (
            module.register_forward_pre_hook(lambda *_, name=name: inside.append(name)),
            module.register_forward_hook(lambda *_: _forget(inside)),
        )
    ]
    try:
        with _Mode(inside, handler, replace or {}):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _forget(inside: list[str]) -> None:
    inside.pop()


class _Mode(TorchFunctionMode):
    def __init__(
        self,
        inside: list[str],
        handler: Handler,
        replace: dict[Callable[..., Any], Callable[..., Any]],
    ) -> None:
        super().__init__()
        self._inside = inside
        self._handler = handler
        self._replace = replace
        self._seen: set[str] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.conv2d and self._inside:
            return self._handler(self._call(*args, **kwargs))
        return self._replace.get(func, func)(*args, **kwargs)

    def _call(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> ConvCall:
        name = self._inside[-1]
        if name in self._seen:
            raise ValueError(f"{name} runs more than once a pass: its scores have no one meaning")
        self._seen.add(name)
        # The network may write over the input later, and A_oi is wanted as it was.
        return ConvCall(name, input.clone(), weight, bias, stride, padding, dilation, groups)


def double(model: nn.Module) -> nn.Module:
    """A copy of the model in float64, in evaluation mode, without parameter gradients."""
    return copy.deepcopy(model).double().eval().requires_grad_(False)


def layer_output(
    model: nn.Module,
    image: Tensor,
    layer: str,
    handler: Handler,
    replace: dict[Callable[..., Any], Callable[..., Any]] | None = None,
) -> Tensor:
    """The layer's output (C, h, w) for one image (3, H, W), before anything in place happens to it;
    a vector of C is a map (C, 1, 1).

    `handler` decides what each convolution gives.
    """
    caught: list[Tensor] = []

    def keep(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        caught.append(output)
        return output.clone()

    hook = model.get_submodule(layer).register_forward_hook(keep)
    try:
        with intercept(model, handler, replace):
            model(image[None].double())
    finally:
        hook.remove()
    if len(caught) != 1:
        raise ValueError(f"{layer} ran {len(caught)} times, expected once")
    output = caught[0][0]
    return output[:, None, None] if output.dim() == 1 else output


def unit_map(output: Tensor, unit: int | tuple[float, ...] | Mixed) -> Tensor:
    """y (h, w): the unit's channel of the output, or the direction's weighted sum of channels."""
    if isinstance(unit, int):
        return output[unit]
    if isinstance(unit, Mixed):
        summed = unit_map(output, unit.weights) + unit.bias
        return torch.clamp(summed, min=0) if unit.rectified else summed
    total = torch.zeros_like(output[0])
    for weight, channel in zip(unit, output, strict=True):
        total = total + weight * channel
    return total


def response(y: Tensor, kind: Response) -> Tensor:
    """r(y), a scalar."""
    if kind == "sum_abs":
        return y.abs().sum()
    if kind == "max":
        return y.max()
    if isinstance(kind, tuple):
        return y[kind[0], kind[1]].abs()
    raise ValueError(f"no response {kind!r}")


def convolutions(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """The weights (out, in of a group, kh, kw) of all convolutions one pass runs, in that order."""
    found: dict[str, Tensor] = {}

    def note(call: ConvCall) -> Tensor:
        found[call.name] = call.weight.detach().clone()
        return call.run(call.weight)

    model = double(model)
    with intercept(model, note), torch.no_grad():
        model(image[None].double())
    return found
