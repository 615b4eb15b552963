"""What a drawing holds: all that the renderer, the SVG file and the web API get, and no more.

Coordinates are in points, 40 a row; the y axis points down. A *point* is a node or, numbered after
all nodes, a bend: where a line passes a column that it does not end in. `levels` are bits: bit n is
set where the thing is drawn on step n of the slider. Floats are rounded to five digits.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any

from msgspec import Meta

from circuit_atlas.storage_schema import document_schema
from circuit_atlas.storage_schema.document_schema import RefusedError
from circuit_atlas.storage_schema.documents import parse
from circuit_atlas.storage_schema.errors import CorruptError

VERSION = 3
ROW = 40.0
"""Points from one row to the next."""

Crop = tuple[int, int, int, int, int]
"""Image, top, left, bottom, right: pixels of the network's input, half-open."""


@dataclass(frozen=True)
class Counts:
    """Counts kernels, or crossings of lines.

    Attributes:
        reachable: kernels that can reach the unit.
        circuit: kernels of the circuit (of either circuit).
        on_path: those of them on a path from the image to the unit.
        drawn: those of them drawn, at most as many as were asked for.
        crossings_before, crossings_after: pairs of lines that cross, rows by channel, and as laid
            out; of both circuits where the layout is one for both.
    """

    reachable: int
    circuit: int
    on_path: int
    drawn: int
    crossings_before: int
    crossings_after: int


@dataclass(frozen=True)
class SparsityLevel:
    """Is one step of the slider: the kept fraction, and its kernels counted as in `Counts`.

    Attributes:
        carried: the share of the response that the paths of drawn kernels carry, of what all paths
            of the circuit do, see `influence.whole_paths`; of two circuits the smaller share.
    """

    fraction: float
    kernels: int
    on_path: int
    drawn: int
    carried: float


@dataclass(frozen=True)
class Band:
    """Holds nodes that belong together: a convolution's channels, the image, joints, or the unit.

    Attributes:
        kind: image, channel, sum, product, mix or unit.
        name: the convolution's path, or what the joint does.
        label: the same without what the names of the network have in common.
        depth: of the convolution, 0 of the image, null of joints and unit.
        channels: how many the convolution has, or the image.
        kernel: height and width of its kernels, or null.
        x: middle of the column.
        top, bottom: from where to where its nodes reach.
        concatenated: names of convolutions that lie side by side in its input.
        unit: whether the unit's own channel is in it.
        kernels: of the circuit into the convolution, drawn or not, for each level.
    """

    kind: str
    name: str
    label: str
    depth: int | None
    channels: int
    kernel: tuple[int, int] | None
    x: float
    top: float
    bottom: float
    concatenated: tuple[str, ...]
    unit: bool
    kernels: tuple[int, ...]


@dataclass(frozen=True)
class Nodes:
    """Holds columns of equal length, one entry a node.

    Attributes:
        band: its band.
        channel: of the convolution or image; of a joint, that of its first source.
        x, y: its middle.
        score: sum over the circuit's kernels into it (of the image: out of it).
        share: that of the sum over the whole circuit.
        contribution: signed sum over the same kernels; null where unknown.
        levels: bits.
        crops: where the channel is largest, best first.
        feature: variant of the feature visualization that is stored of it, or nothing.
    """

    band: list[int]
    channel: list[int]
    x: list[float]
    y: list[float]
    score: list[float]
    share: list[float]
    contribution: list[float | None]
    levels: list[int]
    crops: list[list[Crop]]
    feature: list[str]


@dataclass(frozen=True)
class Bends:
    """Holds one entry a bend: the node whose line passes, and where."""

    node: list[int]
    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class Edges:
    """Holds one entry a kernel.

    Attributes:
        source: the node that feeds it.
        start: the point that its line starts from: that node, or a bend of it.
        end: the node that it writes.
        channel: its input channel, over all channels of the convolution's input.
        score, share, contribution: as of nodes; null where unknown.
        other: its score by the other circuit, where both hold it.
        strength: 0 to 1: root of its score over the largest of its convolution in the circuit.
        side: 0 of the only circuit or of both, 1 of the left one alone, 2 of the right one alone.
        levels: bits.
    """

    source: list[int]
    start: list[int]
    end: list[int]
    channel: list[int]
    score: list[float | None]
    share: list[float]
    contribution: list[float | None]
    other: list[float | None]
    strength: list[float]
    side: list[int]
    levels: list[int]


