"""Scores and circuits of a unit straight from the module, by plain autograd in float64.

Every convolution that the module runs is seen as torch is asked for it, whatever asked. Its weight
becomes a leaf of its own there, so that one backward pass gives dr/dw of each call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Chain = Callable[[Tensor], Tensor]
"""From the named module's own output to what its units pass on."""

_CONVOLUTIONS = (torch.conv2d,)
# Whose backward pass is wrong where one image's values or gradient are transposed in memory (torch
# 2.14.1).
_NORMS = (torch.batch_norm, functional.batch_norm, torch.instance_norm, functional.instance_norm)


@dataclass(frozen=True)
class Read:
    """What is read of a module: the output of one of its parts, as its last call gives it.

    Attributes:
        layer: the part's path.
        shape: of that output, batch axis left out; the part may return other things beside it.
        chain: what is done with it.
    """

    layer: str
    shape: tuple[int, ...]
    chain: Chain


@dataclass
class Call:
    """One call of a convolution of what depends on the image by a weight that does not.

    Attributes:
        given: the weight as the module gave it, (out, in / groups, height, width).
        leaf: what stood in its place.
        positions: of the output.
        folded: whether it ran on other than the one image, into whose batch something is folded.
        leads: whether it leads to what is read.
    """

    given: Tensor
    leaf: Tensor
    positions: int
    folded: bool
    leads: bool = True


@dataclass
class Watched(TorchFunctionMode):
    """Notes every call of a convolution, and lets another weight stand in for its own.

    Attributes:
        weight_of: gives what runs in place of a weight, from the number of the call and that
            weight.
        calls: what ran, in order.
    """

    weight_of: Callable[[int, Tensor], Tensor]
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in _NORMS:
            output = func(args[0].contiguous(), *args[1:], **given)
            if output.requires_grad:
                output.register_hook(Tensor.contiguous)
            return output
        if func not in _CONVOLUTIONS:
            return func(*args, **given)
        given.update(zip(("input", "weight"), args, strict=False))
        weight = given.pop("weight")
        # The image needs a gradient, and so does all that is computed from it. What runs on
        # anything else is a constant.
        if weight.requires_grad or not given["input"].requires_grad:
            return func(*args, **(kwargs or {}))
        leaf = self.weight_of(len(self.calls), weight)
        output = func(given.pop("input"), leaf, *args[2:], **given)
        self.calls.append(Call(weight, leaf, output[0, 0].numel(), len(output) != 1))
        return output


def prepare(module: nn.Module, shape: tuple[int, int, int], least: float) -> nn.Module:
    """Draws every parameter and running statistic anew: as built, many networks have branches that
    begin at zero and would hide whatever is wrong there.

    Running statistics lie about those of noise, so that values keep their size from layer to layer
    as in a trained network. Variances are between `least` and `least` + 1 of those of noise: from 1
    on differences shrink from norm to norm, where else they may grow.
    """
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        fan_in = parameter[0].numel() if parameter.dim() else 1
        if fan_in > 1:
            drawn = drawn * (1.6 / fan_in) ** 0.5
        elif name.endswith("bias"):
            drawn = 0.1 * drawn
        else:
            drawn = 1 + 0.2 * drawn
        parameter.data.copy_(drawn)
    module = module.eval().requires_grad_(False)
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    if norms:
        module(torch.randn((4, *shape), generator=generator))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
        mean, variance = norm.running_mean, norm.running_var
        if mean is not None and variance is not None:
            mean += 0.2 * variance.sqrt() * torch.randn(mean.shape, generator=generator)
            variance *= least + torch.rand(variance.shape, generator=generator)
    return module


def run(module: nn.Module, read: Read, image: Tensor, watched: Watched) -> Tensor:
    """Runs one image (1, channels, height, width) and gives what the layer's units pass on."""
    caught: list[Tensor] = []

    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        fitting = [t for t in _tensors(output) if tuple(t.shape[1:]) == read.shape]
        # As it was, since what follows may work in place.
        caught.append(fitting[0].clone())

    hook = module.get_submodule(read.layer).register_forward_hook(keep)
    try:
        with watched, torch.enable_grad():
            # Not the leaf itself, which a module may not write over.
            module(image.detach().requires_grad_().clone())
    finally:
        hook.remove()
    return read.chain(caught[-1])


def gradients(
    module: nn.Module, read: Read, image: Tensor, unit: int
) -> tuple[list[Call], list[Tensor | None]]:
    """Gives each call of a convolution, and d sum|y| / dw at it; None where nothing leads to y."""
    watched = Watched(lambda _, weight: weight.detach().clone().requires_grad_())
    y = run(module, read, image, watched)[0, unit]
    found = torch.autograd.grad(
        y.abs().sum(), [call.leaf for call in watched.calls], allow_unused=True
    )
    for call, gradient in zip(watched.calls, found, strict=True):
        call.leads = gradient is not None
    return watched.calls, list(found)


def masked(
    module: nn.Module, read: Read, image: Tensor, unit: int, masks: Sequence[Tensor | None]
) -> Tensor:
    """Runs the module with each call's weight masked by (out, in / groups): the unit's map."""

    def weight_of(call: int, weight: Tensor) -> Tensor:
        mask = masks[call]
        return weight if mask is None else weight * mask[:, :, None, None]

    return run(module, read, image, Watched(weight_of))[0, unit].detach()


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for item in output.values():
            yield from _tensors(item)
    elif isinstance(output, (tuple, list)):
        for item in output:
            yield from _tensors(item)
