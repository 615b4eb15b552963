"""What each kernel is worth to a unit on one image: one function for each published score.

Hamblin, Konkle and Alvarez, "Pruning for Feature-Preserving Circuits in CNNs", 2022
(arXiv 2206.01627). Every function takes the calls of one convolution on one image (see
`passes.Call`) and returns (units, g, o, i) scores, non-negative. A set's score is the mean over its
images of these, so the absolute value is taken image by image and no result depends on how images
are batched.

Write A_oi for the map that kernel (o, i) adds to the convolution's output Y_o, r for the unit's
response, w for the kernel's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.passes import Call

# Activation maps of this many bytes at a time: small enough to stay in the processor's cache.
_PIECE_BYTES = 4 << 20


def actgrad(calls: Sequence[Call]) -> Tensor:
    """Activation x gradient: mean over positions of |A_oi * dr/dY_o|.

    Since |A G| = |A| |G|, it is for each output channel a matrix product of |A| (in, positions)
    with |G| (positions, units). A convolution that runs several times sums its calls.
    """
    return _sum([_actgrad(call) for call in calls])


def _actgrad(call: Call) -> Tensor:
    groups, inputs, weights, _ = call.columns.shape
    if weights == 1:
        # A_oi = w_oi x_i, so |w| leaves the sum over positions.
        maps = call.columns[:, :, 0].abs().transpose(1, 2)
        product = torch.cat([torch.matmul(piece.abs(), maps) for piece in call.cotangents])
        return product * call.weight[..., 0].abs() / call.positions
    gradient = _stacked(call).permute(1, 2, 3, 0)
    scores = gradient.new_empty((groups, call.weight.shape[1], inputs, call.units))
    for part, rows in _pieces(call):
        maps = torch.matmul(call.weight[part, rows].transpose(1, 2), call.columns[part]).abs_()
        scores[part, rows] = torch.matmul(maps.transpose(1, 2), gradient[part, rows])
    return scores.permute(3, 0, 1, 2) / call.positions


def _stacked(call: Call) -> Tensor:
    """|dY| of all units with each channel's positions side by side: (units, g, o, P)."""
    out = call.columns.new_empty((call.units, *call.cotangents[0].shape[1:]))
    rows = iter(out.flatten(1, 2))
    for piece in call.cotangents:
        for unit in piece.abs().flatten(1, 2):
            # Two axes at a time: torch turns a matrix fast, and a whole batch of maps slowly.
            next(rows).copy_(unit)
    return out


def snip(calls: Sequence[Call]) -> Tensor:
    """SNIP: mean over a kernel's weights of |w * dr/dw|.

    In a masked network, whose calls carry the unmasked w and the masked network's gradient, it is
    |dr/dm| averaged over the kernel for a mask entry m on each weight: the score of FORCE.
    """
    gradients = []
    for call in calls:
        groups, inputs, weights, positions = call.columns.shape
        flat = call.columns.reshape(groups, inputs * weights, positions).transpose(1, 2)
        pieces = [torch.matmul(piece, flat) for piece in call.cotangents]
        gradients.append(torch.cat(pieces).unflatten(-1, (inputs, weights)))
    return (_sum(gradients) * calls[0].weight).abs().mean(-1)


def magnitude(weight: Tensor) -> Tensor:
    """Mean over a kernel's weights of |w|: (out, in, height, width) -> (out, in)."""
    return weight.abs().flatten(2).mean(-1)


def random(kernels: int, *, seed: int, unit: Sequence[int]) -> NDArray[np.float32]:
    """Uniform in [0, 1), the floor that any score must beat: (kernels,), the same for the same
    seed and unit wherever it is computed."""
    generator = np.random.default_rng([seed, *unit])
    return generator.random(kernels, dtype=np.float32)


PER_IMAGE: dict[str, Callable[[Sequence[Call]], Tensor]] = {"actgrad": actgrad, "snip": snip}
"""Scores that are means over images, and so can be recombined for any set of them."""


def _sum(terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _pieces(call: Call) -> Iterator[tuple[slice, slice]]:
    """Groups and rows whose activation maps are computed at one time."""
    groups, inputs, _, positions = call.columns.shape
    rows = call.weight.shape[1]
    row_bytes = inputs * positions * call.columns.element_size()
    together = max(1, _PIECE_BYTES // (rows * row_bytes))
    if together > 1:
        for start in range(0, groups, together):
            yield slice(start, start + together), slice(0, rows)
        return
    step = max(1, _PIECE_BYTES // row_bytes)
    for group in range(groups):
        for start in range(0, rows, step):
            yield slice(group, group + 1), slice(start, start + step)
