"""One unit's ranking of kernels, as it is trained: see `learned`."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits.compact_circuit import CompactCircuit
from circuit_atlas.jobs.circuits.kernel_means import KernelMeans
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.storage_schema.ranking import kernels_kept

_MOMENTUM = 0.9
# Of the sigmoid that stands for the choice in the backward pass.
_STEEPNESS = 4.0
# s = -ln(1 - rank) / 3 spreads the kernels evenly over the decades of the kept fraction.
_DECADES = 3.0
_TINY = 1e-12
# A loss this small leaves nothing to learn but noise; after so many of them a stage is done.
_SMALL_LOSS = 1e-3
_PATIENCE = 10
# A circuit that has come to fire gives up this share of what it keeps at each step.
_GIVEN_UP = 0.03


class Learner:
    """A unit's ranking, from the whole network down to its smallest circuit.

    Attributes:
        number: the unit.
    """

    def __init__(
        self,
        layer: TracedLayer,
        number: int,
        start: NDArray[np.float32],
        means: KernelMeans | None,
    ) -> None:
        """Ranks the kernels by `start`, (kernels,); NaN where one cannot reach the unit."""
        self.number = number
        self._layer, self._means = layer, means
        reachable = layer.reachable(number)
        self._kernels = len(reachable)
        self._total = int(reachable.sum())
        like = layer.network.sites[-1].weight
        # Best first, and of those that fell out of a circuit the last ones first.
        order = np.argsort(-start[reachable], kind="stable")
        self._order = torch.from_numpy(np.flatnonzero(reachable)[order]).to(like.device)
        self._fallen: list[Tensor] = []
        self._like = like

    def begin(self, fraction: float, *, steps: int, rate: float) -> None:
        """Starts on the circuit of a fraction, among the kernels of the one before, for so many
        steps, of which the largest is `rate`."""
        count = len(self._order)
        self._keep = self._held = min(count, kernels_kept(fraction, self._total))
        inside = np.zeros(self._kernels, dtype=np.bool_)
        inside[self._order.cpu().numpy()] = True
        self._circuit = CompactCircuit(self._layer, self.number, inside, self._means)
        below = torch.arange(count, 0, -1, device=self._like.device, dtype=torch.float64)
        self._value = (-torch.log((count - below + 0.5) / count) / _DECADES).to(self._like.dtype)
        self._speed = torch.zeros_like(self._value)
        self._calm = self._taken = 0
        self._steps, self._rate, self._silent = steps, rate, False

    def step(
        self, images: Tensor, full: Tensor, rate: float, position: tuple[int, int] | None
    ) -> None:
        """Takes a step towards the unit's map in the whole network.

        Args:
            images: (images, channels, height, width).
            full: (images, map height, map width).
            rate: how far.
            position: the row and column of the map that count. Default: all of it.
        """
        if self._keep == len(self._order) or self._calm >= _PATIENCE:
            return
        value = self._value.requires_grad_()
        at = ... if position is None else (slice(None), *position)
        full = full[at]
        with torch.enable_grad():
            threshold = value.detach().topk(self._held).values[-1]
            hard = (value.detach() >= threshold).to(value.dtype)
            soft = torch.sigmoid(_STEEPNESS * (value - threshold))
            kept = value.new_zeros(self._kernels)
            kept = kept.index_put((self._order,), hard + soft - soft.detach())
            maps = self._circuit.maps(images, kept)[at]
            silent = not _varies(maps) and _varies(full)
            if silent:
                del maps  # with all that its gradient would take
                maps = self._circuit.maps(images, kept, rectified=False)[at]
            loss = _level(maps, full) if silent else 1 - _correlation(maps, full)
            (gradient,) = torch.autograd.grad(loss, value)
        self._value = value.detach()
        self._hold(fires=not silent)
        small = not silent and float(loss.detach()) < _SMALL_LOSS
        self._calm = self._calm + 1 if small and self._held == self._keep else 0
        if small:
            return
        gradient = gradient / (gradient.square().mean().sqrt() + _TINY)
        # A kept kernel that changes nothing lies on no path, and makes way for another.
        gradient = torch.where((hard > 0) & (gradient == 0), torch.ones_like(gradient), gradient)
        if silent != self._silent:
            self._speed, self._silent = torch.zeros_like(self._speed), silent
        self._speed = _MOMENTUM * self._speed + gradient
        self._value -= (self._rate if silent else rate) * self._speed

    def _hold(self, *, fires: bool) -> None:
        """Decides how many kernels the next step keeps: more than the fraction's while the circuit
        is silent, as little can be learned from what does not fire; then fewer step by step, and so
        in the second half in any case."""
        self._taken += 1
        if fires or self._taken > self._steps / 2:
            self._held = max(self._keep, int(self._held * (1 - _GIVEN_UP)))
        else:
            self._held = min(
                len(self._order) - 1, math.ceil(math.sqrt(self._held * len(self._order)))
            )

    def end(self) -> None:
        """Drops the kernels outside the circuit."""
        best = self._value.argsort(descending=True, stable=True)
        self._order = self._order[best]
        self._fallen.insert(0, self._order[self._keep :])
        self._order = self._order[: self._keep]

    def scores(self) -> NDArray[np.float32]:
        """Gives the ranking as scores, (kernels,) in (0, 1], NaN where one cannot reach the
        unit."""
        ranked = torch.cat([self._order, *self._fallen]).cpu().numpy()
        scores = np.full(self._kernels, np.nan, dtype=np.float32)
        scores[ranked] = (np.arange(self._total, 0, -1) / self._total).astype(np.float32)
        return scores


def _correlation(circuit: Tensor, full: Tensor) -> Tensor:
    """Pearson r; 0 where either is constant."""
    a, b = circuit.flatten() - circuit.mean(), full.flatten() - full.mean()
    scale = a.norm() * b.norm()
    return a @ b / scale if scale.detach() > _TINY else a.sum() * 0


def _level(before: Tensor, full: Tensor) -> Tensor:
    """The loss of a silent circuit, to which r passes no gradient: how low its maps are before the
    ReLU where the whole network fires."""
    return -(full * before).sum() / (full.abs().sum() + _TINY)


def _varies(maps: Tensor) -> bool:
    return bool((maps.detach() != maps.detach().flatten()[0]).any())
