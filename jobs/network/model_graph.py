"""A model as a graph of tensor operations, cut at one layer.

`torch.export` traces the module once with a symbolic batch size and gives functional ATen
operations: in-place activations, `nn.Conv2d` subclasses with a forward of their own, branches and
sums all come out as plain steps. So nothing here depends on how a module was written, nor on the
order in which modules were declared.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from torch import nn

from circuit_atlas.jobs.network.cutter import cut_network
from circuit_atlas.jobs.network.export import Trace, trace
from circuit_atlas.jobs.network.layer_names import LayerNames
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.mixing import refuse_mixing
from circuit_atlas.jobs.network.output_map import as_map
from circuit_atlas.jobs.network.passed_on import chain_end
from circuit_atlas.jobs.network.returned import Returned
from circuit_atlas.jobs.network.traced_model import TracedModel
from circuit_atlas.jobs.network.traced_node import (
    ancestors_of,
    has_units,
    is_convolution,
    is_folded,
    shape_of,
)
from circuit_atlas.jobs.spec.layers import Activation
from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.wording import listed


class ModelGraph:
    """A whole traced model, from which networks are cut layer by layer."""

    def __init__(
        self, model: nn.Module, image_shape: tuple[int, ...], traced: Trace | None = None
    ) -> None:
        """Traces `model` for images of `image_shape` (channels, height, width), in eval mode.

        Args:
            model: the network.
            image_shape: of its images.
            traced: that of another copy of it, which is not to be used again. Default: traces.

        Raises:
            ModelError: the model cannot be traced.
        """
        traced = traced or trace(model, image_shape)
        self.root = traced.root
        self._refusal = traced.refusal
        self._names = LayerNames(model)
        self._traced = TracedModel(model, image_shape, traced)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What to tell where the model is not traced wholly, a line each."""
        if self.root:
            return (
                f"the model is traced from its module {self.root!r} on, which gets each image as "
                "[preprocessing] makes it: what the model does to images before, such as scaling "
                "and normalising them, is left out",
            )
        if self._refusal is not None:
            return (f"only layers before the line at which it stops are computed: {self._refusal}",)
        return ()

    @property
    def layers(self) -> tuple[str, ...]:
        """Module paths that return a map of each image, channels x height x width, or a vector."""
        fit = {which.path for which, node in self._traced.returned.items() if has_units(node)}
        return tuple(name for name, first in self._names.first.items() if first in fit and name)

    @cached_property
    def layers_by_depth(self) -> tuple[str, ...]:
        """`layers` in the order in which their results come about in a forward pass. Of several
        with one result, those that are called again and again stand behind the others."""
        order = {node: n for n, node in enumerate(self._traced.nodes)}
        results = {name: self.returned(name) for name in self.layers}
        ends = {name: order[self._traced.returned[each]] for name, each in results.items()}
        last = {each.path: n for n, each in enumerate(self._traced.returned)}
        return tuple(
            sorted(
                self.layers,
                key=lambda name: (ends[name], results[name].call > 0, last[results[name].path]),
            )
        )

    def response(self, layer: str, activation: Activation = "pre") -> str:
        """Names the step whose result a layer's response is: layers that share it have the same
        units.

        Raises:
            ModelError: no such layer, or it has no map for each image.
        """
        return str(self._end(self._target(layer), activation).name)

    def network(self, layer: str, activation: Activation = "pre") -> Network:
        """Cuts the graph at what a module returns.

        Args:
            layer: the module's path. Of a module that is called several times in a forward pass,
                `path@N` is call number N, from 0. Default: the last call. Of a module that returns
                several things, `path:KEY` is one of them, by its number or its name. Default: the
                first that is a map.
            activation: "post" for what the layer's units pass on, "pre" for the module's own
                output. Default: "pre".

        Raises:
            ModelError: no such layer, call or key; or the forward pass does not reach it, its
                output is no map of channels x height x width, does not depend on the image, or
                mixes the images of a batch; or an operation on the way cannot be handled.
        """
        output, nodes = self._cut(layer, activation)
        cut = cut_network(self._traced, layer, nodes, output)
        network = as_map(cut, lambda: self._nearby(cut))
        refuse_mixing(network, self._traced.like)
        return network

    def origins(
        self, layer: str, activation: Activation = "pre"
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Finds what a layer is computed from: names of parameters and buffers, and paths of
        modules.

        Raises:
            ModelError: no such layer, or the forward pass does not reach it.
        """
        _, nodes = self._cut(layer, activation)
        tensors = {
            self._traced.parameters[n.name] for n in nodes if n.name in self._traced.parameters
        }
        modules = {path for node in nodes for path in self._traced.paths[node.name]}
        return frozenset(tensors), frozenset(modules)

    def _cut(self, layer: str, activation: Activation) -> tuple[Any, list[Any]]:
        """The node of the module's own output, and all that the layer's is computed by."""
        output = self._target(layer)
        keep = ancestors_of(self._end(output, activation))
        return output, [node for node in self._traced.nodes if node in keep]

    def _end(self, output: Any, activation: Activation) -> Any:
        """The node of a layer's response, from that of its module's own output."""
        return chain_end(output, self._traced.depends) if activation == "post" else output

    def _nearby(self, network: Network) -> str:
        """The modules next to the layer, before and after it, that end in a map or a vector."""
        ends = {
            path: (n, has_units(node))
            for n, node in enumerate(self._traced.nodes)
            for path in self._traced.paths[node.name][-1:]
        }
        end = next(n for n, node in enumerate(self._traced.nodes) if node.name == network.base)
        usable = sorted((n, path) for path, (n, fits) in ends.items() if fits)
        before = [path for n, path in usable if n < end][-1:]
        after = [path for n, path in usable if n > end][:1]
        return " or ".join(map(repr, before + after)) or "a convolution"

    @property
    def results(self) -> dict[Returned, str]:
        """The name of the step that each tensor which a module returns is the result of; the step
        is in every network that reaches it."""
        return {which: node.name for which, node in self._traced.returned.items()}

    def returned(self, layer: str) -> Returned:
        """Tells which tensor a layer's name stands for, as `network` does; ModelError for a name
        that stands for none."""
        path, call, key = self._names.parts(layer, self.layers)
        first = self._names.first[path]
        found = {each: node for each, node in self._traced.returned.items() if each.path == first}
        if not found and self._refusal is not None:
            way_round = f"; name a layer inside {self.root!r}" if self.root else ""
            raise ModelError(
                f"layer {layer!r} is not in the part of the model that can be traced, since "
                f"{self._refusal}{way_round}"
            )
        if not found:
            inside = any(first in paths for paths in self._traced.paths.values())
            nothing = "returns no tensor" if inside else "the forward pass computes nothing in it"
            raise ModelError(
                f"layer {layer!r} is in the model, but {nothing}; "
                f"choose one of the {len(self.layers)} layers that it reaches, "
                f"such as {', '.join(self.layers[-3:])}"
            )
        last = max(each.call for each in found)
        if call is not None and call > last:
            raise ModelError(
                f"layer {layer!r}: {path!r} is called {last + 1} times in a forward pass; write "
                f"{path}@0 to {path}@{last}, or {path!r} for the last of them"
            )
        of_call = {
            each.key: node
            for each, node in found.items()
            if each.call == (last if call is None else call)
        }
        if key is not None and key not in of_call:
            choices = listed([f"{path}:{name}" if name else path for name in of_call])
            raise ModelError(f"layer {layer!r}: {path!r} returns no {key!r}; choose from {choices}")
        maps = [name for name, node in of_call.items() if len(shape_of(node)) == 3]
        chosen = next(iter(maps or of_call)) if key is None else key
        return Returned(first, last if call is None else call, chosen)

    @cached_property
    def _convolutions(self) -> dict[str, Any]:
        """The nodes of convolutions whose site has not the name of a module, by that name."""
        found = {}
        for node in self._traced.nodes:
            if is_convolution(node):
                module = (self._traced.paths[node.name] or ("",))[-1]
                parameter = self._traced.parameters.get(node.args[1].name)
                found[".".join(filter(None, (module, node.name)))] = node
                if parameter is not None:
                    found[parameter] = node
        return found

    def _target(self, layer: str) -> Any:
        target = self._convolutions.get(layer) or self._traced.returned[self.returned(layer)]
        if is_folded(target):
            raise ModelError(
                f"layer {layer!r}: channels or positions of an image are folded into the batch "
                "where it runs, so that it has no map for each image; choose a layer around it"
            )
        return target
