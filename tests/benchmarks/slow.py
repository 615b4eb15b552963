"""The slow way: one unit at a time, by hooks and autograd, every kernel's map built.

What the engine is measured against. Written as a reader of the paper would write it in an
afternoon: correct, simple, and in no hurry. For networks of plain, ungrouped `nn.Conv2d` modules
that each run once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from circuit_atlas.jobs.scores.force import schedule

Scores = dict[str, Tensor]
"""(out, in) by convolution; in the target only the unit's own row counts."""
Masks = Mapping[str, Tensor]
"""(out, in) bool by convolution."""


class _ReachedError(Exception):
    """Ends a forward pass at the target."""


@dataclass(frozen=True)
class Slow:
    """A network, cut at a layer.

    Attributes:
        module: in evaluation mode.
        layer: the target's path.
        convolutions: paths of the convolutions that reach it, the target included.
    """

    module: nn.Module
    layer: str
    convolutions: tuple[str, ...]

    def output(self, images: Tensor, masks: Masks | None = None) -> Tensor:
        """The layer's output, (images, channels, h, w), with pruned kernels at zero."""
        return self._run(images, masks)[self.layer]

    def actgrad(self, unit: int, image: Tensor) -> Scores:
        """Mean over positions of |A_oi * dr/dA_oi| for one image (1, 3, h, w), r = sum |y|.

        As the published code does it, the network runs on the maps A_oi of single kernels, each
        convolution a grouped one and a sum, and autograd goes back through them.
        """
        outputs = self._run(image, None, track=True, dissected=True)
        response = outputs[self.layer][:, unit].abs().sum()
        maps = [outputs[f"{name}.maps"] for name in self.convolutions]
        gradients = torch.autograd.grad(response, maps)
        scores = {
            name: (own.detach() * gradient).abs().mean((-2, -1))[0].t()
            for name, own, gradient in zip(self.convolutions, maps, gradients, strict=True)
        }
        return self._own_row(scores, unit)

    def snip(self, unit: int, image: Tensor, masks: Masks | None = None) -> Scores:
        """Mean over a kernel's weights of |w * dr/dw| for one image; in a masked network the
        unmasked w with the masked network's gradient."""
        outputs = self._run(image, masks, track=True)
        response = outputs[self.layer][:, unit].abs().sum()
        weights = [outputs[f"{name}.weight"] for name in self.convolutions]
        gradients = torch.autograd.grad(response, weights)
        scores = {
            name: (self._convolution(name).weight * gradient).abs().mean((-2, -1))
            for name, gradient in zip(self.convolutions, gradients, strict=True)
        }
        return self._own_row(scores, unit)

    def force(self, unit: int, images: Tensor, *, kept: int, steps: int) -> Scores:
        """FORCE, image by image: the scores after the last mask."""
        masks: Masks | None = None
        scores = self._mean(unit, images, masks)
        kernels = sum(len(own) for own in _flat(scores, unit, self.layer).values())
        for count in schedule(kept, kernels, steps):
            masks = best(scores, unit, self.layer, count)
            scores = self._mean(unit, images, masks)
        return scores

    def _mean(self, unit: int, images: Tensor, masks: Masks | None) -> Scores:
        total: Scores = {}
        for image in images:
            for name, score in self.snip(unit, image[None], masks).items():
                total[name] = total[name] + score if name in total else score
        return {name: score / len(images) for name, score in total.items()}

    def _own_row(self, scores: Scores, unit: int) -> Scores:
        own = torch.zeros_like(scores[self.layer])
        own[unit] = scores[self.layer][unit]
        return {**scores, self.layer: own}

    def _convolution(self, name: str) -> nn.Conv2d:
        module = self.module.get_submodule(name)
        assert isinstance(module, nn.Conv2d), f"{name} is no plain convolution"
        assert module.groups == 1, f"{name} has groups"
        return module

    def _run(
        self,
        images: Tensor,
        masks: Masks | None,
        *,
        track: bool = False,
        dissected: bool = False,
    ) -> dict[str, Tensor]:
        """Outputs of the convolutions, with their weights (`NAME.weight`) as used, and, dissected,
        the maps of their kernels (`NAME.maps`, images x in x out x h x w)."""
        seen: dict[str, Tensor] = {}

        def run(name: str, module: nn.Conv2d, value: Tensor) -> Tensor:
            weight = module.weight.detach()
            if masks is not None:
                weight = weight * masks[name][:, :, None, None]
            weight.requires_grad_(track)
            seen[f"{name}.weight"] = weight
            if dissected:
                seen[f"{name}.maps"] = _maps(module, weight, value)
                seen[name] = seen[f"{name}.maps"].sum(1)
                if module.bias is not None:
                    seen[name] = seen[name] + module.bias[:, None, None]
            else:
                seen[name] = module._conv_forward(value, weight, module.bias)
            if name == self.layer:
                raise _ReachedError
            return seen[name]

        with torch.set_grad_enabled(track), _replaced(self, run), suppress(_ReachedError):
            self.module(images)
        return seen


