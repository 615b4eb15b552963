"""A circuit's forward pass without the channels that no kernel of the circuit reads.

A channel whose every outgoing kernel is pruned changes nothing downstream, so it is left out of
every tensor: the arithmetic falls with the square of the channels that stay. A channel that is
read, but whose every incoming kernel is pruned, stays as the constant that its bias makes of it.
The result is that of the whole network with pruned kernels at zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits.first_convolution import FirstConvolution
from circuit_atlas.jobs.network.aten import BATCH_NORM
from circuit_atlas.jobs.network.convolution import (
    ConvWeights,
    channels_last,
    conv_geometry,
    convolve,
)
from circuit_atlas.jobs.network.graph import Network, Step
from circuit_atlas.jobs.network.step_kinds import (
    has_constant_tensors,
    is_channelwise,
    is_concatenation,
)

Channels = NDArray[np.bool_]

_MULTIPLE = 8
# Their results are tensors of their own, in which others may write.
_FRESH = frozenset({BATCH_NORM, "add", "sub", "mul", "div", "cat"})


def compact_output(
    network: Network,
    replaced: Mapping[str, ConvWeights],
    read: Channels,
    images: Tensor,
    first: FirstConvolution | None,
) -> Tensor:
    """Computes some channels of the layer's output in a pruned network.

    Args:
        network: the traced network.
        replaced: pruned weights and the biases with them, by the name of the step.
        read: (channels,) bool, the channels of the layer's output to compute.
        images: (images, channels, height, width).
        first: the first convolution for these images and this ablation, where the network has one.

    Returns:
        (images, channels read, map height, map width).
    """
    live = live_channels(network, replaced, read)
    sizes = network.sizes.at(len(images), network.image)
    values: dict[str, Any] = {**sizes}
    steps = list(network.steps)
    if first is not None and first.last.name in live:
        kernels = replaced.get(first.convolution.name)
        values[first.last.name] = first.channels(kernels, live[first.last.name])
        steps = steps[steps.index(first.last) + 1 :]
    else:
        values[network.image] = channels_last(images)
    steps = [step for step in steps if step.name in live]
    left = Counter(name for step in steps for name in step.inputs)
    for step in steps:
        values[step.name] = _run(network, step, values, live, replaced)
        for name in step.inputs:
            left[name] -= 1
            if not left[name]:
                del values[name]
    return _take(values[network.target.name], live[network.target.name], read)


def live_channels(
    network: Network, replaced: Mapping[str, ConvWeights], read: Channels
) -> dict[str, Channels]:
    """Marks the channels to compute of each value that some channels of the layer's output need.

    Args:
        network: the traced network.
        replaced: as in `compact_output`.
        read: (channels,) bool over the layer's output.

    Returns:
        (channels,) bool for each value that is computed, by its name.
    """
    live: dict[str, Channels] = {}
    # Without those that only fill up: what they would need is not computed.
    needs: dict[str, Channels] = {network.target.name: read}
    fill: dict[str, Channels] = {network.target.name: read}
    for step in reversed(network.steps):
        if step.name not in needs:
            continue
        if not _follows_channels(network, step):
            needs[step.name] = fill[step.name] = _every(step.shape)
        marks = needs[step.name], fill[step.name]
        if step is not network.target:
            marks = marks[0], _filled(network, step, marks[1])
        live[step.name] = marks[1]
        needed = _needed(network, step, marks[0], replaced)
        mixes = step.convolution is not None and _grouping(network, step) != "depthwise"
        filled = needed if mixes else _needed(network, step, marks[1], replaced)
        for known, inputs in ((needs, needed), (fill, filled)):
            for name, channels in inputs:
                if not channels.any():
                    # An empty tensor would be a case of its own in every operation.
                    channels[0] = True
                known[name] = known[name] | channels if name in known else channels
    live[network.image] = np.ones(network.image_shape[0], dtype=np.bool_)
    return live


def _every(shape: tuple[int, ...]) -> Channels:
    return np.ones(shape[:1] or 1, dtype=np.bool_)


def _filled(network: Network, step: Step, mark: Channels) -> Channels:
    """The channels filled up to a multiple of 8, so that few sizes of convolutions are met: oneDNN
    makes code for each, and what that takes is a third of the time of small circuits.

    Each part of a concatenation is filled up, so that the parts and all that follows channel by
    channel hold the same.
    """
    source = step
    while source.op != "cat" and len(source.inputs) == 1 and source.inputs[0] in network.by_name:
        before = network.by_name[source.inputs[0]]
        if source.convolution is not None or before.shape[:1] != source.shape[:1]:
            break
        source = before
    if is_concatenation(network, source):
        pieces = np.split(mark, _ends(network, source))
        return np.concatenate([_filled_up(piece) for piece in pieces])
    return _filled_up(mark)


def _filled_up(mark: Channels) -> Channels:
    more = -int(mark.sum()) % _MULTIPLE
    mark = mark.copy()
    if mark.any():
        mark[np.flatnonzero(~mark)[:more]] = True
    return mark


def _ends(network: Network, step: Step) -> NDArray[np.int64]:
    """Where the parts of a concatenation end, but for the last."""
    return np.cumsum([network.shape(part.name)[0] for part in step.args[0]])[:-1]


def _follows_channels(network: Network, step: Step) -> bool:
    """Whether the step can run on some of its channels alone."""
    if step.convolution is not None:
        return _grouping(network, step) != "grouped"
    if is_concatenation(network, step):
        return True
    constants = step.op != BATCH_NORM and has_constant_tensors(step)
    return is_channelwise(network, step) and not constants


def _grouping(network: Network, step: Step) -> str:
    weight = network.sites[step.convolution or 0].weight
    groups = conv_geometry(step.args).groups
    if groups == 1:
        return "plain"
    return "depthwise" if weight.shape[1] == 1 and len(weight) == groups else "grouped"


def _needed(
    network: Network, step: Step, mark: Channels, replaced: Mapping[str, ConvWeights]
) -> list[tuple[str, Channels]]:
    """The channels of each input that the marked channels of the result read."""
    if step.convolution is not None and _grouping(network, step) != "grouped":
        if _grouping(network, step) == "depthwise":
            return [(step.inputs[0], mark.copy())]
        kernels = replaced.get(step.name)
        if kernels is None or kernels.mask is None:
            return [(step.inputs[0], _every(network.shape(step.inputs[0])))]
        inputs: Channels = np.any(kernels.mask[mark], axis=0)
        return [(step.inputs[0], inputs)]
    if not _follows_channels(network, step):
        return [(name, _every(network.shape(name))) for name in step.inputs]
    if step.op == "cat":
        pieces = np.split(mark, _ends(network, step))
        return [(p.name, piece.copy()) for p, piece in zip(step.args[0], pieces, strict=True)]
    return [
        (name, mark.copy() if network.shape(name)[0] == len(mark) else np.ones(1, np.bool_))
        for name in step.inputs
    ]


def _run(
    network: Network,
    step: Step,
    values: Mapping[str, Any],
    live: Mapping[str, Channels],
    replaced: Mapping[str, ConvWeights],
) -> Tensor | tuple[Tensor, ...]:
    """The step's live channels; in parts where what is concatenated stays apart."""
    mark = live[step.name]
    kernels = replaced.get(step.name)
    if step.convolution is not None:
        return _convolve(network, step, values, live, kernels)
    if not _follows_channels(network, step):
        return step.run(values)
    if step.op == "cat":
        pieces = zip(step.args[0], np.split(mark, _ends(network, step)), strict=True)
        parts = [
            _take(values[part.name], live[part.name], piece)
            for part, piece in pieces
            if piece.any()
        ]
        return tuple(parts) if _stays_apart(network, step) else torch.cat(parts, 1)
    if isinstance(values[step.inputs[0]], tuple):
        return tuple(step.run({step.inputs[0]: part}) for part in values[step.inputs[0]])
    taken = {
        name: _take(values[name], live[name], mark)
        if network.shape(name)[0] == len(mark)
        else values[name]
        for name in step.inputs
    }
    if step.op == BATCH_NORM:
        index = torch.from_numpy(np.flatnonzero(mark)).to(values[step.inputs[0]].device)
        args = [arg[index] if isinstance(arg, Tensor) else arg for arg in step.args[1:]]
        return step.call(taken[step.inputs[0]], *args)[0]
    source = step.inputs[0]
    if step.op == "relu" and network.reads[source] == 1 and _is_fresh(network, source):
        # Nothing else reads the value, and writing over it saves a pass through memory.
        return torch.relu_(taken[source])
    return step.run({**values, **taken})


