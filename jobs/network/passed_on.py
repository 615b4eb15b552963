"""What a unit passes on: its module's output after the chain of operations that all readers share.

Nothing else in a network sees a convolution's output where a ReLU alone reads it, so what the ReLU
lets through is what the unit does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from circuit_atlas.jobs.network.aten import BATCH_NORM, POINTWISE

# They change no value, and so are not worth a word.
_SAME = frozenset({"clone", "dropout", "feature_dropout", "contiguous", "_to_copy", "getitem"})


def chain_end(output: Any, depends: set[Any]) -> Any:
    """Finds the traced node at whose result everything that reads a module's output meets.

    That is the last node for which everything that is computed from `output` before it treats each
    channel and position for itself, and is read on the way to it only. A branch that meets again
    counts as a chain, such as x and sigmoid(x) in a gate x sigmoid(x).

    Args:
        output: the node of the module's output.
        depends: the nodes that depend on the image.

    Returns:
        `output` itself where its readers share no such operation.
    """
    region, end, node = {output}, output, output.next
    while node.op != "root":
        if _is_pointwise(node, region, depends, _shape(output)):
            region.add(node)
            meets = all(user in region for each in region - {node} for user in each.users)
            if meets and _is_number(node):
                end = node
        node = node.next
    return end


def _is_pointwise(node: Any, region: set[Any], depends: set[Any], shape: tuple[Any, ...]) -> bool:
    """Whether a node computes each element from the elements of `region` at its position, and from
    nothing else that depends on the image."""
    read = [other for other in node.all_input_nodes if other in depends]
    if node.op != "call_function" or not read or not region.issuperset(read):
        return False
    name = str(node.target.__name__).split(".")[0]
    if isinstance(node.meta.get("val"), (tuple, list)):
        return name == BATCH_NORM
    if name == "getitem":
        return bool(node.args[1] == 0)
    tags = getattr(node.target, "tags", ())
    return (torch.Tag.pointwise in tags or name in POINTWISE | _SAME) and _shape(node) == shape


def _shape(node: Any) -> tuple[Any, ...]:
    value = node.meta.get("val")
    return tuple(value.shape[1:]) if isinstance(value, Tensor) else ()


def _is_number(node: Any) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()


def in_words(operations: Sequence[str], path: str) -> str:
    """Says after which operations a response is taken, such as `relu, features.1`.

    Args:
        operations: the chain's, by their ATen names.
        path: the path of the module that the last of them runs in.

    Returns:
        An empty text for an empty chain.
    """
    told = [
        "batch norm" if name == BATCH_NORM else name for name in operations if name not in _SAME
    ]
    return ", ".join(filter(None, [" and ".join(told), path])) if told else ""
