"""A layer's output as channels x height x width, however the model lays it out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from circuit_atlas.jobs.network.channel_axis import channel_axes, may_move_channels
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.step import Ref, Step, renamed
from circuit_atlas.storage_schema.errors import ModelError

_RESHAPE = torch.ops.aten.reshape.default
_PERMUTE = torch.ops.aten.permute.default


def as_map(network: Network, nearby: Callable[[], str]) -> Network:
    """Gives a layer's output as channels x height x width: a vector of K as K x 1 x 1, and a
    map with its channels last with them first.

    Raises ModelError where it is neither, nor can be told which axis counts channels.
    """
    shape = network.by_name[network.base].shape
    if len(shape) == 1:
        return _with_maps(network, (_RESHAPE, [-1, shape[0], 1, 1]), (_RESHAPE, [-1, shape[0]]))
    if len(shape) == 3 and not may_move_channels(network.steps):
        return network
    sizes = network.sizes.at(1, network.image)
    axes = channel_axes(network.steps, network.image, network.image_shape, sizes)
    axis = axes[network.base]
    if len(shape) == 3 and axis is None:
        # As in any map, but where something upstream has its channels elsewhere.
        sizes_of_maps = {network.shape(name)[1:] for name, axis in axes.items() if axis == 1}
        moved = any(axis not in (None, 1) for axis in axes.values())
        axis = 1 if shape[1:] in sizes_of_maps or not moved else None
    if len(shape) == 3 and axis == 1:
        return network
    if len(shape) == 3 and axis == 3:
        return _with_maps(network, (_PERMUTE, [0, 3, 1, 2]), (_PERMUTE, [0, 2, 3, 1]))
    raise ModelError(
        f"layer {network.layer!r} gives a result of {' x '.join(map(str, shape))} numbers "
        "an image, which is neither a map of channels nor a vector, so it has no units; "
        f"choose a layer that gives either, such as {nearby()}"
    )


_Move = tuple[Callable[..., Any], list[int]]


def _with_maps(network: Network, there: _Move, back: _Move) -> Network:
    """The network with the module's own output moved `there`, to channels x height x width; the
    chain after it runs on what is moved `back`, and its result is moved there again."""
    base, chain = network.by_name[network.base], network.chain
    own = _moved(base, there)
    added = [own]
    if chain:
        undone = _moved(own, back)
        names = {base.name: undone.name}
        again = [
            replace(
                step,
                args=renamed(step.args, names),
                kwargs=renamed(step.kwargs, names),
                inputs=tuple(names.get(name, name) for name in step.inputs),
            )
            for step in chain
        ]
        added += [undone, *again, _moved(chain[-1], there)]
    steps = (*network.steps[: len(network.steps) - len(chain)], *added)
    by_name = {step.name: step for step in steps}
    return replace(network, steps=steps, by_name=by_name, base=own.name)


def _moved(step: Step, move: _Move) -> Step:
    """One more step, which moves the numbers of a step's result."""
    call, argument = move
    op = call.__name__.split(".")[0]
    shape = tuple(call(torch.empty((1, *step.shape), device="meta"), argument).shape[1:])
    name = f"{step.name}_as_map"
    return Step(
        name=name,
        op=op,
        call=call,
        args=(Ref(step.name), argument),
        kwargs={},
        inputs=(step.name,),
        part=None,
        shape=shape,
        dtype=step.dtype,
    )
