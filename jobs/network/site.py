"""The convolutions of a network by their weights, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


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


def site_names(sites: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names sites: the module's path; where one module holds two convolutions the parameter's,
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
