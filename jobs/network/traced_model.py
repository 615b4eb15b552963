"""The nodes of a trace, and the parameters that stand in the model for what they read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from circuit_atlas.jobs.network.export import Trace
from circuit_atlas.jobs.network.returned import Returned, path_in_model
from circuit_atlas.jobs.network.step import Ref
from circuit_atlas.jobs.network.traced_node import bound, module_paths


class TracedModel:
    """A trace of a model, read together with the model's own tensors.

    Attributes:
        nodes: the operations and what they read, in the order in which they run.
        returned: the node of each tensor that a module returns.
        paths: the paths of the modules that a node runs in, from the outermost in, by its name.
        parameters: the paths of parameters and buffers in the model, by the names of their nodes.
        constants: their tensors, and those that the model makes itself.
        image: name of the image's node.
        image_shape: (channels, height, width).
        depends: the nodes that depend on the image.
        like: a tensor with the dtype and device of the model's weights.
    """

    def __init__(self, model: nn.Module, image_shape: tuple[int, ...], traced: Trace) -> None:
        """Reads a trace, whose graph is changed by it.

        Args:
            model: the network that was traced, or a copy of it.
            image_shape: of its images.
            traced: the trace; it is not to be used again.
        """
        program = traced.program
        self.image_shape = image_shape
        self.like = next(model.parameters(), torch.zeros(()))
        self.returned = {
            each: node
            for each, node in _results(program.graph, traced.returned).items()
            if each.path not in traced.unsure
        }
        self.nodes = list(program.graph.nodes)
        self.paths = {node.name: module_paths(node) for node in self.nodes}
        signature = program.graph_signature
        named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.parameters = {name: path_in_model(target) for name, target in named.items()}
        tensors: dict[str, Any] = {
            **dict(model.named_parameters(remove_duplicate=False)),
            **dict(model.named_buffers(remove_duplicate=False)),
        }
        stored = {name: tensors[path] for name, path in self.parameters.items()}
        for name, target in signature.inputs_to_lifted_tensor_constants.items():
            stored[name] = program.constants[target]
        self.constants: dict[str, Any] = {name: each.detach() for name, each in stored.items()}
        self._identity = {name: id(each) for name, each in stored.items()}
        self._expression_of: dict[str, int] = {}
        self._numbers: dict[Any, int] = {}
        image = next(
            node for node in self.nodes if node.op == "placeholder" and node.name not in stored
        )
        self.image = image.name
        self.depends = {image}
        for node in self.nodes:
            if not self.depends.isdisjoint(node.all_input_nodes):
                self.depends.add(node)

    def expression(self, node: Any) -> int:
        """Numbers the way in which a node is computed: nodes of one number are the same operation
        on the same stored tensors, and have one value."""
        if node.name not in self._expression_of:
            content: Any = ("stored", self._identity.get(node.name, node.name))
            if node.op == "call_function":
                names = {n.name: Ref(str(self.expression(n))) for n in node.all_input_nodes}
                content = (str(node.target), repr(bound((node.args, dict(node.kwargs)), names)))
            number = self._numbers.setdefault(content, len(self._numbers))
            self._expression_of[node.name] = number
        return self._expression_of[node.name]


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
