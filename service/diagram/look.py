"""How a reader looks at a drawing, as its sliders and boxes say it: the same on a page and in a
file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from circuit_atlas.service.analysis import arguments
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.wording import listed

NodeKind = Literal["crops", "features", "both", "none"]
"""What nodes show."""
SIGNS = ("inhibition", "unknown", "excitation")
SIDES = ("shared", "left", "right")
PARTS = (*SIGNS, *SIDES)
"""What can be hidden: kernels of one circuit by sign, of two by side."""
SMALLEST, LARGEST = 0.25, 4.0


@dataclass(frozen=True)
class Look:
    """Says how a drawing is looked at; every default is what a page shows first.

    Attributes:
        fraction: kept, one of `Content.levels`; None: the largest.
        images: in the nodes; None: visualizations where there are any, else crops.
        nodes, kernels: sizes of nodes and widths of lines, .25 to 4 times the usual.
        hide: kernels that are not drawn: any of `PARTS`.
        selection: "convolution:channel" of a channel or "convolution:out:in" of a kernel, whose
            paths alone are drawn.
    """

    fraction: float | None = None
    images: NodeKind | None = None
    nodes: float = 1.0
    kernels: float = 1.0
    hide: tuple[str, ...] = ()
    selection: str | None = None

    def __post_init__(self) -> None:
        """QueryError where a size is out of range, or there is no part or kind of that name."""
        for name, size in (("nodes", self.nodes), ("kernels", self.kernels)):
            arguments.between(size, SMALLEST, LARGEST, what=name)
        if self.images is not None and self.images not in get_args(NodeKind):
            raise QueryError(
                f"nodes show no {self.images!r}: give {listed(get_args(NodeKind), last='or')}"
            )
        if isinstance(self.hide, str):
            raise QueryError(f"hide={self.hide!r} is no list: give ({self.hide!r},)")
        for part in self.hide:
            if part not in PARTS:
                raise QueryError(f"no kernels are {part!r}: hide {listed(PARTS, last='or')}")
