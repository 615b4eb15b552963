"""The channels that a circuit's kernels read, and with them what has to be computed.

A channel whose every outgoing kernel is pruned changes nothing downstream. A channel that is read,
but whose every incoming kernel is pruned, stays as the constant that its bias makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.jobs.network.aten import BATCH_NORM
from circuit_atlas.jobs.network.convolution import conv_geometry
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.step import Step
from circuit_atlas.jobs.network.step_kinds import (
    has_constant_tensors,
    is_channelwise,
    is_concatenation,
    once,
)

Channels = NDArray[np.bool_]

_MULTIPLE = 8


def live_channels(
    network: Network,
    masks: Mapping[str, Channels],
    read: Channels,
    *,
    varying: Mapping[str, Channels] | None = None,
) -> dict[str, Channels]:
    """Marks the channels to compute of each value that some channels of the layer's output need.

    Args:
        network: the traced network.
        masks: (out, in / groups) bool, the kernels that are kept of a convolution, by the name of
            its step; one that is not named keeps all. Or (circuits, out, in / groups), and all that
            is given and returned has an axis of circuits: as many channels of each are marked.
        read: (channels,) bool over the layer's output.
        varying: (channels,) bool of each value, the channels that depend on the image. A value of
            which no marked channel does so is a constant, and needs nothing; channels are not
            filled up; and of a convolution with groups, `balanced_groups` are computed. Default:
            every channel counts as one that depends on it.

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
        cut = varying is not None and is_grouped(network, step)
        if cut:
            rows, columns = balanced_groups(network, step, needs[step.name], masks[step.name])
            needs[step.name] = fill[step.name] = rows
        elif not follows_channels(network, step):
            needs[step.name] = fill[step.name] = _every(step.shape, needs[step.name])
        marks = needs[step.name], fill[step.name]
        if varying is None and step is not network.target:
            marks = marks[0], _filled(network, step, marks[1])
        live[step.name] = marks[1]
        if varying is not None and not (marks[1] & varying[step.name]).any():
            continue
        needed = [(step.inputs[0], columns)] if cut else _needed(network, step, marks[0], masks)
        mixes = step.convolution is not None and grouping(network, step) != "depthwise"
        filled = needed if mixes else _needed(network, step, marks[1], masks)
        for known, inputs in ((needs, needed), (fill, filled)):
            for name, channels in inputs:
                if varying is None:
                    # An empty tensor would be a case of its own in every operation.
                    channels[..., 0] |= ~channels.any(axis=-1)
                elif not channels.any():
                    continue
                known[name] = known[name] | channels if name in known else channels
    live[network.image] = _every(network.image_shape, read)
    return live


def is_grouped(network: Network, step: Step) -> bool:
    """Says whether the step is a convolution of several groups of several channels."""
    return step.convolution is not None and grouping(network, step) == "grouped"


def balanced_groups(
    network: Network, step: Step, mark: Channels, kernels: Channels
) -> tuple[Channels, Channels]:
    """Marks what is computed of a convolution with groups, so that it stays one: of each group that
    has a marked row as many rows, and as many input channels.

    Args:
        network: the traced network.
        step: applies the convolution.
        mark: (out,) bool, its rows that are needed.
        kernels: (out, in / groups) bool, those that are kept.

    Returns:
        (out,) and (in,) bool. For the first of them it gives the same two again.
    """
    groups = network.sites[step.convolution or 0].groups
    rows = _balanced(mark.reshape(groups, -1))
    kept = kernels.reshape(groups, rows.shape[1], -1) & rows[:, :, None]
    used = rows.any(axis=1)
    columns = np.zeros((groups, kept.shape[2]), dtype=np.bool_)
    columns[used] = _balanced(np.any(kept[used], axis=1), least=1)
    return rows.ravel(), columns.ravel()