def _maps(module: nn.Conv2d, weight: Tensor, value: Tensor) -> Tensor:
    """A_oi of every kernel by one grouped convolution: (images, in, out, h, w)."""
    maps = functional.conv2d(
        value,
        weight.transpose(0, 1).flatten(0, 1)[:, None],
        stride=module.stride,
        padding=module.padding,
        dilation=module.dilation,
        groups=module.in_channels,
    )
    return maps.unflatten(1, (module.in_channels, module.out_channels))


def _flat(scores: Scores, unit: int, layer: str) -> Scores:
    """Scores of the kernels that can reach the unit, (kernels,) by convolution."""
    return {n: (score[unit] if n == layer else score).flatten() for n, score in scores.items()}


def best(scores: Scores, unit: int, layer: str, count: int) -> Masks:
    """The best kernels of all convolutions together; of the target, the unit's own row alone."""
    flat = _flat(scores, unit, layer)
    order = torch.cat(list(flat.values())).argsort(descending=True, stable=True)
    kept = torch.zeros(len(order), dtype=torch.bool)
    kept[order[:count]] = True
    masks = {}
    for (name, score), part in zip(
        scores.items(), kept.split([len(own) for own in flat.values()]), strict=True
    ):
        masks[name] = torch.zeros(score.shape, dtype=torch.bool)
        rows = slice(unit, unit + 1) if name == layer else slice(None)
        masks[name][rows] = part.view(-1, score.shape[1])
    return masks


def open_slow(module: nn.Module, layer: str, image: Tensor) -> Slow:
    """Finds the convolutions that run before a layer."""
    order: list[str] = []
    hooks = [
        part.register_forward_hook(lambda _m, _a, _o, name=name: order.append(name))
        for name, part in module.named_modules()
        if isinstance(part, nn.Conv2d)
    ]
    with torch.no_grad():
        module(image)
    for hook in hooks:
        hook.remove()
    before = order[: order.index(layer) + 1]
    probe = Slow(module, layer, tuple(before))
    outputs = probe._run(image, None, track=True)
    found = torch.autograd.grad(
        outputs[layer].sum(), [outputs[name] for name in before], allow_unused=True
    )
    reached = (name for name, grad in zip(before, found, strict=True) if grad is not None)
    return Slow(module, layer, tuple(reached))


@contextmanager
def _replaced(slow: Slow, run: Callable[[str, nn.Conv2d, Tensor], Tensor]) -> Iterator[None]:
    """Every convolution calls `run` instead of its own forward."""
    modules = {name: slow._convolution(name) for name in slow.convolutions}
    for name, module in modules.items():
        module.forward = partial(run, name, module)
    try:
        yield
    finally:
        for module in modules.values():
            del module.forward
