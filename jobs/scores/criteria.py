"""The scores of kernels: what each is worth to a unit on one image, a function a published score.

Hamblin, Konkle and Alvarez, "Pruning for Feature-Preserving Circuits in CNNs", 2022
(arXiv 2206.01627). Every function takes the calls of one convolution on one image (see
`conv_gradients.ConvCall`) and returns (units, g, o, i) scores, non-negative. A set's score is the
mean of these over its images: the absolute value is taken image by image, so that no result depends
on how images are batched.

Write A_oi for the map that kernel (o, i) adds to the convolution's output Y_o, r for the unit's
response, w for the kernel's weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.engine.conv_gradients import ConvCall
from circuit_atlas.jobs.network.convolution import channels_last, weight_gradient

# Activation maps of this many bytes at a time: small enough to stay in the processor's cache.
_PIECE_BYTES = 4 << 20


CONTRIBUTION = "contribution"
"""Name of the signed contribution among scores."""


def actgrad(calls: Sequence[ConvCall]) -> Tensor:
    """Computes activation x gradient: the mean over positions of |A_oi * dr/dY_o|.

    Since |A G| = |A| |G|, it is for each output channel a matrix product of |A| (in, positions)
    with |G| (positions, units). A convolution that runs several times sums its calls.
    """
    return _sum([_activation_gradient(call, signed=False)[0] for call in calls])


def contribution(calls: Sequence[ConvCall]) -> Tensor:
    """Computes the signed contribution: the mean over positions of A_oi * dr/dY_o.

    It is the sum over the kernel's weights of w * dr/dw, divided by the number of positions.

    Where it is positive the kernel adds to the response (excitation), where negative it takes from
    it (inhibition). For `sum_abs` and for a position the response is |y|, so that where y is below
    zero, what pushes it further down adds. Its magnitude is at most `actgrad`. A convolution that
    runs several times sums its calls.
    """
    return actgrad_and_contribution(calls)[1]


def actgrad_and_contribution(calls: Sequence[ConvCall]) -> tuple[Tensor, Tensor]:
    """Computes both at once: the maps A and the gradients G serve for |A| |G| and for A G."""
    pairs = [_activation_gradient(call, signed=True) for call in calls]
    return _sum([pair[0] for pair in pairs]), _sum([pair[1] for pair in pairs])


def _activation_gradient(call: ConvCall, *, signed: bool) -> tuple[Tensor, Tensor]:
    """Means over positions of |A| |G|, and of A G where `signed` (else the same again)."""
    groups, rows, inputs, weights = call.weight.shape
    unfolded = call.unfolded()
    if weights == 1 and call.maxima is None:
        # A_oi = w_oi x_i, so w leaves the sum over positions.
        weight = call.weight[..., 0] / call.positions
        maps = unfolded[:, :, 0].transpose(1, 2)
        pieces = _batches(call)
        plain = torch.cat([_product(p, maps) for p in pieces]).mul_(weight) if signed else None
        maps = maps.abs()
        scores = torch.cat([_product(piece.abs(), maps) for piece in pieces]).mul_(weight.abs())
        return scores, scores if plain is None else plain
    gradient = _stacked(call).permute(1, 2, 3, 0)
    magnitude = gradient.abs() if signed else gradient.abs_()
    scores = gradient.new_empty((groups, rows, inputs, call.units))
    sums = torch.empty_like(scores) if signed else scores
    for group, row in _pieces(unfolded, rows):
        maps = torch.matmul(call.weight[group, row].transpose(1, 2), unfolded[group])
        maps = maps.transpose(1, 2)
        if call.maxima is not None:
            argmax, alive = (of[group, row, None] for of in call.maxima)
            maps = maps.gather(3, argmax.expand(-1, -1, inputs, -1)) * alive
        if signed:
            sums[group, row] = torch.matmul(maps, gradient[group, row])
        scores[group, row] = torch.matmul(maps.abs_(), magnitude[group, row])
    means = [total.permute(3, 0, 1, 2) / call.positions for total in (scores, sums)]
    return means[0], means[1]


def snip(calls: Sequence[ConvCall]) -> Tensor:
    """Computes SNIP: the mean over a kernel's weights of |w * dr/dw|.

    In a masked network, whose calls carry the unmasked w and the masked network's gradient, it is
    |dr/dm| averaged over the kernel for a mask entry m on each weight: the score of FORCE.
    """
    return snip_and_contribution(calls)[0]


def snip_and_contribution(calls: Sequence[ConvCall]) -> tuple[Tensor, Tensor]:
    """Computes `snip`, and `contribution` from the same gradients of the weights."""
    weights = calls[0].weight.shape[-1]
    # Weights of a kernel before its input channels, so that the mean adds up whole rows.
    weight = calls[0].weight.transpose(2, 3).contiguous()
    if all(call.input is not None for call in calls) and (
        weights > 1 or calls[0].maxima is not None
    ):
        parts = zip(*(_weight_gradients(call) for call in calls), strict=True)
    else:
        parts = zip(*(_unfolded_gradients(call) for call in calls), strict=True)
    scores, sums = [], []
    for terms in parts:
        worth = _sum(terms) * weight
        each = [(term * weight).sum(-2) for term in terms] if len(terms) > 1 else [worth.sum(-2)]
        sums.append(_sum([s / call.positions for s, call in zip(each, calls, strict=True)]))
        scores.append(worth.abs_().sum(-2).div_(weights))
    return torch.cat(scores), torch.cat(sums)


def _weight_gradients(call: ConvCall) -> Iterator[Tensor]:
    """dr/dw of every unit, (1, g, o, K, i), by the convolution's own backward pass."""
    conv_input = call.input
    groups, rows, inputs, weights = call.weight.shape
    if conv_input is None:
        return
    weight = channels_last(call.weight.flatten(0, 1).unflatten(-1, conv_input.kernel))
    for piece in call.output_gradients:
        for unit in piece:
            flat = _spread(unit, call.maxima, call.positions)
            by_output = flat.flatten(0, 1).unflatten(-1, conv_input.output_size)[None]
            gradient = weight_gradient(conv_input.geometry, conv_input.value, by_output, weight)
            yield gradient.permute(0, 2, 3, 1).reshape(1, groups, rows, weights, inputs)


