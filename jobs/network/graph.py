"""A model as a graph of tensor operations, cut at one layer.

`torch.export` traces the module once with a symbolic batch size and gives functional ATen
operations: in-place activations, `nn.Conv2d` subclasses with a forward of their own, branches and
sums all come out as plain steps. So nothing here depends on how a module was written, nor on the
order in which modules were declared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from circuit_atlas.jobs.network.channel_axis import channel_axes, may_move_channels
from circuit_atlas.jobs.network.convolution import (
    ConvWeights,
    channels_last,
    conv_geometry,
    convolve,
)
from circuit_atlas.jobs.network.export import Trace, trace
from circuit_atlas.jobs.network.origin import source_line
from circuit_atlas.jobs.network.passed_on import chain_end, in_words
from circuit_atlas.jobs.network.returned import Returned, path_in_model
from circuit_atlas.jobs.spec.sections import Activation
from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.module_paths import without_wrappers
from circuit_atlas.storage_schema.wording import listed, nearest

Replaced = Mapping[str, ConvWeights]
"""What convolutions run with in place of the model's weights, by the name of the step."""

# Rounding as a share of the largest output: a GPU may compute with ten bits of mantissa, and choose
# other ways for a batch of another size.
_ROUNDING = 1e-2
# A trace has a view wherever one was possible. Here maps lie with their channels last, and one that
# folds channels into positions is not: see `_CALLS`.
_RESHAPE = torch.ops.aten.reshape.default
_PERMUTE = torch.ops.aten.permute.default


def _copy(into: Tensor, source: Tensor, _non_blocking: bool = False) -> Tensor:
    """What `copy` makes of an assignment to a part of a tensor; torch's has no gradient."""
    return source.to(into).expand(into.shape)


_CALLS: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(("view", "_unsafe_view"), _RESHAPE),
    "copy": _copy,
}
# Axes of a layer's output for one image: a vector, or a map.
_UNITS = (1, 3)
_LAYER_NAME = re.compile(r"(?P<path>.+?)(@(?P<call>\d+))?(:(?P<key>.+))?")


@dataclass(frozen=True)
class Ref:
    """Stands in a step's arguments for the value of an earlier step."""

    name: str


@dataclass(frozen=True)
class Step:
    """One operation on data that depends on the image.

    Attributes:
        name: unique in the graph.
        op: the operation without namespace and overload, such as `conv2d`.
        call: runs it.
        args, kwargs: its arguments, earlier values as `Ref`, parameters as tensors.
        inputs: names of the steps (or the image) whose tensors it reads.
        part: which element of a tuple result this step stands for, or None.
        shape: the shape of the result for one image, its first axis left out.
        dtype: of the result.
        rows: the extent of that first axis for one image.
        folded: whether the first axis of the result is not the batch, or another holds it too: a
            view has folded channels or positions into the batch, or images into channels.
        module: the path of the innermost module that computes it.
        line: the line of the model's source that computes it; "" where torch kept none.
        convolution: the site that it applies, by ordinal; None for any other operation.
    """

    name: str
    op: str
    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[str, ...]
    part: int | None
    shape: tuple[int, ...]
    dtype: torch.dtype
    rows: int = 1
    folded: bool = False
    module: str = ""
    line: str = ""
    convolution: int | None = None

    @property
    def differentiable(self) -> bool:
        """Whether its result is of numbers that a gradient can be taken by."""
        return self.dtype.is_floating_point or self.dtype.is_complex

    @property
    def location(self) -> str:
        """Says where the operation stands: its name, module and line of the model's source."""
        where = f" in {self.module!r}" if self.module else ""
        return f"{self.op!r}{where}" + (f" ({self.line})" if self.line else "")

    def run(self, values: Mapping[str, Any], kernels: ConvWeights | None = None) -> Tensor:
        """Computes the step's result from earlier values.

        Args:
            values: at least the step's inputs, by name.
            kernels: what a convolution runs with. Default: the model's weights.
        """
        args = _fill(self.args, values)
        if self.convolution is not None:
            stored = ConvWeights(args[1], args[2] if len(args) > 2 else None)
            return convolve(args[0], kernels or stored, conv_geometry(args))
        result = self.call(*args, **_fill(self.kwargs, values))
        return result if self.part is None else result[self.part]