def _is_fresh(network: Network, name: str) -> bool:
    """Whether a value is a tensor of its own, and no view of another or of a constant."""
    step = network.by_name.get(name)
    return step is not None and (step.convolution is not None or step.op in _FRESH)


def _convolve(
    network: Network,
    step: Step,
    values: Mapping[str, Any],
    live: Mapping[str, Channels],
    kernels: ConvWeights | None,
) -> Tensor:
    source = step.inputs[0]
    value = values[source]
    if kernels is None:
        bias = step.args[2] if len(step.args) > 2 else None
        kernels = ConvWeights(network.sites[step.convolution or 0].weight, bias)
    weight, bias = kernels.weight, kernels.bias
    geometry = conv_geometry(step.args)
    grouping = _grouping(network, step)
    if grouping == "grouped":
        return step.run({**values, source: value}, kernels)
    index = torch.from_numpy(np.flatnonzero(live[step.name])).to(weight.device)
    weight = weight[index]
    groups = 1
    if grouping == "depthwise":
        value = _take(value, live[source], live[step.name])
        groups = len(index)
    elif not live[source].all():
        weight = weight[:, torch.from_numpy(np.flatnonzero(live[source])).to(weight.device)]
    bias = None if bias is None else bias[index]
    geometry = replace(geometry, groups=groups)
    parts = value if isinstance(value, tuple) else (value,)
    weights = weight.split([part.shape[1] for part in parts], 1) if len(parts) > 1 else (weight,)
    result = convolve(parts[0], ConvWeights(weights[0], bias), geometry)
    for part, part_weight in zip(parts[1:], weights[1:], strict=True):
        result += convolve(part, ConvWeights(part_weight, None), geometry)
    return result


def _stays_apart(network: Network, step: Step) -> bool:
    """Whether a concatenation is not worth its copy: a convolution alone reads it, perhaps after a
    max-pool, and adding up its results of each part moves less."""
    reader = _only_reader(network, step)
    if reader is not None and reader.op == "max_pool2d":
        reader = _only_reader(network, reader)
    if reader is None or reader.convolution is None or _grouping(network, reader) != "plain":
        return False
    return (len(step.args[0]) - 1) * reader.shape[0] < step.shape[0]


def _only_reader(network: Network, step: Step) -> Step | None:
    if network.reads[step.name] != 1 or step is network.target:
        return None
    return next(other for other in network.steps if step.name in other.inputs)


def _take(value: Tensor, held: Channels, read: Channels) -> Tensor:
    """The channels `read` of a value that holds the channels `held`."""
    if held.sum() == read.sum():
        return value
    index = np.flatnonzero(read[held])
    return value[:, torch.from_numpy(index).to(value.device)]
