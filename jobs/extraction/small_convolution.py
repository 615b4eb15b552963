"""A convolution of the channels that carry anything of the image to the rows that are needed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from circuit_atlas.jobs.circuits.live_channels import (
    Channels,
    balanced_groups,
    grouping,
    is_grouped,
)
from circuit_atlas.jobs.extraction.constants import Constants, input_channels
from circuit_atlas.jobs.network.convolution import (
    ConvGeometry,
    ConvWeights,
    conv_geometry,
    convolve,
)
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.step import Step

# How many multiply-adds take as long as to pick one number from among others, on a processor.
_PICKED = 100


@dataclass(frozen=True)
class SmallConvolution:
    """What is left of a convolution.

    Attributes:
        module: the convolution. What constant channels add that it is not handed is in its bias.
        columns: (channels,) bool, those of its whole input that it is handed.
        borders: (1, rows, height, width), what is to be added to its result in place of a bias,
            where that is not the same at every position; None otherwise.
    """

    module: nn.Conv2d
    columns: Channels
    borders: Tensor | None


def small_convolution(
    network: Network,
    step: Step,
    weights: ConvWeights,
    constants: Constants,
    *,
    rows: Channels,
    held: Channels,
) -> SmallConvolution:
    """Cuts a convolution of a pruned network.

    Args:
        network: the traced network.
        step: applies the convolution.
        weights: what it runs with there.
        constants: of that network.
        rows: (out,) bool, its output channels that are computed.
        held: (channels,) bool, the input channels that are computed.
    """
    (source,) = step.inputs
    columns = _columns(network, step, constants.carrying(step), rows, held)
    index = _index(rows, weights.weight)
    weight, groups = _kernels(network, step, weights.weight, rows, columns)
    bias = None if weights.bias is None else weights.bias[index]
    geometry = conv_geometry(step.args)
    small = replace(geometry, groups=groups)
    inputs = input_channels(step)[rows]
    constant = ~constants.varying[source] & ~columns
    folded = constants.kept[step.name][rows] & constant[inputs]
    if not folded.any():
        return SmallConvolution(conv2d(ConvWeights(weight, bias), small), columns, None)
    others = torch.from_numpy(~constant).to(weight.device)[:, None, None]
    values = constants.values[source].masked_fill(others, 0)
    added = convolve(values, weights, geometry)[:, index]
    if (folded & constants.uneven(step)[inputs]).any():
        return SmallConvolution(conv2d(ConvWeights(weight, None), small), columns, added)
    weights = ConvWeights(weight, added[0, :, 0, 0])
    return SmallConvolution(conv2d(weights, small), columns, None)


def conv2d(weights: ConvWeights, geometry: ConvGeometry) -> nn.Conv2d:
    """Makes a module of a convolution."""
    out, inputs, *size = weights.weight.shape
    module = nn.Conv2d(
        inputs * geometry.groups,
        out,
        (size[0], size[1]),
        geometry.stride,
        geometry.padding,
        geometry.dilation,
        geometry.groups,
        bias=weights.bias is not None,
        device="meta",
    )
    # Not views, which a file would hold with all that they are views of.
    layout = torch.contiguous_format
    module.weight = nn.Parameter(weights.weight.detach().clone(memory_format=layout))
    if weights.bias is not None:
        module.bias = nn.Parameter(weights.bias.detach().clone())
    return module


def _columns(
    network: Network, step: Step, carrying: Channels, rows: Channels, held: Channels
) -> Channels:
    """The input channels that it is handed: those that carry anything to it, or all that are
    computed, where picking among them costs more than it saves."""
    if is_grouped(network, step):
        return balanced_groups(network, step, rows, carrying)[1]
    if grouping(network, step) == "depthwise":
        return rows
    needed: Channels = np.any(carrying[rows], axis=0)
    saved = (held.sum() - needed.sum()) * rows.sum() * step.args[1][0, 0].numel()
    return needed if saved > _PICKED * needed.sum() else held


def _kernels(
    network: Network, step: Step, weight: Tensor, rows: Channels, columns: Channels
) -> tuple[Tensor, int]:
    """The kernels of those rows and input channels, and how many groups they fall into."""
    how = grouping(network, step)
    if how == "plain":
        return weight[_index(rows, weight)][:, _index(columns, weight)], 1
    if how == "depthwise":
        return weight[_index(rows, weight)], int(rows.sum())
    groups = conv_geometry(step.args).groups
    parts = [
        part[_index(of_rows, weight)][:, _index(of_columns, weight)]
        for part, of_rows, of_columns in zip(
            weight.unflatten(0, (groups, -1)),
            rows.reshape(groups, -1),
            columns.reshape(groups, -1),
            strict=True,
        )
        if of_rows.any()
    ]
    return torch.cat(parts), len(parts)


def _index(channels: Channels, like: Tensor) -> Tensor:
    return torch.from_numpy(np.flatnonzero(channels)).to(like.device)
