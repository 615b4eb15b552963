"""Plain autograd on networks in which a convolution may run several times, or compute its weight.

Every call of `conv2d` counts, by the innermost module that makes it and its number among that
module's calls. Like the other oracles it is float64, and shares no line with the engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Key = tuple[str, int]
"""(path of the innermost module, number of the call among the module's)."""


@dataclass(frozen=True)
class Call:
    """One call of `conv2d` on a single image: `rest` are bias, stride, padding and so on."""

    key: Key
    inputs: Tensor
    weight: Tensor
    rest: tuple[Any, ...]
    groups: int

    def run(self, weight: Tensor) -> Tensor:
        return functional.conv2d(self.inputs, weight, *self.rest)

    def maps(self, out: int) -> Tensor:
        """A_oi of every kernel of an output channel: (in channels of a group, h, w)."""
        inputs = self.weight.shape[1]
        first = out // (len(self.weight) // self.groups) * inputs
        _, *geometry = self.rest[:4]
        part = self.inputs[:, first : first + inputs]
        return functional.conv2d(part, self.weight[out][:, None], None, *geometry, inputs)[0]


Handler = Callable[[Call], Tensor]


class _Mode(TorchFunctionMode):
    def __init__(self, inside: list[str], handler: Handler) -> None:
        super().__init__()
        self._inside = inside
        self._handler = handler
        self._counts: Counter[str] = Counter()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is not torch.conv2d:
            return func(*args, **(kwargs or {}))
        return self._handler(self._call(*args, **(kwargs or {})))

    def _call(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Call:
        path = self._inside[-1]
        key = path, self._counts[path]
        self._counts[path] += 1
        rest = bias, stride, padding, dilation, groups
        return Call(key, input.clone(), weight, rest, groups)


def returned(model: nn.Module, image: Tensor, layer: str, handler: Handler) -> Tensor:
    """What a layer, `path`, `path@call`, or `path:key`, returns for an image (3, H, W): (C, h, w).

    Without a call, the last one; without a key, the result, or the first map of several.
    """
    path, _, key = layer.partition(":")
    path, _, call = path.partition("@")
    results: list[Any] = []
    inside = [""]
    with ExitStack() as stack:
        for name, module in model.named_modules():
            for hook in (
                module.register_forward_pre_hook(lambda *_, name=name: inside.append(name)),
                module.register_forward_hook(lambda *_: _leave(inside)),
            ):
                stack.callback(hook.remove)
        keep = model.get_submodule(path).register_forward_hook(
            lambda _module, _args, result: results.append(_copied(result))
        )
        stack.callback(keep.remove)
        stack.enter_context(_Mode(inside, handler))
        model(image[None])
    result = results[int(call) if call else -1]
    if isinstance(result, Mapping):
        result = result[key] if key else next(v for v in result.values() if v.dim() == 4)
    tensor: Tensor = result[0]
    return tensor


def _leave(inside: list[str]) -> None:
    inside.pop()


def _copied(result: Any) -> Any:
    if isinstance(result, Mapping):
        return {key: value.clone() for key, value in result.items()}
    return result.clone()


@dataclass(frozen=True)
class CallScores:
    """Of one call: (out, in) each; `by_weight` (out, in, height, width) is dr/dw."""

    weight: NDArray[np.float64]
    actgrad: NDArray[np.float64]
    contribution: NDArray[np.float64]
    by_weight: NDArray[np.float64]


def scores(model: nn.Module, image: Tensor, layer: str, unit: int) -> dict[Key, CallScores]:
    """The scores of every call's kernels for r = the sum of abs(y) of a unit's channel."""
    calls: dict[Key, Call] = {}
    weights: dict[Key, Tensor] = {}
    outputs: dict[Key, Tensor] = {}

    def watch(call: Call) -> Tensor:
        if call.weight.requires_grad:  # it depends on the image: no kernel
            return call.run(call.weight)
        calls[call.key] = call
        weights[call.key] = call.weight.detach().requires_grad_()
        outputs[call.key] = call.run(weights[call.key])
        return outputs[call.key].clone()

    response = returned(model, image, layer, watch)[unit].abs().sum()
    leaves = [*weights.values(), *outputs.values()]
    gradients = torch.autograd.grad(response, leaves, allow_unused=True)
    found = {}
    with torch.no_grad():
        by_weight, by_output = gradients[: len(weights)], gradients[len(weights) :]
        for (key, call), of_weight, of_output in zip(
            calls.items(), by_weight, by_output, strict=True
        ):
            if of_output is None or of_weight is None:
                continue
            products = [call.maps(out) * of_output[0, out] for out in range(len(call.weight))]
            found[key] = CallScores(
                call.weight.detach().numpy(),
                np.stack([p.abs().mean((1, 2)).numpy() for p in products]),
                np.stack([p.mean((1, 2)).numpy() for p in products]),
                of_weight.numpy(),
            )
    return found


def masked(
    model: nn.Module, image: Tensor, layer: str, unit: int, masks: Mapping[Key, Tensor]
) -> Tensor:
    """y (h, w) where each call runs with its weight times a mask (out, in)."""

    def prune(call: Call) -> Tensor:
        mask = masks.get(call.key)
        return call.run(call.weight if mask is None else call.weight * mask[:, :, None, None])

    with torch.no_grad():
        return returned(model, image, layer, prune)[unit]


def reached(
    model: nn.Module, images: Tensor, layer: str, unit: int, sites: Iterable[tuple[Key, ...]]
) -> list[NDArray[np.bool_]]:
    """Which kernels of each site, all calls of one weight, move the unit's map when they are
    changed on any of some images: (out, in) each."""
    shapes: dict[Key, tuple[int, ...]] = {}

    def note(call: Call) -> Tensor:
        shapes[call.key] = tuple(call.weight.shape)
        return call.run(call.weight)

    with torch.no_grad():
        before = [returned(model, image, layer, note)[unit] for image in images]
        found = []
        for keys in sites:
            rows, columns, *size = shapes[keys[0]]
            moved = np.zeros((rows, columns), dtype=np.bool_)
            for out in range(rows):
                for column in range(columns):
                    change = torch.linspace(1.0, 2.0, size[0] * size[1], dtype=torch.float64)

                    def shifted(call: Call) -> Tensor:
                        weight = call.weight.clone()
                        if call.key in keys:  # noqa: B023
                            weight[out, column] += change.reshape(size)  # noqa: B023
                        return call.run(weight)

                    moved[out, column] = any(
                        bool((returned(model, image, layer, shifted)[unit] - y).abs().max() > 1e-11)
                        for image, y in zip(images, before, strict=True)
                    )
            found.append(moved)
    return found