@dataclass(frozen=True)
class Wires:
    """Holds one entry a line without a kernel: to a joint, to the unit, or on to a bend."""

    start: list[int]
    end: list[int]
    levels: list[int]


@dataclass(frozen=True)
class Weights:
    """Holds the kernels' weights, edge after edge, row by row.

    Attributes:
        scale: the largest abs(weight) of each kernel; null where the weights are unknown.
        values: base64 of one signed byte a weight, 127 for that largest; none where unknown.
    """

    scale: list[float | None]
    values: str


@dataclass(frozen=True)
class Content:
    """Holds a whole drawing.

    Attributes:
        version: of this form, `VERSION`.
        title: the circuit's, with the share of the kernels that it keeps.
        model, criterion: the model's reference; which score chose the kernels.
        layers, units: of each unit that the drawing ends at: its layer and its name.
        sides: titles of the left and the right circuit; empty with one circuit.
        beside: title of the circuit that it stands beside, in one layout for both; else empty.
        chosen_for: of each circuit, ids of the images whose scores chose it; none where those of
            all scoring images did.
        note: what is to be said where nothing is drawn; else empty.
        width, height: of the drawing.
        input_height, input_width: of the network's input, in pixels.
        images: id and name or label of each image that a crop is of.
    """

    version: Annotated[int, Meta(ge=VERSION, le=VERSION)]
    title: str
    model: str
    criterion: str
    layers: tuple[str, ...]
    units: tuple[str, ...]
    sides: tuple[str, ...]
    beside: str
    chosen_for: tuple[tuple[int, ...], ...]
    note: str
    width: float
    height: float
    input_height: int
    input_width: int
    counts: Counts
    levels: tuple[SparsityLevel, ...]
    bands: tuple[Band, ...]
    nodes: Nodes
    bends: Bends
    edges: Edges
    wires: Wires
    weights: Weights
    images: tuple[tuple[int, str], ...]

    def __post_init__(self) -> None:
        """ValueError where columns differ in length, or something names a point that is not."""
        nodes, points = len(self.nodes.band), len(self.nodes.band) + len(self.bends.node)
        for table in (self.nodes, self.bends, self.edges, self.wires):
            lengths = {f.name: len(getattr(table, f.name)) for f in fields(table)}
            if len(set(lengths.values())) > 1:
                raise ValueError(f"columns of {type(table).__name__} differ in length: {lengths}")
        for name, values, size in (
            ("band", self.nodes.band, len(self.bands)),
            ("bends.node", self.bends.node, nodes),
            ("edges.source", self.edges.source, nodes),
            ("edges.start", self.edges.start, points),
            ("edges.end", self.edges.end, nodes),
            ("wires.start", self.wires.start, points),
            ("wires.end", self.wires.end, points),
        ):
            if values and not 0 <= min(values) <= max(values) < size:
                raise ValueError(f"{name} names something outside 0 to {size - 1}")
        if len(self.weights.scale) != len(self.edges.end):
            raise ValueError(f"{len(self.weights.scale)} weights of {len(self.edges.end)} edges")
        if len(self.edges.end) != self.counts.drawn:
            raise ValueError(f"{len(self.edges.end)} edges, and {self.counts.drawn} are told of")

    def to_json(self) -> str:
        """Write one line of JSON; NaN as null."""
        return json.dumps(_plain(self), separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Content:
        """Invert `to_json`; CorruptError where it is something else."""
        try:
            raw = parse(text)
            found = document_schema.read(cls, raw)
            if more := raw.keys() - vars(found).keys():
                raise ValueError(f"{VERSION} knows no {', '.join(sorted(more))}")
            return found
        except (ValueError, RefusedError) as error:
            raise CorruptError(f"this is no drawing of a circuit: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return rounded(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value):  # `asdict` would copy every number first
        return {key: _plain(item) for key, item in vars(value).items()}
    return value


def rounded(value: float) -> float | None:
    """Round to five digits; None for what is no finite number.

    >>> rounded(0.123456789), rounded(float("nan"))
    (0.12346, None)
    """
    return float(f"{value:.5g}") if math.isfinite(value) else None
