"""What was wrong once, each kind in more than one way, held against autograd on the real module."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from circuit_atlas.jobs.circuits.circuit_maps import circuit_maps, open_first_convolution
from circuit_atlas.jobs.circuits.kernel_means import kernel_means
from circuit_atlas.jobs.circuits.masks import keep_best
from circuit_atlas.jobs.circuits.pruned_weights import pruned_weights
from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.network.receptive_field import receptive_fields
from circuit_atlas.jobs.network.wiring import wiring
from circuit_atlas.jobs.scores.criteria import CONTRIBUTION
from circuit_atlas.jobs.scores.force import ForceRun, force_scores
from circuit_atlas.jobs.scores.over_images import score_images
from tests.oracles import calls as oracle
from tests.oracles.cases import CASES, SIZE

# Of the largest score: both sides compute in float64, what is stored is float32.
TOLERANCE = 1e-6
UNIT = 1


@cache
def opened(name: str) -> tuple[nn.Module, TracedLayer]:
    module = CASES[name].build().double().requires_grad_(False)
    return module, open_layer(ModelGraph(module, (3, *SIZE)), CASES[name].layer)


def images(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((count, 3, *SIZE), generator=generator, dtype=torch.float64)


def keys_of(layer: TracedLayer) -> list[tuple[oracle.Key, ...]]:
    """The oracle's calls of each convolution of the axis."""
    counts: Counter[str] = Counter()
    numbered = {}
    for step in layer.network.steps:
        if step.op == "conv2d":
            numbered[step.name] = step.module, counts[step.module]
            counts[step.module] += 1
    return [tuple(numbered[name] for name in site.steps) for _, _, site in layer.pieces()]


