"""The parts of a drawing as SVG elements: bands, lines, weights, nodes."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import numpy as np

from circuit_atlas.service.diagram.data import ROW, Band, Content, Crop
from circuit_atlas.service.diagram.drawn import Drawn
from circuit_atlas.service.diagram.look import Look
from circuit_atlas.service.diagram.node_images import NodeImages, data_url

HEIGHT_MM = 225.0
"""At most: the height of a page with room for a caption."""
INK, GREY, FAINT, BAND = "#1b1e22", "#5b6168", "#c4c6c2", "#f1f1ee"
FONTS = ("Helvetica", "Arial", "Liberation Sans", "DejaVu Sans", "Noto Sans")
"""Text is set in the first of these that a machine has."""
FONT_FAMILY = ", ".join((*(f"'{font}'" for font in FONTS), "sans-serif"))
EXCITE, INHIBIT, UNKNOWN = "#b8480a", "#1a62b3", "#7b8087"
SIDES = ("#5b6168", "#0d6d65", "#9a2590")
RGB = ("#d24b40", "#3f9a55", "#3f6fd1")
# Of an image whose channels are not red, green and blue.
_NO_COLOUR = "#8b8b85"

JOINTS = ("sum", "product", "mix")
"""Kinds of band that have no name of their own."""

_NODE = 30.0
_WEIGHTS = 150  # kernels, at most, for drawn weights on their lines
_LEVELS = 8


@dataclass(frozen=True)
class Scale:
    """Says how many points a millimetre of the page is, and how large everything is in points.

    Attributes:
        mm: points of a millimetre.
        kernels: how many are drawn.
        look: the sizes that the reader chose.
        doubled: nodes are twice as wide, for two images.
    """

    mm: float
    kernels: int
    look: Look
    doubled: bool

    @property
    def text(self) -> float:
        """Return the size of letters: 7 points of print are 2.47 mm."""
        return 2.5 * self.mm

    @property
    def title(self) -> float:
        return 3.3 * self.mm

    @property
    def half_strip(self) -> float:
        """Return half the width of what lies under the nodes of a band."""
        return ROW * (0.95 if self.doubled else 0.55)

    def line(self, strength: float) -> float:
        """Return the width of a kernel's line; thinner where there are many."""
        crowd = min(1.0, (250 / max(1, self.kernels)) ** 0.36)
        return (0.08 + 0.52 * strength) * crowd * self.mm * self.look.kernels

    def size(self, band: Band) -> float:
        """Return the height of a band's nodes."""
        wanted: float = self.look.nodes**0.6
        small, large = min(1.25, wanted), min(1.6, max(1.0, wanted / 1.25))
        if band.unit or band.kind == "unit":
            return _NODE * 1.35 * small * large
        return _NODE * 0.5 * small if band.kind in JOINTS else _NODE * small * large

    def half(self, content: Content, point: int) -> float:
        """Return half the width of a node, 0 of a bend."""
        if point >= len(content.nodes.band):
            return 0.0
        band = content.bands[content.nodes.band[point]]
        return self.size(band) / (1 if self.doubled and band.kind not in JOINTS else 2)

    @property
    def pictured(self) -> bool:
        """Tell whether an image of a node can be seen: half a millimetre."""
        return _NODE / self.mm >= 0.5


def bands(content: Content, scale: Scale) -> Iterator[str]:
    """Draw what lies under everything: a strip a band, and the brackets of concatenations."""
    yield '<g class="bands">'
    for band in content.bands:
        if band.kind in JOINTS:
            continue
        top, high = band.top - ROW * 0.6, band.bottom - band.top + ROW * 1.2
        yield (
            f'<rect x="{band.x - scale.half_strip:.1f}" y="{top:.1f}" '
            f'width="{2 * scale.half_strip:.1f}" '
            f'height="{high:.1f}" rx="5" fill="{BAND}"/>'
        )
    for parts in _concatenations(content):
        x = parts[0].x + scale.half_strip + ROW * 0.17
        top = min(p.top for p in parts) - ROW * 0.5
        bottom = max(p.bottom for p in parts) + ROW * 0.5
        yield (
            f'<path class="concatenation" d="M{x - 5:.1f} {top:.1f}h5V{bottom:.1f}h-5" fill="none" '
            f'stroke="{GREY}" stroke-width="{0.2 * scale.mm:.2f}"/>'
        )
    yield "</g>"


