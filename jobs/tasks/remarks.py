"""What a person should know about a build before it starts, and what it does not stop for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from circuit_atlas.jobs.engine.backward import generic_operations
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.whole import whole_modules
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.storage_schema.wording import listed

# So many images tell well enough whether most of a response is negative.
_IMAGES = 8
_MOSTLY = 0.5


def remarks(opened: OpenedSpec) -> tuple[str, ...]:
    """Lists remarks on the model, the images and the layers of a spec, a line each.

    Where several layers meet with the same, the line is of the last of them, and names the others.
    """
    images = (opened.images.remark,) if opened.images.remark else ()
    of_layers: dict[str, dict[str, str]] = {}
    for layer_spec in opened.spec.layers:
        layer = opened.layer(layer_spec.name)
        for kind, remark in (*_slow(layer), *_whole(layer), *_negative(opened, layer)):
            of_layers.setdefault(kind, {})[layer_spec.name] = remark
    return (*opened.remarks, *images, *map(_together, of_layers.values()))


def _together(remarks: Mapping[str, str]) -> str:
    """One line for remarks of one kind, by layer."""
    *others, last = remarks
    likewise = f"; likewise {listed(others, most=3)}" if others else ""
    return f"{remarks[last]}{likewise}"


def _slow(layer: TracedLayer) -> Iterator[tuple[str, str]]:
    """What is slow about a layer, with its kind."""
    generic = generic_operations(layer.network)
    if generic:
        yield (
            "slow",
            f"layer {layer.index.layer!r} is computed through {listed(generic)}, for which there "
            "is no fast backward pass: torch's autograd takes its place, as right and slower",
        )


def _whole(layer: TracedLayer) -> Iterator[tuple[str, str]]:
    """What has weights on the way to a layer, and is pruned in no circuit, with its kind."""
    for kind, paths in whole_modules(layer.network).items():
        of = kind.singular if len(paths) == 1 else kind.plural
        yield (
            kind.plural,
            f"layer {layer.index.layer!r}: the weights of the {of} {listed(paths, most=3)} are no "
            "candidates and stay whole in every circuit, which is made of the kernels of "
            "two-dimensional convolutions",
        )


def _negative(opened: OpenedSpec, layer: TracedLayer) -> Iterator[tuple[str, str]]:
    """Whether what is explained is mostly what an activation function throws away, with its
    kind."""
    if layer.index.activation != "pre":
        return
    images = opened.images.scoring[:_IMAGES]
    below = total = 0.0
    with torch.no_grad():
        for batch in opened.batches(images, 1):
            output = layer.network.output(batch)
            total += float(output.abs().sum())
            below += float(output.clamp(max=0).abs().sum())
    if below > _MOSTLY * total:
        yield (
            "negative",
            f'layer {layer.index.layer!r} with activation = "pre": {below / total:.0%} of its '
            'response is negative, which a ReLU after it would throw away; activation = "post" '
            "explains what its units pass on",
        )
