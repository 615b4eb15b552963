"""What a node of a trace says of itself: modules, shape, whether images are folded in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from circuit_atlas.jobs.network.returned import path_in_model
from circuit_atlas.jobs.network.step import Ref

# Axes of a layer's output for one image: a vector, or a map.
_UNITS = (1, 3)


def module_paths(node: Any) -> tuple[str, ...]:
    """Lists the paths of the modules that a node runs in, from the outermost in."""
    stack = node.meta.get("nn_module_stack") or {}
    # A module's second call in one forward pass is traced as 'path@1'.
    paths = [path_in_model(re.sub(r"@\d+", "", str(path))) for path, _ in stack.values()]
    return tuple(path for path in paths if path)


def ancestors_of(target: Any) -> set[Any]:
    """Collects the nodes that a node is computed from, itself among them."""
    ancestors = {target}
    queue = [target]
    while queue:
        for node in queue.pop().all_input_nodes:
            if node not in ancestors:
                ancestors.add(node)
                queue.append(node)
    return ancestors


def shape_of(node: Any) -> tuple[int, ...]:
    """Gives the shape of a node's result for one image, the first axis left out; () where it is no
    tensor."""
    value = node.meta.get("val")
    if isinstance(value, (tuple, list)):
        value = value[0]
    if not isinstance(value, Tensor):
        return ()
    return tuple(size_at(extent, 1) for extent in value.shape[1:])


def has_units(node: Any) -> bool:
    """Says whether a node's result is a vector or may be a map, of each image."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.dim() - 1 in _UNITS and not is_folded(node)


def is_convolution(node: Any) -> bool:
    """Says whether a node is a two-dimensional convolution that is not transposed."""
    return node.op == "call_function" and node.target.__name__.startswith("conv2d.")


def is_folded(node: Any) -> bool:
    """Says whether the first axis of a node's result is not the batch, or another holds it too."""
    shape = node.meta["val"].shape
    return not shape or any(
        size_at(shape[0], batch) != batch
        or any(size_at(n, batch) != size_at(n, 1) for n in shape[1:])
        for batch in (2, 3)
    )


def size_at(extent: Any, batch: int) -> int:
    """Gives a traced size for a batch of that many images, the only symbol of the trace."""
    if isinstance(extent, int):
        return extent
    expression = extent.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, batch)))


def bound(value: Any, constants: Mapping[str, Any]) -> Any:
    """Gives traced arguments with parameters filled in and the rest as `Ref`."""
    if isinstance(value, torch.fx.Node):
        return constants[value.name] if value.name in constants else Ref(value.name)
    if isinstance(value, (tuple, list)):
        return type(value)(bound(item, constants) for item in value)
    if isinstance(value, Mapping):
        return {key: bound(item, constants) for key, item in value.items()}
    return value