def _balanced(marks: Channels, *, least: int = 0) -> Channels:
    """Marks more, (groups, channels), so that groups with any have as many, and all at `least`."""
    counts = marks.sum(axis=1)
    most = max(least, int(counts.max(initial=0)))
    marks = marks.copy()
    for group in np.flatnonzero(np.maximum(counts, least)):
        marks[group, np.flatnonzero(~marks[group])[: most - counts[group]]] = True
    return marks


def _every(shape: tuple[int, ...], like: Channels) -> Channels:
    """A mark of all channels, with as many circuits as another."""
    return np.ones((*like.shape[:-1], *(shape[:1] or (1,))), dtype=np.bool_)


def _filled(network: Network, step: Step, mark: Channels) -> Channels:
    """The channels filled up to a multiple of 8, so that few sizes of convolutions are met: oneDNN
    makes code for each, and what that takes is a third of the time of small circuits.

    Each part of a concatenation is filled up, so that the parts and all that follows channel by
    channel hold the same.
    """
    source = _concatenated(network, step)
    if source is None:
        return _filled_up(mark)
    pieces = np.split(mark, part_ends(network, source), axis=-1)
    return np.concatenate([_filled_up(piece) for piece in pieces], axis=-1)


@once
def _concatenated(network: Network, step: Step) -> Step | None:
    """The concatenation whose channels the step's result has, if any."""
    source = step
    while source.op != "cat" and len(source.inputs) == 1 and source.inputs[0] in network.by_name:
        before = network.by_name[source.inputs[0]]
        if source.convolution is not None or before.shape[:1] != source.shape[:1]:
            break
        source = before
    return source if is_concatenation(network, source) else None


def _filled_up(mark: Channels) -> Channels:
    counts = mark.sum(axis=-1, keepdims=True)
    most = int(counts.max())
    more = most + -most % _MULTIPLE - counts
    return mark | (np.cumsum(~mark, axis=-1) <= more) if most else mark


@once
def part_ends(network: Network, step: Step) -> NDArray[np.int64]:
    """Says where the parts of a concatenation end, but for the last."""
    return np.cumsum([network.shape(part.name)[0] for part in step.args[0]])[:-1]


@once
def follows_channels(network: Network, step: Step) -> bool:
    """Says whether the step can run on some of its channels alone."""
    if step.convolution is not None:
        return grouping(network, step) != "grouped"
    if is_concatenation(network, step):
        return True
    constants = step.op != BATCH_NORM and has_constant_tensors(step)
    return is_channelwise(network, step) and not constants


@once
def grouping(network: Network, step: Step) -> Literal["plain", "depthwise", "grouped"]:
    """Says how a convolution's channels fall into groups: into one, one a channel, or otherwise."""
    weight = network.sites[step.convolution or 0].weight
    groups = conv_geometry(step.args).groups
    if groups == 1:
        return "plain"
    return "depthwise" if weight.shape[1] == 1 and len(weight) == groups else "grouped"


def _needed(
    network: Network, step: Step, mark: Channels, masks: Mapping[str, Channels]
) -> list[tuple[str, Channels]]:
    """The channels of each input that the marked channels of the result read."""
    if step.convolution is not None and grouping(network, step) != "grouped":
        if grouping(network, step) == "depthwise":
            return [(step.inputs[0], mark.copy())]
        kernels = masks.get(step.name)
        if kernels is None:
            return [(step.inputs[0], _every(network.shape(step.inputs[0]), mark))]
        inputs: Channels = np.any(kernels & mark[..., None], axis=-2)
        return [(step.inputs[0], inputs)]
    if not follows_channels(network, step):
        return [(name, _every(network.shape(name), mark)) for name in step.inputs]
    if step.op == "cat":
        pieces = np.split(mark, part_ends(network, step), axis=-1)
        return [(p.name, piece.copy()) for p, piece in zip(step.args[0], pieces, strict=True)]
    return [
        (name, mark.copy() if network.shape(name)[0] == mark.shape[-1] else _every((1,), mark))
        for name in step.inputs
    ]
