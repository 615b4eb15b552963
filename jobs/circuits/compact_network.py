"""A network without the channels that no kernel of a circuit reads.

They are left out of every tensor, so that the arithmetic falls with the square of the channels that
stay. What stays is found once, and run as often as one likes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from circuit_atlas.jobs.circuits.first_convolution import FirstConvolution
from circuit_atlas.jobs.circuits.live_channels import (
    Channels,
    follows_channels,
    grouping,
    live_channels,
    part_ends,
)
from circuit_atlas.jobs.circuits.side_by_side import (
    concatenated,
    of_channels,
    of_circuits,
    picked,
    side_by_side,
)
from circuit_atlas.jobs.network.aten import BATCH_NORM
from circuit_atlas.jobs.network.convolution import (
    ConvWeights,
    channels_last,
    conv_geometry,
    convolve,
)
from circuit_atlas.jobs.network.layer_network import Network, Replaced
from circuit_atlas.jobs.network.step import Step
from circuit_atlas.jobs.network.step_kinds import is_channelwise

# Their results are tensors of their own, in which others may write.
_FRESH = frozenset({BATCH_NORM, "add", "sub", "mul", "div", "cat", "max_pool2d"})


@dataclass(frozen=True)
class _Planned:
    """A step, and what it takes of the channels that its inputs hold.

    Attributes:
        step: the step.
        channels: those of its result that are computed, (n,) int64, or (circuits, n); None for all.
        taken: for each input that is not taken whole, the channels to take of what is held.
        parts: of a concatenation, for each input the channels to take; None where all, and no entry
            where none.
        apart: whether the parts of its result stay apart.
        rectify: whether a ReLU that stood before this max-pool is applied after it, where there is
            less to do: the largest value's ReLU is the largest ReLU.
        passes: whether it is that ReLU.
    """

    step: Step
    channels: Tensor | None
    taken: Mapping[str, Tensor]
    parts: tuple[tuple[str, Tensor | None], ...] = ()
    apart: bool = False
    rectify: bool = False
    passes: bool = False


class CompactNetwork:
    """The part of a pruned network that computes some channels of the layer's output.

    Attributes:
        network: the whole network.
        live: (channels,) bool of each value that is computed, by its name, or (circuits, channels).
    """

    def __init__(self, network: Network, masks: Mapping[str, Channels], read: Channels) -> None:
        """Finds what is to be computed.

        Args:
            network: the traced network.
            masks: as in `live_channels`; with an axis of circuits, `output` takes an image for each
                of them, and the network has to be one that `can_stand_side_by_side`.
            read: (channels,) bool, the channels of the layer's output to compute.
        """
        self.network = network
        several = next((mask.shape[:-2] for mask in masks.values()), ())
        read = np.broadcast_to(read, (*several, len(read)))
        self.live = live_channels(network, masks, read)
        self._device = network.sites[-1].weight.device
        self._apart = bool(several)
        steps = [step for step in network.steps if step.name in self.live]
        moved = {step.inputs[0] for step in steps if self._follows_a_relu(step)}
        self._plan = {step.name: self._planned(step, moved) for step in steps}
        self._read = self._take(self.live[network.target.name], read)

    def rows(self, step: Step) -> Tensor | None:
        """Gives the output channels of a convolution that are computed, (n,) int64, or (circuits,
        n); None for all."""
        return None if grouping(self.network, step) == "grouped" else self._plan[step.name].channels

    def columns(self, step: Step) -> Tensor | None:
        """Gives the input channels that a convolution's kernels are taken of, (n,) int64, or
        (circuits, n); None for all."""
        if grouping(self.network, step) != "plain":
            return None
        held = self.live[step.inputs[0]]
        return self._numbers(held)

    def compact(self, step: Step, kernels: Tensor) -> Tensor:
        """Takes what is computed of a tensor with an entry for each kernel of a convolution:
        (out, in / groups, ...), or one for each circuit."""
        rows, columns = self.rows(step), self.columns(step)
        if columns is None:
            return kernels if rows is None else kernels[rows]
        if rows is None:
            rows = torch.arange(len(kernels), device=kernels.device)
        return kernels[rows[..., :, None], columns[..., None, :]]

    def output(
        self,
        images: Tensor,
        weights: Replaced,
        first: FirstConvolution | None = None,
        *,
        rectified: bool = True,
    ) -> Tensor:
        """Computes the channels of the layer's output.

        Args:
            images: (images, channels, height, width), one for each circuit where there are several.
            weights: what each convolution of it runs with, as `compact` gives it; the biases of
                `rows` with them. One that is not named runs with the model's own.
            first: the first convolution for these images and this ablation, where the network has
                one; the weights of it come with the mask of all its kernels. Default: none.
            rectified: false to leave out a ReLU that makes the layer's output.

        Returns:
            (images, channels read, map height, map width).
        """
        network = self.network
        circuits = len(images) if self._apart else 1
        values: dict[str, Any] = {**network.sizes.at(len(images), network.image)}
        plan = list(self._plan.values())
        if first is not None and first.last.name in self.live:
            kernels = weights.get(first.convolution.name)
            known = first.channels(kernels, self.live[first.last.name])
            values[first.last.name] = side_by_side(known) if self._apart else known
            plan = plan[[each.step for each in plan].index(first.last) + 1 :]
        else:
            order = side_by_side if self._apart else channels_last
            values[network.image] = order(images)
        bare = None
        if not rectified and network.target.op == "relu":
            *plan, bare = plan
        left = Counter(name for each in plan for name in each.step.inputs)
        for each in plan:
            values[each.step.name] = self._run(each, values, weights, circuits)
            for name in each.step.inputs:
                left[name] -= 1
                if not left[name]:
                    del values[name]
        if bare is None:
            made = values[network.target.name]
        else:
            source = bare.step.inputs[0]
            made = picked(values[source], bare.taken.get(source), circuits)
        result: Tensor = picked(made, self._read, circuits)
        return result[0].unflatten(0, (circuits, -1)) if self._apart else result

    def _planned(self, step: Step, moved: set[str]) -> _Planned:
        mark = self.live[step.name]
        channels = self._numbers(mark) if follows_channels(self.network, step) else None
        if step.convolution is not None:
            taken = {}
            if grouping(self.network, step) == "depthwise":
                taken = self._taken({step.inputs[0]: mark})
            return _Planned(step, channels, taken)
        if not follows_channels(self.network, step):
            return _Planned(step, None, {})
        if step.op == "cat":
            pieces = np.split(mark, part_ends(self.network, step), axis=-1)
            parts = tuple(
                (part.name, self._take(self.live[part.name], piece))
                for part, piece in zip(step.args[0], pieces, strict=True)
                if piece.any()
            )
            return _Planned(step, channels, {}, parts, self._stays_apart(step))
        wide = [name for name in step.inputs if self.network.shape(name)[0] == mark.shape[-1]]
        return _Planned(
            step,
            channels,
            self._taken(dict.fromkeys(wide, mark)),
            rectify=step.op == "max_pool2d" and step.inputs[0] in moved,
            passes=step.name in moved,
        )

    def _follows_a_relu(self, step: Step) -> bool:
        """Whether a max-pool is all that reads a ReLU's result."""
        before = self.network.by_name.get(step.inputs[0]) if step.inputs else None
        return (
            step.op == "max_pool2d"
            and before is not None
            and before.op == "relu"
            and self.network.reads[before.name] == 1
            and is_channelwise(self.network, step)
            and is_channelwise(self.network, before)
        )

    def _taken(self, read: Mapping[str, Channels]) -> dict[str, Tensor]:
        found = {name: self._take(self.live[name], mark) for name, mark in read.items()}
        return {name: index for name, index in found.items() if index is not None}

    def _take(self, held: Channels, read: Channels) -> Tensor | None:
        """Where the channels `read` stand in a value that holds the channels `held`."""
        if held.sum() == read.sum():
            return None
        return self._where(read[held].reshape(*held.shape[:-1], -1))

    def _numbers(self, mark: Channels) -> Tensor | None:
        return None if mark.all() else self._where(mark)

    def _where(self, mark: Channels) -> Tensor:
        return torch.from_numpy(mark.nonzero()[-1].reshape(*mark.shape[:-1], -1)).to(self._device)

    def _run(
        self,
        planned: _Planned,
        values: Mapping[str, Any],
        weights: Mapping[str, ConvWeights],
        circuits: int,
    ) -> Tensor | tuple[Tensor, ...]:
        """The step's live channels; in parts where what is concatenated stays apart."""
        step = planned.step
        if step.convolution is not None:
            return self._convolve(planned, values, weights.get(step.name), circuits)
        if planned.parts:
            parts = [picked(values[name], index, circuits) for name, index in planned.parts]
            return tuple(parts) if planned.apart else concatenated(parts, circuits)
        if step.inputs and isinstance(values[step.inputs[0]], tuple):
            return tuple(
                self._apply(planned, {step.inputs[0]: part}, circuits)
                for part in values[step.inputs[0]]
            )
        taken = {
            name: picked(values[name], index, circuits) for name, index in planned.taken.items()
        }
        return self._apply(planned, {**values, **taken}, circuits)

    def _apply(self, planned: _Planned, values: Mapping[str, Any], circuits: int) -> Tensor:
        """The result of a step that is neither a convolution nor a concatenation."""
        step = planned.step
        if planned.passes:
            result: Tensor = values[step.inputs[0]]
            return result
        if step.op == BATCH_NORM and (planned.channels is not None or circuits > 1):
            args = [
                of_channels(arg, planned.channels, circuits) if isinstance(arg, Tensor) else arg
                for arg in step.args[1:]
            ]
            normalised: Tensor = step.call(values[step.inputs[0]], *args)[0]
            return normalised
        if step.op == "relu":
            return self._rectified(step.inputs[0], values[step.inputs[0]])
        result = step.run(values)
        return self._rectified(step.name, result) if planned.rectify else result

    def _rectified(self, name: str, value: Tensor) -> Tensor:
        """The ReLU of a value, over which it is written where nothing else reads it: that saves a
        pass through memory."""
        step = self.network.by_name.get(name)
        fresh = step is not None and (step.convolution is not None or step.op in _FRESH)
        if fresh and self.network.reads[name] == 1 and not torch.is_grad_enabled():
            return torch.relu_(value)
        return torch.relu(value)

    def _convolve(
        self,
        planned: _Planned,
        values: Mapping[str, Any],
        kernels: ConvWeights | None,
        circuits: int,
    ) -> Tensor:
        step = planned.step
        source = step.inputs[0]
        value = values[source]
        if kernels is None:
            kernels = self._own(step)
        geometry = conv_geometry(step.args)
        how = grouping(self.network, step)
        if how == "grouped":
            return step.run({**values, source: value}, kernels)
        if how == "depthwise":
            value = picked(value, planned.taken.get(source), circuits)
        kernels = of_circuits(kernels, circuits)
        groups = len(kernels.weight) if how == "depthwise" else circuits
        geometry = replace(geometry, groups=groups)
        if isinstance(value, Tensor):
            return convolve(value, kernels, geometry)
        weights = kernels.weight.split([part.shape[1] // circuits for part in value], 1)
        result = convolve(value[0], ConvWeights(weights[0], kernels.bias), geometry)
        for part, weight in zip(value[1:], weights[1:], strict=True):
            result += convolve(part, ConvWeights(weight, None), geometry)
        return result

    def _own(self, step: Step) -> ConvWeights:
        """The model's weights of what is computed."""
        weight = self.compact(step, self.network.sites[step.convolution or 0].weight)
        bias, rows = step.args[2] if len(step.args) > 2 else None, self.rows(step)
        return ConvWeights(weight, bias if bias is None or rows is None else bias[rows])

    def _stays_apart(self, step: Step) -> bool:
        """Whether a concatenation is not worth its copy: a convolution alone reads it, perhaps
        after a max-pool, and adding up its results of each part moves less."""
        reader = self._only_reader(step)
        if reader is not None and reader.op == "max_pool2d":
            reader = self._only_reader(reader)
        if reader is None or reader.convolution is None:
            return False
        if grouping(self.network, reader) != "plain":
            return False
        return (len(step.args[0]) - 1) * reader.shape[0] < step.shape[0]

    def _only_reader(self, step: Step) -> Step | None:
        if self.network.reads[step.name] != 1 or step is self.network.target:
            return None
        return next(other for other in self.network.steps if step.name in other.inputs)
