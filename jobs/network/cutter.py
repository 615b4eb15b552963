"""Nodes of a trace -> the network that computes one layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from circuit_atlas.jobs.network.convolution import conv_geometry
from circuit_atlas.jobs.network.layer_network import Network, Sizes
from circuit_atlas.jobs.network.origin import source_line
from circuit_atlas.jobs.network.passed_on import in_words
from circuit_atlas.jobs.network.site import Site, site_names
from circuit_atlas.jobs.network.step import Ref, Step
from circuit_atlas.jobs.network.traced_model import TracedModel
from circuit_atlas.jobs.network.traced_node import (
    bound,
    is_convolution,
    is_folded,
    shape_of,
    size_at,
)
from circuit_atlas.storage_schema.errors import ModelError


def _copy(into: Tensor, source: Tensor, _non_blocking: bool = False) -> Tensor:
    """What `copy` makes of an assignment to a part of a tensor; torch's has no gradient."""
    return source.to(into).expand(into.shape)


# A trace has a view wherever one was possible. Here maps lie with their channels last, and one that
# folds channels into positions is not: see `_CALLS`.
_CALLS: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(("view", "_unsafe_view"), torch.ops.aten.reshape.default),
    "copy": _copy,
}


def cut_network(traced: TracedModel, layer: str, nodes: list[Any], output: Any) -> Network:
    """Cuts out the network of a layer.

    Args:
        traced: the model.
        layer: the layer's name.
        nodes: those that compute it, in the order in which they run.
        output: the node of the module's own output.

    Raises:
        ModelError: the layer does not depend on the image, or an operation cannot be handled.
    """
    return _Cutter(traced, layer, nodes, output).network()


class _Cutter:
    """Turns traced nodes into steps, and folds into constants what does not depend on the image."""

    def __init__(self, traced: TracedModel, layer: str, nodes: list[Any], output: Any) -> None:
        self._traced = traced
        self._layer = layer
        self._nodes = nodes
        self._output = output
        self._constants = dict(traced.constants)
        self._steps: dict[str, Step] = {}
        self._tuples: dict[str, Any] = {}
        self._integers: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = []
        self._sites: dict[Any, dict[str, Any]] = {}
        self._applied_to_folded = {
            traced.expression(node.args[1])
            for node in nodes
            if is_convolution(node) and is_folded(node) and node.args[1] not in traced.depends
        }
        self._depth: dict[str, int] = {traced.image: 0}
        # Values that hold something of the image, and not of the size of its batch alone.
        self._carrying = {traced.image}

    def network(self) -> Network:
        for node in self._nodes:
            if node.op == "call_function":
                self._add(node)
        if self._output.name not in self._steps:
            raise ModelError(
                f"layer {self._layer!r} gives the image itself or what does not depend on it, so "
                "it has no units; choose a later layer"
            )
        names = site_names(list(self._sites.values()))
        sites = tuple(
            Site(name=name, **{key: value for key, value in site.items() if key != "path"})
            for name, site in zip(names, self._sites.values(), strict=True)
        )
        return Network(
            layer=self._layer,
            image=self._traced.image,
            steps=tuple(self._steps.values()),
            sites=sites,
            sizes=Sizes(tuple(self._integers), self._traced.image_shape),
            image_shape=self._traced.image_shape,
            image_dtype=self._traced.like.dtype,
            by_name=self._steps,
            base=self._output.name,
            after=self._after(),
        )

    def _after(self) -> str:
        """After which operations on the module's own output the layer's is taken."""
        chain = self._nodes[self._nodes.index(self._output) + 1 :]
        chain = [node for node in chain if node.name in self._steps or node.name in self._tuples]
        operations = [str(node.target.__name__).split(".")[0] for node in chain]
        return in_words(operations, ("", *self._traced.paths[chain[-1].name])[-1] if chain else "")

    def _add(self, node: Any) -> None:
        read = [n for n in node.all_input_nodes if n.name not in self._constants]
        value = node.meta.get("val")
        if not read:
            self._constants[node.name] = node.target(
                *bound(node.args, self._constants), **bound(node.kwargs, self._constants)
            )
        elif isinstance(value, (tuple, list)):
            self._tuples[node.name] = node
        elif isinstance(value, Tensor):
            self._add_step(node)
        else:
            self._integers.append((node.name, node.target, bound(node.args, self._constants)))

    def _add_step(self, node: Any) -> None:
        source, part = node, None
        if node.args and getattr(node.args[0], "name", None) in self._tuples:
            source, part = self._tuples[node.args[0].name], node.args[1]
        op = source.target.__name__.split(".")[0]
        if op.startswith("_native_batch_norm_legit") and "no_training" not in op:
            raise ModelError(
                f"the batch norm at {self._traced.paths[source.name][-1:]} has no running "
                "statistics, so each image's response depends on the others of its batch; "
                "train it with track_running_stats=True"
            )
        inputs = tuple(
            n.name
            for n in source.all_input_nodes
            if n.name in self._steps or n.name == self._traced.image
        )
        args = bound(source.args, self._constants)
        step = Step(
            name=node.name,
            op=op,
            call=_CALLS.get(op, source.target),
            args=args,
            kwargs=bound(source.kwargs, self._constants),
            inputs=inputs,
            part=part,
            shape=shape_of(node),
            dtype=node.meta["val"].dtype,
            rows=size_at(next(iter(node.meta["val"].shape), 1), 1),
            folded=is_folded(node),
            module=(self._traced.paths[source.name] or ("",))[-1],
            line=source_line(source),
        )
        if not self._carrying.isdisjoint(inputs):
            self._carrying.add(node.name)
        site = self._site(source, step)
        self._steps[node.name] = replace(step, convolution=site)
        depth = max((self._depth[name] for name in inputs), default=0)
        self._depth[node.name] = depth + (site is not None)

    def _site(self, node: Any, step: Step) -> int | None:
        """The ordinal of the site that a convolution applies, a new one where its weight is; None
        for other operations, for convolutions that read their weight or bias off the image or run
        on what is no image, such as positions, and for those whose weight is applied to a batch
        into which an image is folded."""
        if not is_convolution(node) or self._carrying.isdisjoint(step.inputs[:1]):
            return None
        weight, *bias = step.args[1:3]
        if not isinstance(weight, Tensor) or isinstance(bias[0] if bias else None, Ref):
            return None
        if self._traced.expression(node.args[1]) in self._applied_to_folded:
            return None
        # One weight is one site, in however many modules it stands and however often it is called
        # or computed: pruning a kernel of it changes them all.
        groups = conv_geometry(step.args).groups
        key = self._traced.expression(node.args[1]), groups
        if key in self._sites:
            self._sites[key]["steps"] += (step.name,)
        else:
            parameter = self._traced.parameters.get(node.args[1].name)
            self._sites[key] = {
                "path": step.module if parameter is None else parameter.rpartition(".")[0],
                "parameter": parameter,
                "weight": weight,
                "groups": groups,
                "steps": (step.name,),
                "depth": 1 + self._depth[step.inputs[0]],
            }
        return list(self._sites).index(key)