def _concatenations(content: Content) -> list[list[Band]]:
    """Bands of one column that lie side by side in the input of a later convolution."""
    by_name = {band.name: band for band in content.bands}
    found: dict[tuple[str, ...], list[Band]] = {}
    for band in content.bands:
        parts = [by_name[name] for name in band.concatenated if name in by_name]
        if len(parts) > 1 and len({part.x for part in parts}) == 1:
            found[band.concatenated] = parts
    return list(found.values())


def _point(content: Content, point: int) -> tuple[float, float]:
    nodes = len(content.nodes.band)
    if point < nodes:
        return content.nodes.x[point], content.nodes.y[point]
    return content.bends.x[point - nodes], content.bends.y[point - nodes]


def _curve(content: Content, scale: Scale, start: int, end: int) -> str:
    (x0, y0), (x1, y1) = _point(content, start), _point(content, end)
    x0, x1 = x0 + scale.half(content, start), x1 - scale.half(content, end)
    middle = (x0 + x1) / 2
    return f"M{x0:.1f} {y0:.1f}C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"


def wires(drawn: Drawn, scale: Scale) -> Iterator[str]:
    """Draw lines without a kernel."""
    content, width = drawn.content, 0.18 * scale.mm
    yield f'<g class="wires" fill="none" stroke="{FAINT}" stroke-width="{width:.2f}">'
    for wire in drawn.wires:
        curve = _curve(content, scale, content.wires.start[wire], content.wires.end[wire])
        yield f'<path class="wire" d="{curve}"/>'
    yield "</g>"


def _colour(content: Content, edge: int) -> str:
    if content.sides:
        return SIDES[content.edges.side[edge]]
    contribution = content.edges.contribution[edge]
    if not contribution:
        return UNKNOWN
    return EXCITE if contribution > 0 else INHIBIT


def kernels(drawn: Drawn, scale: Scale) -> Iterator[str]:
    """Draw the weakest first, so that the strongest lie on top."""
    content, edges = drawn.content, drawn.content.edges
    looks: dict[tuple[int, str], list[int]] = {}
    for edge in drawn.kernels:
        level = min(_LEVELS - 1, int(edges.strength[edge] * _LEVELS))
        looks.setdefault((level, _colour(content, edge)), []).append(edge)
    crowd = min(0.85, max(0.18, 12 / (len(drawn.kernels) + 1) ** 0.5))
    yield '<g class="kernels" fill="none">'
    for (level, colour), some in sorted(looks.items()):
        part = level / (_LEVELS - 1)
        opacity = crowd + (0.95 - crowd) * part**1.3
        yield (
            f'<g stroke="{colour}" stroke-width="{scale.line(part):.2f}" '
            f'stroke-opacity="{opacity:.2f}">'
        )
        for edge in some:
            curve = _curve(content, scale, edges.start[edge], edges.end[edge])
            yield f'<path class="kernel" d="{curve}"/>'
        yield "</g>"
    yield "</g>"


def weighted(drawn: Drawn) -> bool:
    """Tell whether weights are drawn on the lines: where those are few."""
    return 0 < len(drawn.kernels) <= _WEIGHTS