@dataclass(frozen=True)
class Site:
    """A convolution of the graph: one weight, and all steps that apply it.

    Attributes:
        name: the module's path; the parameter's where one module holds two convolutions, and where
            it computes their weights, its path and the name of the first step.
        parameter: the path of its weight among the model's parameters, or None.
        weight: (out, in / groups, height, width).
        groups: how many groups its channels fall into.
        steps: names of the steps that apply it, in the order in which they run.
        depth: its number along the longest path of convolutions from the image, from 1.
    """

    name: str
    parameter: str | None
    weight: Tensor
    groups: int
    steps: tuple[str, ...]
    depth: int


@dataclass(frozen=True)
class Sizes:
    """Integer values that depend on the batch size alone."""

    nodes: tuple[tuple[str, Callable[..., Any], tuple[Any, ...]], ...]
    image_shape: tuple[int, ...]

    def at(self, batch: int, image: str) -> dict[str, Any]:
        """Computes every integer of the graph for a batch of that many images."""
        values: dict[str, Any] = {image: torch.empty((batch, *self.image_shape), device="meta")}
        for name, call, args in self.nodes:
            values[name] = call(*_fill(args, values))
        del values[image]
        return values


@dataclass(frozen=True)
class Network:
    """The part of a model that computes one layer, from the image on.

    Attributes:
        layer: the layer's module path.
        image: name of the image among the values; its shape is (batch, *image_shape).
        steps: the operations in an order in which they can run, the layer's output last.
        sites: the convolutions, in the order in which they first run.
        sizes: batch-dependent integers.
        image_shape: (channels, height, width).
        image_dtype: of the image, that of the network's weights.
        by_name: the steps by name.
        base: name of the step whose result is the module's own output.
        after: says after which operations on that the layer's output is taken; empty for none.
        measured: what was found out about it, kept: its steps' kinds (`step_kinds.once`), what
            they read (`reads`), and the ways of its layer by circuits.
    """

    layer: str
    image: str
    steps: tuple[Step, ...]
    sites: tuple[Site, ...]
    sizes: Sizes
    image_shape: tuple[int, ...]
    image_dtype: torch.dtype
    by_name: Mapping[str, Step] = field(repr=False)
    base: str
    after: str
    measured: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def target(self) -> Step:
        """The step whose result is the layer's output: what its units pass on, or the module's own
        output, as the layer was cut."""
        return self.steps[-1]

    @property
    def chain(self) -> tuple[Step, ...]:
        """The steps from the module's own output to the layer's, which treat each channel and
        position for itself."""
        return self.steps[self.steps.index(self.by_name[self.base]) + 1 :]

    @cached_property
    def reads(self) -> Mapping[str, int]:
        """How many steps read each value; the layer's output counts as read once more."""
        counts: dict[str, int] = {self.image: 0, self.target.name: 1}
        for step in self.steps:
            for name in step.inputs:
                counts[name] = counts.get(name, 0) + 1
        return counts

    @cached_property
    def folded(self) -> bool:
        """Whether channels or positions are folded into the batch anywhere: then one image at a
        time goes through."""
        return any(step.folded for step in self.steps)

    def shape(self, name: str) -> tuple[int, ...]:
        """Gives the shape of a step's result, or of the image, batch axis left out."""
        return self.image_shape if name == self.image else self.by_name[name].shape

    def dtype(self, name: str) -> torch.dtype:
        """Gives the type of a step's result, or of the image."""
        return self.image_dtype if name == self.image else self.by_name[name].dtype

    def is_differentiable(self, name: str) -> bool:
        """Says whether a gradient can be taken by a step's result, or by the image."""
        return name == self.image or self.by_name[name].differentiable

    def is_folded(self, name: str) -> bool:
        """Says whether a value is `Step.folded`; the image is not."""
        return name != self.image and self.by_name[name].folded

    def up_to(self, name: str) -> Network:
        """Cuts out the part that computes one of the steps; its sites are those of the whole."""
        needed = {name}
        for step in reversed(self.steps):
            if step.name in needed:
                needed.update(step.inputs)
        steps = tuple(step for step in self.steps if step.name in needed)
        by_name = {step.name: step for step in steps}
        whole = name == self.target.name
        base, after = (self.base, self.after) if whole else (name, "")
        return replace(self, steps=steps, by_name=by_name, base=base, after=after)

    def forward(
        self,
        images: Tensor,
        *,
        replaced: Replaced | None = None,
        computed: tuple[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Computes every step's result for a batch of images.

        Args:
            images: (batch, channels, height, width).
            replaced: what convolutions run with. Default: the model's weights.
            computed: the name of a step and its result, known already; the steps before it are
                left out. Everything that reads the image must go through that step. Default: none.
        """
        sizes = self.sizes.at(len(images), self.image)
        values: dict[str, Any] = {self.image: channels_last(images), **sizes}
        steps = self.steps
        if computed is not None:
            name, result = computed
            values[name] = result
            steps = steps[steps.index(self.by_name[name]) + 1 :]
        for step in steps:
            values[step.name] = step.run(values, (replaced or {}).get(step.name))
        for name in sizes:
            del values[name]
        return values

    def output(self, images: Tensor, seen: Callable[[Step, Tensor], None] | None = None) -> Tensor:
        """Computes the layer's output, (batch, channels, height, width), and frees every other
        value once it has been read.

        Args:
            images: (batch, channels, height, width).
            seen: is shown each step's result as it comes. Default: nothing is shown.
        """
        sizes = self.sizes.at(len(images), self.image)
        values: dict[str, Any] = {self.image: channels_last(images), **sizes}
        left = dict(self.reads)
        for step in self.steps:
            values[step.name] = step.run(values)
            if seen is not None:
                seen(step, values[step.name])
            for name in step.inputs:
                left[name] -= 1
                if not left[name]:
                    del values[name]
        result: Tensor = values[self.target.name]
        return result


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
        program = traced.program
        self.root = traced.root
        self._refusal = traced.refusal
        self.image_shape = image_shape
        self._like = next(model.parameters(), torch.zeros(()))
        self._first_name = _first_names(model)
        self._returned = {
            each: node
            for each, node in _results(program.graph, traced.returned).items()
            if each.path not in traced.unsure
        }
        self._nodes = list(program.graph.nodes)
        self._paths = {node.name: _module_paths(node) for node in self._nodes}
        signature = program.graph_signature
        named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._parameters = {name: path_in_model(target) for name, target in named.items()}
        tensors: dict[str, Any] = {
            **dict(model.named_parameters(remove_duplicate=False)),
            **dict(model.named_buffers(remove_duplicate=False)),
        }
        stored = {name: tensors[path] for name, path in self._parameters.items()}
        for name, target in signature.inputs_to_lifted_tensor_constants.items():
            stored[name] = program.constants[target]
        self._constants: dict[str, Any] = {name: each.detach() for name, each in stored.items()}
        self._identity = {name: id(each) for name, each in stored.items()}
        self._expression_of: dict[str, int] = {}
        self._numbers: dict[Any, int] = {}
        image = next(
            node for node in self._nodes if node.op == "placeholder" and node.name not in stored
        )
        self.image = image.name
        self._depends = {image}
        for node in self._nodes:
            if not self._depends.isdisjoint(node.all_input_nodes):
                self._depends.add(node)

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
        fit = {which.path for which, node in self._returned.items() if _has_units(node)}
        return tuple(name for name, first in self._first_name.items() if first in fit and name)

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
        network = self._as_map(_Cutter(self, layer, nodes, output).network())
        _refuse_mixing(network, self._like)
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
        tensors = {self._parameters[n.name] for n in nodes if n.name in self._parameters}
        modules = {path for node in nodes for path in self._paths[node.name]}
        return frozenset(tensors), frozenset(modules)

    def _cut(self, layer: str, activation: Activation) -> tuple[Any, list[Any]]:
        """The node of the module's own output, and all that the layer's is computed by."""
        output = self._target(layer)
        target = chain_end(output, self._depends) if activation == "post" else output
        keep = _ancestors(target)
        return output, [node for node in self._nodes if node in keep]

    def _as_map(self, network: Network) -> Network:
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
            f"choose a layer that gives either, such as {self._nearby(network)}"
        )

    def _nearby(self, network: Network) -> str:
        """The modules next to the layer, before and after it, that end in a map or a vector."""
        ends = {
            path: (n, _has_units(node))
            for n, node in enumerate(self._nodes)
            for path in self._paths[node.name][-1:]
        }
        end = next(n for n, node in enumerate(self._nodes) if node.name == network.base)
        usable = sorted((n, path) for path, (n, fits) in ends.items() if fits)
        before = [path for n, path in usable if n < end][-1:]
        after = [path for n, path in usable if n > end][:1]
        return " or ".join(map(repr, before + after)) or "a convolution"

    @property
    def results(self) -> dict[Returned, str]:
        """The name of the step that each tensor which a module returns is the result of; the step
        is in every network that reaches it."""
        return {which: node.name for which, node in self._returned.items()}

    def returned(self, layer: str) -> Returned:
        """Tells which tensor a layer's name stands for, as `network` does; ModelError for a name
        that stands for none."""
        path, call, key = self._named(layer)
        first = self._first_name[path]
        found = {each: node for each, node in self._returned.items() if each.path == first}
        if not found and self._refusal is not None:
            way_round = f"; name a layer inside {self.root!r}" if self.root else ""
            raise ModelError(
                f"layer {layer!r} is not in the part of the model that can be traced, since "
                f"{self._refusal}{way_round}"
            )
        if not found:
            inside = any(first in paths for paths in self._paths.values())
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
        maps = [name for name, node in of_call.items() if len(_shape(node) or ()) == 3]
        chosen = next(iter(maps or of_call)) if key is None else key
        return Returned(first, last if call is None else call, chosen)

    @cached_property
    def _convolutions(self) -> dict[str, Any]:
        """The nodes of convolutions whose site has not the name of a module, by that name."""
        found = {}
        for node in self._nodes:
            if _is_convolution(node):
                module = (self._paths[node.name] or ("",))[-1]
                parameter = self._parameters.get(node.args[1].name)
                found[".".join(filter(None, (module, node.name)))] = node
                if parameter is not None:
                    found[parameter] = node
        return found

    def _target(self, layer: str) -> Any:
        target = self._convolutions.get(layer) or self._returned[self.returned(layer)]
        if _is_folded(target):
            raise ModelError(
                f"layer {layer!r}: channels or positions of an image are folded into the batch "
                "where it runs, so that it has no map for each image; choose a layer around it"
            )
        return target

    def expression(self, node: Any) -> int:
        """Numbers the way in which a node is computed: nodes of one number are the same operation
        on the same stored tensors, and have one value."""
        if node.name not in self._expression_of:
            content: Any = ("stored", self._identity.get(node.name, node.name))
            if node.op == "call_function":
                names = {n.name: Ref(str(self.expression(n))) for n in node.all_input_nodes}
                content = (str(node.target), repr(_bind((node.args, dict(node.kwargs)), names)))
            number = self._numbers.setdefault(content, len(self._numbers))
            self._expression_of[node.name] = number
        return self._expression_of[node.name]

    def _named(self, layer: str) -> tuple[str, int | None, str | None]:
        """The path, call and key that a layer's name is made of."""
        path, call, key = self._path(layer), None, None
        if not path:
            match = _LAYER_NAME.fullmatch(layer)
            if match and (path := self._path(match["path"])):
                key = match["key"]
                call = None if match["call"] is None else int(match["call"])
            else:
                raise ModelError(
                    f"layer {layer!r} is not in the model: "
                    f"{nearest(layer, self.layers, what='layers')}"
                )
        return path, call, key

    def _path(self, name: str) -> str:
        """The path of the module of a name, which may be given with what wrappers add; "" for none
        and for the model itself."""
        if name in self._first_name:
            return name
        plain = {without_wrappers(path): path for path in self._first_name}
        return plain.get(without_wrappers(name), "")


class _Cutter:
    """Turns traced nodes into steps, and folds into constants what does not depend on the image."""

    def __init__(self, graph: ModelGraph, layer: str, nodes: list[Any], output: Any) -> None:
        self._graph = graph
        self._layer = layer
        self._nodes = nodes
        self._output = output
        self._constants = dict(graph._constants)
        self._steps: dict[str, Step] = {}
        self._tuples: dict[str, Any] = {}
        self._integers: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = []
        self._sites: dict[Any, dict[str, Any]] = {}
        self._applied_to_folded = {
            graph.expression(node.args[1])
            for node in nodes
            if _is_convolution(node) and _is_folded(node) and node.args[1] not in graph._depends
        }
        self._depth: dict[str, int] = {graph.image: 0}
        # Values that hold something of the image, and not of the size of its batch alone.
        self._carrying = {graph.image}

    def network(self) -> Network:
        for node in self._nodes:
            if node.op == "call_function":
                self._add(node)
        if self._output.name not in self._steps:
            raise ModelError(
                f"layer {self._layer!r} gives the image itself or what does not depend on it, so "
                "it has no units; choose a later layer"
            )
        names = _site_names(list(self._sites.values()))
        sites = tuple(
            Site(name=name, **{key: value for key, value in site.items() if key != "path"})
            for name, site in zip(names, self._sites.values(), strict=True)
        )
        return Network(
            layer=self._layer,
            image=self._graph.image,
            steps=tuple(self._steps.values()),
            sites=sites,
            sizes=Sizes(tuple(self._integers), self._graph.image_shape),
            image_shape=self._graph.image_shape,
            image_dtype=self._graph._like.dtype,
            by_name=self._steps,
            base=self._output.name,
            after=self._after(),
        )

    def _after(self) -> str:
        """After which operations on the module's own output the layer's is taken."""
        chain = self._nodes[self._nodes.index(self._output) + 1 :]
        chain = [node for node in chain if node.name in self._steps or node.name in self._tuples]
        operations = [str(node.target.__name__).split(".")[0] for node in chain]
        return in_words(operations, ("", *self._graph._paths[chain[-1].name])[-1] if chain else "")

    def _add(self, node: Any) -> None:
        read = [n for n in node.all_input_nodes if n.name not in self._constants]
        value = node.meta.get("val")
        if not read:
            self._constants[node.name] = node.target(
                *_bind(node.args, self._constants), **_bind(node.kwargs, self._constants)
            )
        elif isinstance(value, (tuple, list)):
            self._tuples[node.name] = node
        elif isinstance(value, Tensor):
            self._add_step(node)
        else:
            self._integers.append((node.name, node.target, _bind(node.args, self._constants)))

    def _add_step(self, node: Any) -> None:
        source, part = node, None
        if node.args and getattr(node.args[0], "name", None) in self._tuples:
            source, part = self._tuples[node.args[0].name], node.args[1]
        op = source.target.__name__.split(".")[0]
        if op.startswith("_native_batch_norm_legit") and "no_training" not in op:
            raise ModelError(
                f"the batch norm at {self._graph._paths[source.name][-1:]} has no running "
                "statistics, so each image's response depends on the others of its batch; "
                "train it with track_running_stats=True"
            )
        inputs = tuple(
            n.name
            for n in source.all_input_nodes
            if n.name in self._steps or n.name == self._graph.image
        )
        args = _bind(source.args, self._constants)
        step = Step(
            name=node.name,
            op=op,
            call=_CALLS.get(op, source.target),
            args=args,
            kwargs=_bind(source.kwargs, self._constants),
            inputs=inputs,
            part=part,
            shape=_require_shape(node),
            dtype=node.meta["val"].dtype,
            rows=_size(next(iter(node.meta["val"].shape), 1), 1),
            folded=_is_folded(node),
            module=(self._graph._paths[source.name] or ("",))[-1],
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
        if not _is_convolution(node) or self._carrying.isdisjoint(step.inputs[:1]):
            return None
        weight, *bias = step.args[1:3]
        if not isinstance(weight, Tensor) or isinstance(bias[0] if bias else None, Ref):
            return None
        if self._graph.expression(node.args[1]) in self._applied_to_folded:
            return None
        # One weight is one site, in however many modules it stands and however often it is called
        # or computed: pruning a kernel of it changes them all.
        groups = conv_geometry(step.args).groups
        key = self._graph.expression(node.args[1]), groups
        if key in self._sites:
            self._sites[key]["steps"] += (step.name,)
        else:
            parameter = self._graph._parameters.get(node.args[1].name)
            self._sites[key] = {
                "path": step.module if parameter is None else parameter.rpartition(".")[0],
                "parameter": parameter,
                "weight": weight,
                "groups": groups,
                "steps": (step.name,),
                "depth": 1 + self._depth[step.inputs[0]],
            }
        return list(self._sites).index(key)


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
        renamed = [
            replace(
                step,
                args=_renamed(step.args, names),
                kwargs=_renamed(step.kwargs, names),
                inputs=tuple(names.get(name, name) for name in step.inputs),
            )
            for step in chain
        ]
        added += [undone, *renamed, _moved(chain[-1], there)]
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


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Arguments of a step that read other values."""
    if isinstance(value, Ref):
        return Ref(names.get(value.name, value.name))
    if isinstance(value, (tuple, list)):
        return type(value)(_renamed(item, names) for item in value)
    if isinstance(value, Mapping):
        return {key: _renamed(item, names) for key, item in value.items()}
    return value


def _refuse_mixing(network: Network, like: Tensor) -> None:
    """Raises ModelError where an image gives another output beside a second one than alone; `like`
    has the dtype and device of the network's weights."""
    noise = torch.randn((2, *network.image_shape), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        both = network.output(noise.to(like))
        alone = network.output(noise[:1].to(like))
    finite = both[both.isfinite()].abs()
    slack = _ROUNDING * float(finite.max()) if len(finite) else 0.0
    if (len(both), len(alone)) != (2, 1) or not torch.isclose(
        both[:1], alone, rtol=0, atol=slack, equal_nan=True
    ).all():
        raise ModelError(
            f"layer {network.layer!r} gives an image another output beside a second image than "
            "alone, so each image's response depends on the others of its batch, or on chance; "
            "choose an earlier layer, or a model that takes images one by one"
        )


def _site_names(sites: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of sites: the module's path; where one module holds two convolutions the parameter's,
    or the path and the first step's."""
    paths = [site["path"] for site in sites]
    parameters = [site["parameter"] for site in sites]
    names = []
    for path, parameter, site in zip(paths, parameters, sites, strict=True):
        name = path
        if not path or paths.count(path) > 1:
            name = parameter
        if name is None or (name == parameter and parameters.count(parameter) > 1):
            name = ".".join(part for part in (path, site["steps"][0]) if part)
        names.append(name)
    return names


def _first_names(model: nn.Module) -> dict[str, str]:
    """The path under which each module stands first, by every path that it has."""
    first: dict[int, str] = {}
    return {
        path: first.setdefault(id(module), path)
        for path, module in model.named_modules(remove_duplicate=False)
    }


def _results(graph: torch.fx.Graph, returned: Sequence[Returned]) -> dict[Returned, Any]:
    """The nodes that modules return, from a graph of `ReturningModules`. The copies are taken out,
    so that the graph is the network's own."""
    (output,) = (node for node in graph.nodes if node.op == "output")
    copies: Any = output.args[0]
    found = {
        each: copy.args[0] if copy.target is torch.ops.aten.clone.default else copy
        for each, copy in zip(returned, copies, strict=True)
    }
    output.args = (tuple(node for each, node in found.items() if not each.path),)
    for copy, node in zip(copies, found.values(), strict=True):
        if copy is not node:
            graph.erase_node(copy)
    return found


def _module_paths(node: Any) -> tuple[str, ...]:
    """Paths of the modules that a traced node runs in, from the outermost in."""
    stack = node.meta.get("nn_module_stack") or {}
    # A module's second call in one forward pass is traced as 'path@1'.
    paths = [path_in_model(re.sub(r"@\d+", "", str(path))) for path, _ in stack.values()]
    return tuple(path for path in paths if path)


def _ancestors(target: Any) -> set[Any]:
    ancestors = {target}
    queue = [target]
    while queue:
        for node in queue.pop().all_input_nodes:
            if node not in ancestors:
                ancestors.add(node)
                queue.append(node)
    return ancestors


def _shape(node: Any) -> tuple[int, ...] | None:
    """The shape of a node's result for one image, the first axis left out."""
    value = node.meta.get("val")
    if isinstance(value, (tuple, list)):
        value = value[0]
    if not isinstance(value, Tensor):
        return None
    return tuple(_size(extent, 1) for extent in value.shape[1:])


def _has_units(node: Any) -> bool:
    """Whether a node's result is a vector or may be a map, of each image."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.dim() - 1 in _UNITS and not _is_folded(node)


def _require_shape(node: Any) -> tuple[int, ...]:
    shape = _shape(node)
    return () if shape is None else shape


def _is_convolution(node: Any) -> bool:
    """Whether a node is a two-dimensional convolution that is not transposed."""
    return node.op == "call_function" and node.target.__name__.startswith("conv2d.")


def _is_folded(node: Any) -> bool:
    """Whether the first axis of a node's result is not the batch, or another holds it too."""
    shape = node.meta["val"].shape
    return not shape or any(
        _size(shape[0], batch) != batch or any(_size(n, batch) != _size(n, 1) for n in shape[1:])
        for batch in (2, 3)
    )


def _size(extent: Any, batch: int) -> int:
    """A traced size for a batch of that many images, the only symbol of the trace."""
    if isinstance(extent, int):
        return extent
    expression = extent.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, batch)))


def _bind(value: Any, constants: Mapping[str, Any]) -> Any:
    """Traced arguments with parameters filled in and the rest as `Ref`."""
    if isinstance(value, torch.fx.Node):
        return constants[value.name] if value.name in constants else Ref(value.name)
    if isinstance(value, (tuple, list)):
        return type(value)(_bind(item, constants) for item in value)
    if isinstance(value, Mapping):
        return {key: _bind(item, constants) for key, item in value.items()}
    return value


def _fill(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, Ref):
        return values[value.name]
    if isinstance(value, (tuple, list)):
        return type(value)(_fill(item, values) for item in value)
    if isinstance(value, Mapping):
        return {key: _fill(item, values) for key, item in value.items()}
    return value