def _unfolded_gradients(call: ConvCall) -> Iterator[Tensor]:
    """dr/dw of some units, (units, g, o, K, i), from the unfolded input."""
    _, _, inputs, weights = call.weight.shape
    flat = call.unfolded().transpose(1, 2).flatten(1, 2).transpose(1, 2)
    for piece in _batches(call):
        spread = _spread(piece, call.maxima, call.positions)
        yield _product(spread, flat).unflatten(-1, (weights, inputs))


def _spread(gradient: Tensor, maxima: tuple[Tensor, Tensor] | None, positions: int) -> Tensor:
    """Output gradients at maxima (..., g, o, maxima), 0 at other positions: (..., g, o, P)."""
    if maxima is None:
        return gradient
    argmax, alive = maxima
    out = gradient.new_zeros((*gradient.shape[:-1], positions))
    return out.scatter_add_(-1, argmax.expand(gradient.shape), gradient * alive)


def _batches(call: ConvCall) -> tuple[Tensor, ...]:
    """The pieces of the output gradients as they are best multiplied: many groups have few rows
    each, so there all units go together."""
    return call.output_gradients if len(call.weight) == 1 else (_stacked(call),)


def _product(piece: Tensor, right: Tensor) -> Tensor:
    """(units, g, o, P) times (g, P, n) -> (units, g, o, n)."""
    units, groups, rows, positions = piece.shape
    if groups == 1:
        # One after the other, as the batched product would copy `right` for every unit.
        out = piece.new_empty((units, 1, rows, right.shape[-1]))
        for unit, to in zip(piece, out, strict=True):
            torch.mm(unit[0], right[0], out=to[0])
        return out
    stacked = piece.transpose(0, 1).reshape(groups, units * rows, positions)
    return torch.bmm(stacked, right).unflatten(1, (units, rows)).transpose(0, 1)


def _stacked(call: ConvCall) -> Tensor:
    """dY of all units with each channel's positions side by side: (units, g, o, P)."""
    out = call.output_gradients[0].new_empty((call.units, *call.output_gradients[0].shape[1:]))
    rows = iter(out.flatten(1, 2))
    for piece in call.output_gradients:
        for unit in piece.flatten(1, 2):
            # Two axes at a time: torch turns a matrix fast, and a whole batch of maps slowly.
            next(rows).copy_(unit)
    return out


def magnitude(weight: Tensor) -> Tensor:
    """Computes the mean over a kernel's weights of |w|: (out, in, height, width) -> (out, in)."""
    return weight.abs().flatten(2).mean(-1)


def random(kernels: int, *, seed: int, unit: Sequence[int]) -> NDArray[np.float32]:
    """Draws uniform scores in [0, 1), the floor that any score must beat: (kernels,), the same for
    the same seed and unit wherever they are drawn."""
    generator = np.random.default_rng([seed, *unit])
    return generator.random(kernels, dtype=np.float32)


def _sum(terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _pieces(unfolded: Tensor, rows: int) -> Iterator[tuple[slice, slice]]:
    """Groups and rows whose activation maps are computed at one time."""
    groups, inputs, _, positions = unfolded.shape
    row_bytes = inputs * positions * unfolded.element_size()
    together = max(1, _PIECE_BYTES // (rows * row_bytes))
    if together > 1:
        for start in range(0, groups, together):
            yield slice(start, start + together), slice(0, rows)
        return
    step = max(1, _PIECE_BYTES // row_bytes)
    for group in range(groups):
        for start in range(0, rows, step):
            yield slice(group, group + 1), slice(start, start + step)