def weights(drawn: Drawn, scale: Scale) -> Iterator[str]:
    """Draw images of weights on the lines, where those are few and there is room for each."""
    content, edges, weights = drawn.content, drawn.content.edges, drawn.content.weights
    if not weighted(drawn):
        return
    values = np.frombuffer(base64.b64decode(weights.values), np.int8)
    cell = max(3.2, 0.42 * scale.mm)
    starts: dict[int, int] = {}
    offset = 0
    for edge, largest in enumerate(weights.scale):
        kernel = _kernel(content, edge)
        if largest is not None:
            starts[edge] = offset
            offset += kernel[0] * kernel[1]
    taken: list[tuple[float, float, float, float]] = []
    yield '<g class="weights">'
    for edge in sorted(starts.keys() & set(drawn.kernels), key=lambda e: (-edges.strength[e], e)):
        high, wide = _kernel(content, edge)
        size = wide * cell, high * cell
        spot = _spot(content, scale, edge, size, taken)
        if spot is None:
            continue
        taken.append((*spot, *size))
        yield (
            f'<g class="weight"><rect x="{spot[0] - 0.8:.1f}" y="{spot[1] - 0.8:.1f}" '
            f'width="{size[0] + 1.6:.1f}" height="{size[1] + 1.6:.1f}" fill="{GREY}"/>'
        )
        for number in range(high * wide):
            x, y = spot[0] + number % wide * cell, spot[1] + number // wide * cell
            colour = _shade(int(values[starts[edge] + number]) / 127)
            yield (
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell:.1f}" height="{cell:.1f}" '
                f'fill="{colour}"/>'
            )
        yield "</g>"
    yield "</g>"


def _kernel(content: Content, edge: int) -> tuple[int, int]:
    return content.bands[content.nodes.band[content.edges.end[edge]]].kernel or (1, 1)


def _spot(
    content: Content,
    scale: Scale,
    edge: int,
    size: tuple[float, float],
    taken: list[tuple[float, float, float, float]],
) -> tuple[float, float] | None:
    """Where on its line drawn weights cover no others, or None."""
    start, end = content.edges.start[edge], content.edges.end[edge]
    (x0, y0), (x1, y1) = _point(content, start), _point(content, end)
    x0, x1 = x0 + scale.half(content, start), x1 - scale.half(content, end)
    if size[0] + 8 > x1 - x0:
        return None
    for t in (0.5, 0.4, 0.6, 0.3, 0.7, 0.22, 0.78):
        x = x0 + (x1 - x0) * (1.5 * t * (1 - t) + t**3) - size[0] / 2
        y = y0 + (y1 - y0) * t * t * (3 - 2 * t) - size[1] / 2
        if all(
            x > tx + tw + 2 or tx > x + size[0] + 2 or y > ty + th + 2 or ty > y + size[1] + 2
            for tx, ty, tw, th in taken
        ):
            return x, y
    return None


