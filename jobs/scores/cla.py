"""Cross-layer attribution: a kernel's share of what its output channel is worth to the unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from circuit_atlas.jobs.engine.backward import ConvGradient, backward
from circuit_atlas.jobs.engine.conv_gradients import conv_call, unit_gradients
from circuit_atlas.jobs.engine.forward import Forward
from circuit_atlas.jobs.engine.targets import Response, Targets
from circuit_atlas.jobs.network.step import Step
from circuit_atlas.jobs.scores.criteria import actgrad


def cla(
    forward: Forward, targets: Targets, response: Response, *, one_row: Mapping[int, Tensor]
) -> Iterator[tuple[int, Tensor]]:
    """Computes R_o L_oi / sum_i L_oi of every kernel (o, i), by convolution.

    Rajaram et al., "Automatic Discovery of Visual Circuits", 2024 (arXiv 2404.14349), score a
    channel m for a channel n of the next layer by |a_m| |da_n / da_m|, activation x gradient
    between neighbouring layers, and choose channels layer by layer from the target down, by their
    scores for what was chosen above. That is carried over to kernels so:

    - L_oi, the local score of a kernel for its output channel, is the mean over positions of
      |A_oi g_o|. g_o is the gradient by Y_o of what the next convolutions read of channel o,
      or of the response r where none lies between: it goes through ReLUs, norms, pools, sums and
      concatenations, and never through a convolution.
    - R_o, the relevance of a channel, is the sum over positions of |Y_o g_o|.
    - A convolution hands R_o on to the channels that it reads: channel i gets what its kernels
      score, R_i, the sum over o. What a convolution reads of channel i is then R_i log a_i, of
      which g is the gradient, with a_i the sum over positions of |x_i|: so the relevance passes
      ReLUs and max-pools whole, and adds up where several convolutions read a channel.

    Beyond the paper, which keeps k channels in each layer: scores of all layers are compared, for
    which they are divided by their sum over the kernels into a channel; nothing is left out on the
    way down; and the target's own relevance, the response's activation x gradient, weighs images.
    A bias takes no part of the sum, and a norm or a sum of maps may make relevance grow or shrink.

    Args:
        forward: the image's values.
        targets: the units.
        response: the number that is explained.
        one_row: as in `site_passes`.

    Yields:
        The convolution's ordinal among the network's sites, and (units, kernels) of it.
    """
    parts: dict[int, list[Tensor]] = {}
    for units, part, gradient in unit_gradients(forward, targets, response):
        rows = {ordinal: of_units[units] for ordinal, of_units in one_row.items()}
        walk = _Walk(forward, rows)
        spread = part.spread(gradient)
        if forward.network.chain:
            spread = spread * forward.chain_slope()
        for each in backward(forward, {forward.network.base: spread}, handed=walk.handed):
            walk.score(each)
        for ordinal, scores in walk.scores.items():
            parts.setdefault(ordinal, []).append(scores.flatten(1))
    for ordinal, of_units in parts.items():
        yield ordinal, torch.cat(of_units)


class _Walk:
    """Some units' way from their layer to the image, convolution by convolution.

    Attributes:
        scores: by ordinal, (units, ...) in the order of the kernels, so far.
    """

    def __init__(self, forward: Forward, one_row: Mapping[int, Tensor]) -> None:
        self._forward, self._one_row = forward, one_row
        self._read: dict[str, Tensor] = {}
        self.scores: dict[int, Tensor] = {}

    def score(self, each: ConvGradient) -> None:
        """Scores a convolution's kernels, and finds what it hands to each channel that it reads."""
        step, gradient = each.step, each.output_gradient
        ordinal = step.convolution or 0
        rows = self._one_row.get(ordinal)
        # A channel without gradient has no part in the unit, even where it overflows.
        passed = torch.where(gradient != 0, gradient * self._forward.values[step.name], 0)
        relevance = passed.abs().sum((2, 3))
        if rows is not None:
            units = torch.arange(len(rows), device=rows.device)
            relevance = relevance[units, rows]
            gradient = gradient.flatten(2)[units, rows]
        local = actgrad([conv_call(self._forward, [ConvGradient(step, gradient, None)], rows)])
        # (units, groups, rows, inputs), or (units, inputs) where each unit reaches one row.
        local = local if rows is None else local.flatten(0, 2)
        relevance = relevance.view(local.shape[:-1])
        scores = local * _over(relevance, local.sum(-1))[..., None]
        scores = torch.where(relevance[..., None] > 0, scores, 0)
        known = self.scores.get(ordinal)
        self.scores[ordinal] = scores if known is None else known + scores
        self._read[step.name] = self._by_channel(step, scores, rows)

    def handed(self, step: Step) -> Tensor:
        """Gives the gradient of sum_i R_i log a_i by what a convolution reads."""
        value = self._forward.values[step.inputs[0]]
        share = _over(self._read.pop(step.name), value.abs().sum((2, 3)))
        return share[:, :, None, None] * value.sign()

    def _by_channel(self, step: Step, scores: Tensor, rows: Tensor | None) -> Tensor:
        """R_i, the sum of scores over the kernels that read a channel: (units, channels)."""
        site = self._forward.network.sites[step.convolution or 0]
        if rows is None:
            return scores.sum(2).flatten(1)
        if site.groups == 1:
            return scores
        by_group = scores.new_zeros((len(scores), site.groups, scores.shape[1]))
        group = rows // (len(site.weight) // site.groups)
        by_group[torch.arange(len(rows), device=rows.device), group] = scores
        return by_group.flatten(1)


def _over(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, 0 where the whole is."""
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1), 0)
