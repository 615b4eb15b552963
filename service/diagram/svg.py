"""A drawing as an SVG file for a paper: text as text, no scripts, sizes in millimetres."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape

from circuit_atlas.service.diagram.data import ROW, Content
from circuit_atlas.service.diagram.drawn import Drawn
from circuit_atlas.service.diagram.legend import Entry, entries, placed
from circuit_atlas.service.diagram.names import Name, lines_of, names
from circuit_atlas.service.diagram.node_images import NodeImages, data_url
from circuit_atlas.service.diagram.shapes import (
    EXCITE,
    FONT_FAMILY,
    GREY,
    HEIGHT_MM,
    INHIBIT,
    INK,
    Scale,
    bands,
    kernels,
    nodes,
    weights,
    wires,
)
from circuit_atlas.service.diagram.titles import foot, wrapped

# Characters that XML has no way to write: a name may hold any.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SMALLEST = 3.4  # points a millimetre: a small drawing is not blown up to the whole width
_SIDE_MM = 5.0  # for names of the first and the last column
_MARGIN_MM = 2.0
_TITLE_MM, _TEXT_MM = 1.9, 1.4  # a letter of a title and of the lines below, on average
_TITLE_LINE_MM, _LINE_MM = 4.2, 3.65


def svg(drawn: Drawn, node_images: NodeImages, *, width_mm: float) -> str:
    """Write the whole file, so wide, and as high as it needs."""
    content = drawn.content
    inner = width_mm - 2 * _MARGIN_MM
    title = wrapped(content.title, int(inner / _TITLE_MM))
    about = wrapped(f"{content.model} · {content.criterion}", int(inner / _TEXT_MM))
    below = [line for text in foot(drawn) for line in wrapped(text, int(inner / _TEXT_MM))]
    legend = placed(entries(drawn), inner)
    legend_rows = 1 + max((row for _, _, row in legend), default=-1)
    top = 2.5 + _TITLE_LINE_MM * len(title) + _LINE_MM * len(about)
    bottom = 4.0 + _LINE_MM * (len(below) + legend_rows)
    doubled = drawn.images == "both"
    mm, above = _SMALLEST, 0.0
    for _ in range(2):  # how much room names need above depends on how small the drawing is
        mm = max(
            _SMALLEST,
            content.width / (width_mm - 2 * _SIDE_MM),
            content.height / max(20.0, HEIGHT_MM - top - bottom - above),
        )
        scale = Scale(mm, len(drawn.kernels), drawn.look, doubled)
        named = names(drawn, scale, side=(_SIDE_MM - 1) * mm)
        highest = min((name.y - len(name.lines) * 1.15 * scale.text for name in named), default=0.0)
        above = max(0.0, -highest / mm)
    width, height = width_mm * mm, content.height + (top + above + bottom) * mm
    left = (width - content.width) / 2
    heading = 2.5 + _TITLE_LINE_MM * len(title)
    foot_mm = top + above + content.height / mm + 4.0
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width / mm:.1f}mm" '
        f'height="{height / mm:.1f}mm" viewBox="0 0 {width:.1f} {height:.1f}" '
        f'font-family="{FONT_FAMILY}" text-rendering="geometricPrecision" fill="{INK}">',
        f"<title>{escape(content.title)}</title>",
        f"<desc>{escape(' '.join((*foot(drawn), *_images(content))))}</desc>",
        f'<rect width="{width:.1f}" height="{height:.1f}" fill="#ffffff"/>',
        *_defs(drawn, node_images, scale),
        *_lines(title, scale, 5.0, _TITLE_LINE_MM, size=scale.title, fill=INK, weight="bold"),
        *_lines(about, scale, heading + 2.2, _LINE_MM, size=scale.text, fill=GREY),
        f'<g class="drawing" transform="translate({left:.1f} {(top + above) * mm:.1f})">',
        *bands(content, scale),
        *wires(drawn, scale),
        *kernels(drawn, scale),
        *weights(drawn, scale),
        *nodes(drawn, node_images, scale),
        *_names(content, named, scale),
        "</g>",
        *_legend(legend, scale, foot_mm),
        *_lines(
            below,
            scale,
            foot_mm + _LINE_MM * legend_rows,
            _LINE_MM,
            size=scale.text,
            fill=GREY,
        ),
        "</svg>\n",
    ]
    return _NO_XML.sub("\ufffd", "\n".join(lines))


def _images(content: Content) -> tuple[str, ...]:
    """All images that each circuit is of: a title names the first ones only."""
    sides = ("Left, images", "Right, images") if content.sides else ("Images",)
    return tuple(
        f"{side}: {', '.join(map(str, images))}."
        for side, images in zip(sides, content.chosen_for, strict=True)
        if images
    )


def _lines(
    texts: Sequence[str],
    scale: Scale,
    first_mm: float,
    line_mm: float,
    *,
    size: float,
    fill: str,
    weight: str = "normal",
) -> Iterator[str]:
    for number, text in enumerate(texts):
        y = (first_mm + number * line_mm) * scale.mm
        yield _text(_MARGIN_MM * scale.mm, y, text, size, "start", fill, weight=weight)


def _text(
    x: float,
    y: float,
    text: str,
    size: float,
    anchor: str,
    fill: str,
    *,
    weight: str = "normal",
) -> str:
    bold = "" if weight == "normal" else f' font-weight="{weight}"'
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:.2f}" text-anchor="{anchor}" '
        f'fill="{fill}"{bold}>{escape(text)}</text>'
    )


def _defs(drawn: Drawn, node_images: NodeImages, scale: Scale) -> Iterator[str]:
    content = drawn.content
    wide, high = content.input_width, content.input_height
    shown = drawn.images
    used: set[int] = set()
    if scale.pictured and shown != "none":
        used = {
            content.nodes.crops[node][0][0]
            for node in drawn.nodes
            if content.nodes.crops[node]
            and not (shown == "features" and node in node_images.features)
        }
    yield "<defs>"
    for image, data in node_images.jpegs(used).items():
        yield (
            f'<image id="image-{image}" width="{wide}" height="{high}" '
            f'preserveAspectRatio="none" href="{data_url(data, "jpeg")}"/>'
        )
    yield (
        '<linearGradient id="weights"><stop offset="0" stop-color="'
        f'{INHIBIT}"/><stop offset="0.5" stop-color="#ffffff"/><stop offset="1" '
        f'stop-color="{EXCITE}"/></linearGradient>'
    )
    yield "</defs>"


def _names(content: Content, named: Sequence[Name], scale: Scale) -> Iterator[str]:
    """Names above the bands, and what the drawing has to say of itself."""
    for name in named:
        if name.raised:
            top, end = name.band.top - 0.6 * ROW, name.y + 0.3 * scale.text
            yield (
                f'<path class="leader" d="M{name.band.x:.1f} {top:.1f}V{end:.1f}" '
                f'stroke="{GREY}" stroke-width="{0.1 * scale.mm:.2f}"/>'
            )
    halo = f'stroke="#ffffff" stroke-width="{0.6 * scale.mm:.1f}" stroke-linejoin="round" '
    yield '<g class="names">'
    for name in named:
        for line, y, counts in lines_of(name, scale.text):
            fill = INK if name.band.unit and not counts else GREY
            text = _text(name.x, y, line, scale.text, "middle", fill)
            yield text.replace("<text ", f'<text {halo}paint-order="stroke" ', 1)
    if content.note:
        middle = content.width / 2, content.height / 2
        for number, line in enumerate(wrapped(content.note, 52)):
            y = middle[1] + number * 1.4 * scale.text
            yield _text(max(middle[0], 0), y, line, scale.text, "middle", INK)
    yield "</g>"


def _legend(
    legend: Sequence[tuple[Entry, float, int]], scale: Scale, top_mm: float
) -> Iterator[str]:
    """What colours and widths mean: a mark and its words, each where it was placed."""
    mm, size = scale.mm, scale.text
    yield '<g class="legend">'
    for entry, x_mm, row in legend:
        x, y = (_MARGIN_MM + x_mm) * mm, (top_mm + row * _LINE_MM) * mm
        middle = y - 0.32 * size
        if entry.mark == "stroke":
            yield (
                f'<path d="M{x:.1f} {middle:.1f}h{4 * mm:.1f}" stroke="{entry.colour}" '
                f'stroke-width="{0.6 * mm:.2f}"/>'
            )
        elif entry.mark == "widths":
            for number, part in enumerate((0.0, 0.5, 1.0)):
                yield (
                    f'<path d="M{x + 3.6 * number * mm:.1f} {middle:.1f}h{3 * mm:.1f}" '
                    f'stroke="{GREY}" stroke-width="{scale.line(part):.2f}"/>'
                )
        elif entry.mark == "weights":
            yield (
                f'<rect x="{x:.1f}" y="{y - 0.75 * size:.1f}" width="{9 * mm:.1f}" '
                f'height="{0.8 * size:.1f}" fill="url(#weights)" stroke="{GREY}" '
                f'stroke-width="{0.1 * mm:.2f}"/>'
            )
        yield _text(x + entry.mark_mm * mm, y, entry.text, size, "start", INK)
    yield "</g>"