def _shade(value: float) -> str:
    """White at 0, the colour of inhibition at -1, of excitation at 1."""
    end = EXCITE if value > 0 else INHIBIT
    parts = [int(end[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 + (part - 255) * abs(value)):02x}" for part in parts)


def nodes(drawn: Drawn, node_images: NodeImages, scale: Scale) -> Iterator[str]:
    """Draw nodes with their crops, their feature visualizations, or both."""
    content, nodes = drawn.content, drawn.content.nodes
    yield '<g class="nodes">'
    for node in drawn.nodes:
        band = content.bands[nodes.band[node]]
        x, y, size = nodes.x[node], nodes.y[node], scale.size(band)
        name = escape(f"{band.name} {nodes.channel[node]}")
        faint = ' opacity="0.13"' if drawn.faint(node) else ""
        yield f'<g class="node {band.kind}"{faint}><title>{name}</title>'
        if band.kind in JOINTS:
            yield _joint(band.kind, x, y, size / 2)
        elif band.kind == "image":
            yield from _image_channel(band, nodes.channel[node], x, y, size, scale)
        else:
            yield from _channel(drawn, node_images, node, scale)
        yield "</g>"
    yield "</g>"


def _image_channel(
    band: Band, channel: int, x: float, y: float, size: float, scale: Scale
) -> Iterator[str]:
    """A channel of the image, with its letter: in it where there is room, else beside it."""
    coloured = band.channels == len(RGB)
    fill, letter = (RGB[channel], "RGB"[channel]) if coloured else (_NO_COLOUR, str(channel))
    yield f'<rect {_square(x - size / 2, y - size / 2, size)} fill="{fill}"/>'
    if 0.75 * scale.text > ROW:  # letters would stand on one another
        return
    inside = size >= 1.1 * scale.text
    yield (
        f'<text x="{x if inside else x - 0.6 * size:.1f}" y="{y + 0.36 * scale.text:.1f}" '
        f'font-size="{scale.text:.1f}" font-weight="bold" '
        f'text-anchor="{"middle" if inside else "end"}" '
        f'fill="{"#ffffff" if inside else INK}">{letter}</text>'
    )


def _channel(drawn: Drawn, node_images: NodeImages, node: int, scale: Scale) -> Iterator[str]:
    content, nodes = drawn.content, drawn.content.nodes
    band = content.bands[nodes.band[node]]
    size, half, kind = scale.size(band), scale.half(content, node), drawn.images
    left, top = nodes.x[node] - half, nodes.y[node] - size / 2
    whole = f'x="{left:.1f}" y="{top:.1f}" width="{2 * half:.1f}" height="{size:.1f}"'
    yield f'<rect {whole} fill="#e2e2de"/>'
    if kind == "both":
        yield _crop(drawn, node, _square(left, top, size), scale)
        yield _feature(node_images, node, _square(nodes.x[node], top, size))
    elif kind == "features" and node in node_images.features:
        yield _feature(node_images, node, _square(left, top, size))
    elif kind != "none":
        yield _crop(drawn, node, _square(left, top, size), scale)
    wide = band.unit or band.kind == "unit"
    yield (
        f'<rect {whole} fill="none" stroke="{INK if wide else GREY}" '
        f'stroke-width="{2.0 if wide else 0.8}"/>'
    )
    number = str(nodes.channel[node])
    chip = 0.6 * scale.text * len(number) + 0.4 * scale.text, 1.15 * scale.text
    if chip[0] <= size and chip[1] <= size * 0.45:
        bottom = top + size
        yield (
            f'<rect x="{left:.1f}" y="{bottom - chip[1]:.1f}" width="{chip[0]:.1f}" '
            f'height="{chip[1]:.1f}" fill="#000000" fill-opacity="0.62"/>'
            f'<text x="{left + chip[0] / 2:.1f}" y="{bottom - 0.24 * scale.text:.1f}" '
            f'font-size="{scale.text:.1f}" text-anchor="middle" fill="#ffffff">{number}</text>'
        )


def _square(x: float, y: float, size: float) -> str:
    return f'x="{x:.1f}" y="{y:.1f}" width="{size:.1f}" height="{size:.1f}"'


def _feature(node_images: NodeImages, node: int, box: str) -> str:
    if node not in node_images.features:
        return ""
    return f'<image class="feature" {box} href="{data_url(node_images.png(node), "png")}"/>'


def _crop(drawn: Drawn, node: int, box: str, scale: Scale) -> str:
    crops = drawn.content.nodes.crops[node]
    if not crops or not scale.pictured:
        return ""
    # A pattern and not a clipped image, which resvg gives a layer of the page's size.
    return (
        f'<pattern id="crop-{node}" width="1" height="1" viewBox="{_box(drawn.content, crops[0])}">'
        f'<use href="#image-{crops[0][0]}"/></pattern>'
        f'<rect class="crop" {box} fill="url(#crop-{node})"/>'
    )


def _box(content: Content, crop: Crop) -> str:
    """A square around the crop, at least a twelfth of the image, as a view box."""
    _, top, left, bottom, right = crop
    width, height = content.input_width, content.input_height
    least = min(width, height) / 12
    side = min(width, height, max(least, 1.08 * max(bottom - top, right - left)))
    x = min(width - side, max(0.0, (left + right - side) / 2))
    y = min(height - side, max(0.0, (top + bottom - side) / 2))
    return f"{x:.1f} {y:.1f} {side:.1f} {side:.1f}"


def _joint(kind: str, x: float, y: float, radius: float) -> str:
    arm = radius * (0.62 if kind == "sum" else 0.46)
    straight = f"M{x - arm:.1f} {y:.1f}h{2 * arm:.1f}M{x:.1f} {y - arm:.1f}v{2 * arm:.1f}"
    across = (
        f"M{x - arm:.1f} {y - arm:.1f}l{2 * arm:.1f} {2 * arm:.1f}"
        f"M{x - arm:.1f} {y + arm:.1f}l{2 * arm:.1f} {-2 * arm:.1f}"
    )
    mark = {"sum": straight, "product": across, "mix": straight + across}[kind]
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="#ffffff" stroke="{GREY}"/>'
        f'<path d="{mark}" fill="none" stroke="{GREY}"/>'
    )