def on_axis(layer: TracedLayer, arrays: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(out, in) by convolution -> (kernels,), NaN where a kernel does not reach the unit."""
    rows = iter(layer.upstream.rows[UNIT])
    parts = [
        (array[[next(rows)]] if convolution.one_row else array).ravel()
        for array, (_, convolution, _) in zip(arrays, layer.pieces(), strict=True)
    ]
    values = np.concatenate(parts)
    values[~layer.reachable(UNIT)] = np.nan
    return values


def masks_of(layer: TracedLayer, mask: NDArray[np.bool_]) -> dict[oracle.Key, Tensor]:
    """A mask of the axis by call."""
    replaced = pruned_weights(layer, UNIT, mask, None)
    return {
        key: torch.from_numpy(kernels.mask)
        for keys, (_, _, site) in zip(keys_of(layer), layer.pieces(), strict=True)
        for key in keys
        if (kernels := replaced[site.steps[0]]).mask is not None
    }


@pytest.mark.parametrize("name", CASES)
def test_scores(name: str) -> None:
    module, layer = opened(name)
    image = images(1)
    found = score_images(
        layer,
        [UNIT],
        [image],
        keep={UNIT: [0]},
        criteria=["actgrad", "snip", CONTRIBUTION],
        response="sum_abs",
        block=1,
    )
    by_call = oracle.scores(module, image[0], layer.index.layer, UNIT)
    wanted: dict[str, list[NDArray[np.float64]]] = {"actgrad": [], "snip": [], CONTRIBUTION: []}
    for keys, (_, _, site) in zip(keys_of(layer), layer.pieces(), strict=True):
        known = [by_call[key] for key in keys if key in by_call]
        zeros = np.zeros(site.weight.shape[:2])
        wanted["actgrad"].append(sum((c.actgrad for c in known), zeros))
        wanted[CONTRIBUTION].append(sum((c.contribution for c in known), zeros))
        worth = sum((c.weight * c.by_weight for c in known), zeros[:, :, None, None])
        wanted["snip"].append(np.abs(worth).mean((2, 3)))
    for criterion, arrays in wanted.items():
        expected = on_axis(layer, arrays)
        largest = np.nanmax(np.abs(expected))
        assert largest > 0
        np.testing.assert_allclose(
            found[criterion].mean[0], expected, rtol=0, atol=TOLERANCE * largest
        )


@pytest.mark.parametrize("name", CASES)
def test_reach(name: str) -> None:
    module, layer = opened(name)
    case = CASES[name]
    if case.kernels is not None:
        assert {int(layer.reachable(n).sum()) for n in range(layer.index.channels)} == {
            case.kernels
        }
    arrays = oracle.reached(module, images(2), layer.index.layer, UNIT, keys_of(layer))
    wanted = np.nan_to_num(on_axis(layer, [array.astype(np.float64) for array in arrays]))
    np.testing.assert_array_equal(layer.reachable(UNIT), wanted > 0)
    for array, (_, convolution, _) in zip(arrays, layer.pieces(), strict=True):
        assert not convolution.one_row or array.any(1).sum() == 1


@pytest.mark.parametrize("name", CASES)
def test_circuits(name: str) -> None:
    """A circuit's maps are those of the real module with these kernels alone, whichever way they
    are computed."""
    module, layer = opened(name)
    batch = images(3)
    scored = score_images(
        layer,
        [UNIT],
        [batch],
        keep={UNIT: []},
        criteria=["actgrad"],
        response="sum_abs",
        block=1,
    )["actgrad"].mean[0]
    mask = keep_best(scored, int(layer.reachable(UNIT).sum()) // 2)
    masks = masks_of(layer, mask)
    wanted = torch.stack(
        [oracle.masked(module, image, layer.index.layer, UNIT, masks) for image in batch]
    )
    size = float(wanted.abs().max())
    for first in (None, open_first_convolution(layer, batch, None)):
        maps = circuit_maps(layer, UNIT, mask[None], batch, first=first)[0]
        torch.testing.assert_close(maps, wanted, rtol=0, atol=TOLERANCE * size)
    means = kernel_means(layer, [batch])
    replaced = pruned_weights(layer, UNIT, mask, means)
    with torch.no_grad():
        wanted = layer.network.forward(batch, replaced=replaced)[layer.network.target.name][:, UNIT]
    maps = circuit_maps(layer, UNIT, mask[None], batch, means=means)[0]
    torch.testing.assert_close(maps, wanted, rtol=0, atol=TOLERANCE * size)


@pytest.mark.parametrize("name", CASES)
def test_force(name: str) -> None:
    """Two steps: the scores in the network that the mask of the first leaves."""
    module, layer = opened(name)
    batch = images(2)
    kernels = int(layer.reachable(UNIT).sum())
    first = score_images(
        layer,
        [UNIT],
        [batch],
        keep={UNIT: []},
        criteria=["snip"],
        response="sum_abs",
        block=1,
    )["snip"].mean[0]
    kept = max(1, 3 * kernels // 4)
    (found,) = force_scores(layer, [ForceRun(UNIT, (kept,))], lambda: [batch], response="sum_abs")
    masks = masks_of(layer, keep_best(first, kept))
    total = np.zeros(layer.upstream.index.size)
    for image in batch:
        by_call = masked_weights(module, image, layer, masks)
        arrays = []
        for keys, (_, _, site) in zip(keys_of(layer), layer.pieces(), strict=True):
            worth = sum(
                (by_call[key] for key in keys if key in by_call), np.zeros(site.weight.shape)
            )
            arrays.append(np.abs(worth).mean((2, 3)))
        total += on_axis(layer, arrays)
    expected = total / len(batch)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * float(np.nanmax(expected)))


def masked_weights(
    module: nn.Module, image: Tensor, layer: TracedLayer, masks: dict[oracle.Key, Tensor]
) -> dict[oracle.Key, NDArray[np.float64]]:
    """w * dr/dw' of every call, where w' = m * w."""
    leaves: dict[oracle.Key, Tensor] = {}
    weights: dict[oracle.Key, Tensor] = {}

    def watch(call: oracle.Call) -> Tensor:
        if call.weight.requires_grad:  # it depends on the image: no kernel
            return call.run(call.weight)
        weights[call.key] = call.weight.detach()
        mask = masks.get(call.key)
        pruned = weights[call.key] if mask is None else weights[call.key] * mask[:, :, None, None]
        leaves[call.key] = pruned.clone().requires_grad_()
        return call.run(leaves[call.key])

    y = oracle.returned(module, image, layer.index.layer, watch)[UNIT].abs().sum()
    gradients = torch.autograd.grad(y, list(leaves.values()), allow_unused=True)
    return {
        key: (weights[key] * gradient).numpy()
        for key, gradient in zip(leaves, gradients, strict=True)
        if gradient is not None
    }


@pytest.mark.parametrize("name", CASES)
def test_wiring_and_receptive_field(name: str) -> None:
    module, layer = opened(name)
    assert wiring(layer.network, layer.upstream).outside(layer.index) is None
    image = images(1)[0].requires_grad_()
    y = oracle.returned(module, image, layer.index.layer, lambda call: call.run(call.weight))
    row, column = y.shape[1] // 2, y.shape[2] // 3
    (gradient,) = torch.autograd.grad(y[:, row, column].sum(), image)
    gradient = gradient.abs()
    seen = gradient > 1e-12 * gradient.max()
    rows, columns = (seen.any(0).any(1 - axis).nonzero()[:, 0] for axis in (0, 1))
    (top, bottom), (left, right) = receptive_fields(layer.network)
    assert top[row] <= rows.min() <= rows.max() <= bottom[row]
    assert left[column] <= columns.min() <= columns.max() <= right[column]
