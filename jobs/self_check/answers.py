"""What the model itself says of a layer's units, in the form in which the engine says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from circuit_atlas.jobs.engine.targets import Response
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.self_check.module_run import (
    LayerOutput,
    ModuleRun,
    WeightUse,
    run_module,
)


@dataclass(frozen=True)
class Answers:
    """What the model itself gives for one image.

    Attributes:
        maps: (units, ...), each unit's map.
        snip: for each unit, (kernels,) mean over the kernel's weights of abs(w x dr/dw).
        contribution: for each unit, (kernels,) mean over positions of A x dr/dY.
        outside: for each unit, the largest `snip` of a kernel that the axis does not hold.
        stray: the convolution of that kernel.
        owners: the layer's convolution, by its ordinal among the network's sites, of each call that
            the model makes; None where the layer has none of it.
    """

    maps: Tensor
    snip: NDArray[np.floating]
    contribution: NDArray[np.floating]
    outside: tuple[float, ...]
    stray: tuple[str, ...]
    owners: tuple[int | None, ...]


def answers(
    module: nn.Module,
    output: LayerOutput,
    image: Tensor,
    numbers: Sequence[int],
    response: Response,
) -> Answers:
    """Runs the model on one image (1, channels, height, width) and takes each unit's response back
    through it, by torch's autograd alone."""
    layer = output.layer
    with torch.enable_grad():
        run = run_module(module, output, image, swap=_as_leaf)
        maps = output.maps(run.own, numbers)
        leaves = [use.leaf for use in run.uses]
        gradients = [
            torch.autograd.grad(
                explained(y, response), leaves, allow_unused=True, retain_graph=True
            )
            for y in maps
        ]
    # A convolution that no unit depends on is none of the layer's.
    reached = [any(of_unit[n] is not None for of_unit in gradients) for n in range(len(leaves))]
    owners = _owners(module, layer, run, reached)
    scored = [
        _on_axis(layer, number, run.uses, of_unit, owners)
        for number, of_unit in zip(numbers, gradients, strict=True)
    ]
    return Answers(
        maps=maps.detach(),
        snip=np.stack([each[0] for each in scored]),
        contribution=np.stack([each[1] for each in scored]),
        outside=tuple(each[2] for each in scored),
        stray=tuple(each[3] for each in scored),
        owners=owners,
    )


def circuit_map(
    module: nn.Module,
    output: LayerOutput,
    image: Tensor,
    number: int,
    mask: NDArray[np.bool_],
    owners: Sequence[int | None],
) -> Tensor:
    """Runs the model with every kernel outside a mask (kernels,) set to zero: the unit's map."""
    layer = output.layer
    by_ordinal = {}
    rows = iter(layer.upstream.rows[number])
    for ordinal, (piece, convolution, site) in zip(
        layer.upstream.ordinals, layer.pieces(), strict=True
    ):
        kernels = torch.from_numpy(mask[piece].reshape(convolution.rows, convolution.in_channels))
        if convolution.one_row:
            whole = torch.zeros(site.weight.shape[:2], dtype=torch.bool)
            whole[next(rows)] = kernels[0]
            kernels = whole
        by_ordinal[ordinal] = kernels

    def pruned(call: int, weight: Tensor) -> Tensor:
        ordinal = owners[call]
        if ordinal is None or ordinal not in by_ordinal:
            return weight
        kernels = by_ordinal[ordinal].to(weight.device)
        return weight * kernels.reshape(*kernels.shape, *[1] * (weight.dim() - 2))

    # With gradients, by which weights that are computed from the image are told from others.
    with torch.enable_grad():
        run = run_module(module, output, image, swap=pruned)
        return output.maps(run.own, [number])[0].detach()


def _as_leaf(_call: int, weight: Tensor) -> Tensor:
    return weight.detach().clone().requires_grad_()


def explained(y: Tensor, response: Response) -> Tensor:
    """Computes r(y) of one map."""
    if response == "sum_abs":
        return y.abs().sum()
    if response == "max":
        return y.flatten()[y.argmax()]
    return y[int(response[0]), int(response[1])].abs()


def _owners(
    module: nn.Module, layer: TracedLayer, run: ModuleRun, reached: Sequence[bool]
) -> tuple[int | None, ...]:
    """The site of each call: by its parameter or buffer, or by its weight where that is
    computed."""
    names: dict[int, set[str]] = {}
    stored = (module.named_parameters, module.named_buffers)
    for name, tensor in (each for list_of in stored for each in list_of(remove_duplicate=False)):
        names.setdefault(id(tensor), set()).add(name)
    sites = layer.network.sites
    by_parameter = {site.parameter: n for n, site in enumerate(sites) if site.parameter}
    computed = [n for n, site in enumerate(sites) if site.parameter is None for _ in site.steps]
    owners: list[int | None] = []
    for use, counts in zip(run.uses, reached, strict=True):
        own = names.get(id(use.weight), set())
        known = [ordinal for name, ordinal in by_parameter.items() if name in own]
        same = [n for n in computed if _same(sites[n].weight, use.weight)]
        if known:
            owners.append(known[0])
        elif counts and same:
            computed.remove(same[0])
            owners.append(same[0])
        else:
            owners.append(None)
    return tuple(owners)


def _same(stored: Tensor, seen: Tensor) -> bool:
    return stored.shape == seen.shape and torch.allclose(stored.to(seen.dtype), seen, rtol=1e-4)


def _on_axis(
    layer: TracedLayer,
    number: int,
    uses: Sequence[WeightUse],
    gradients: Sequence[Tensor | None],
    owners: Sequence[int | None],
) -> tuple[NDArray[np.floating], NDArray[np.floating], float, str]:
    """One unit's `snip` and `contribution` on the kernel axis, and the largest off it with the
    module that it is in."""
    total: dict[int, Tensor] = {}
    signed: dict[int, Tensor] = {}
    outside, stray = 0.0, ""
    whole = {
        step.module
        for step in layer.network.steps
        if step.op == "conv2d" and step.convolution is None
    }

    def off_axis(scores: Tensor, name: str) -> None:
        nonlocal outside, stray
        largest = float(scores.max()) if scores.numel() else 0.0
        if largest > outside:
            outside, stray = largest, name

    for use, gradient, ordinal in zip(uses, gradients, owners, strict=True):
        if gradient is None:
            continue
        worth = use.weight * gradient
        if ordinal is None:
            # Transposed convolutions and the like stay whole, which is said elsewhere.
            if use.plain and use.module not in whole:
                off_axis(_per_kernel(worth.abs()), use.module)
            continue
        total[ordinal] = total.get(ordinal, torch.zeros_like(worth)) + worth
        each = worth.flatten(2).sum(2) / use.positions
        signed[ordinal] = signed.get(ordinal, torch.zeros_like(each)) + each
    snip, contribution = [], []
    rows = iter(layer.upstream.rows[number])
    for ordinal, (_, convolution, site) in zip(
        layer.upstream.ordinals, layer.pieces(), strict=True
    ):
        nothing = torch.zeros_like(site.weight)
        scores = _per_kernel(total.pop(ordinal, nothing).abs())
        sums = signed.get(ordinal, nothing.flatten(2).sum(2))
        if convolution.one_row:
            row = next(rows)
            off_axis(torch.cat([scores[:row], scores[row + 1 :]]), convolution.name)
            scores, sums = scores[row], sums[row]
        snip.append(scores.flatten())
        contribution.append(sums.flatten())
    for ordinal, worth in total.items():
        off_axis(_per_kernel(worth.abs()), layer.network.sites[ordinal].name)
    return torch.cat(snip).cpu().numpy(), torch.cat(contribution).cpu().numpy(), outside, stray


def _per_kernel(values: Tensor) -> Tensor:
    return values.flatten(2).mean(2)
