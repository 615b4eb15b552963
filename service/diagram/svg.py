"""A drawing as an SVG file for a paper: text as text, no scripts, sizes in millimetres."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from circuit_atlas.service.diagram.data import Content
from circuit_atlas.service.diagram.names import names
from circuit_atlas.service.diagram.node_images import NodeImages, data_url, used_images
from circuit_atlas.service.diagram.shapes import (
    EXCITE,
    FONT_FAMILY,
    GREY,
    HEIGHT_MM,
    INHIBIT,
    INK,
    SIDES,
    WIDTH_MM,
    Scale,
    bands,
    kernels,
    nodes,
    pictured,
    weights,
    wires,
)
from circuit_atlas.service.diagram.titles import wrapped

# Characters that XML has no way to write: a name may hold any.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SMALLEST = 3.4  # points a millimetre: a small drawing is not blown up to the whole width
_SIDE_MM = 5.0  # for names of the first and the last column
_NARROWEST_MM = 104.0  # that the legend fits into
_TITLE_MM, _TEXT_MM = 1.9, 1.18  # a letter of a title and of the lines below, on average


def svg(content: Content, node_images: NodeImages, *, featured: bool) -> str:
    """Write the whole file; `featured`: with visualizations, and crops of the nodes that have
    none."""
    # Lines for the narrowest page first: how wide it becomes depends on how many they are.
    mm, wide = _SMALLEST, _NARROWEST_MM
    for _ in range(2):
        title = wrapped(content.title, int((wide - 4) / _TITLE_MM))
        foot = [
            line for text in _foot(content) for line in wrapped(text, int((wide - 4) / _TEXT_MM))
        ]
        top, bottom = 11.0 + 4.2 * (len(title) - 1), 12.0 + 3.4 * len(foot)
        mm = max(
            _SMALLEST,
            content.width / (WIDTH_MM - 2 * _SIDE_MM),
            content.height / (HEIGHT_MM - top - bottom),
        )
        wide = max(content.width / mm + 2 * _SIDE_MM, _NARROWEST_MM)
    scale = Scale(mm, content.counts.drawn)
    width = wide * mm
    height = content.height + (top + bottom) * mm
    left = (width - content.width) / 2
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width / mm:.1f}mm" '
        f'height="{height / mm:.1f}mm" viewBox="0 0 {width:.1f} {height:.1f}" '
        f'font-family="{FONT_FAMILY}" text-rendering="geometricPrecision" fill="{INK}">',
        f"<title>{escape(content.title)}</title>",
        f"<desc>{escape(' '.join((*_foot(content), *_images(content))))}</desc>",
        f'<rect width="{width:.1f}" height="{height:.1f}" fill="#ffffff"/>',
        *_defs(content, node_images),
        *(
            _text(2 * mm, (5 + 4.2 * n) * mm, line, scale.title, "start", INK, weight="bold")
            for n, line in enumerate(title)
        ),
        _text(2 * mm, (top - 2.2) * mm, _about(content), scale.text, "start", GREY),
        f'<g transform="translate({left:.1f} {top * mm:.1f})">',
        *bands(content, scale),
        *wires(content, scale),
        *kernels(content, scale),
        *weights(content, scale),
        *nodes(content, node_images, featured=featured),
        *_names(content, scale),
        "</g>",
        *_legend(content, scale, content.height + (top + 5) * mm, foot),
        "</svg>\n",
    ]
    return _NO_XML.sub("\ufffd", "\n".join(lines))


def _about(content: Content) -> str:
    return f"{content.model} · {content.criterion}"


def _foot(content: Content) -> tuple[str, ...]:
    """The counts, and which circuits they are of."""
    counts = content.counts
    whose, ends = ("both circuits", "either's unit") if content.sides else ("circuit", "the unit")
    lines = [
        f"{counts.drawn:,} of {counts.on_path:,} kernels on a path drawn; {whose} of "
        f"{counts.circuit:,}, of {counts.reachable:,} that can reach {ends}."
    ]
    if counts.drawn:
        lines.append(
            f"{counts.crossings_after:,} crossings; {counts.crossings_before:,} before ordering."
        )
    if content.sides:
        lines.append(f"Left: {content.sides[0]}; right: {content.sides[1]}.")
    return tuple(lines)


def _images(content: Content) -> tuple[str, ...]:
    """All images that each circuit is of: a title names the first ones only."""
    sides = ("Left, images", "Right, images") if content.sides else ("Images",)
    return tuple(
        f"{side}: {', '.join(map(str, images))}."
        for side, images in zip(sides, content.chosen_for, strict=True)
        if images
    )


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
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:.1f}" text-anchor="{anchor}" '
        f'fill="{fill}"{bold}>{escape(text)}</text>'
    )


def _defs(content: Content, node_images: NodeImages) -> Iterator[str]:
    wide, high = content.input_width, content.input_height
    yield "<defs>"
    shown = pictured(content)
    for image, data in node_images.jpegs(used_images(content, most=1) if shown else ()).items():
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


def _names(content: Content, scale: Scale) -> Iterator[str]:
    """Names above the bands, and what the drawing has to say of itself."""
    halo = (
        f'stroke="#ffffff" stroke-width="{0.7 * scale.mm:.1f}" stroke-linejoin="round" '
        'paint-order="stroke" '
    )
    yield '<g class="names">'
    for name in names(content, scale, side=(_SIDE_MM - 1) * scale.mm):
        fill = INK if name.band.unit else GREY
        text = _text(name.x, name.y, name.text, scale.text, "middle", fill)
        yield text.replace("<text ", f"<text {halo}", 1)
    if content.note:
        middle = content.width / 2, content.height / 2
        for number, line in enumerate(wrapped(content.note, 52)):
            y = middle[1] + number * 1.4 * scale.text
            yield _text(max(middle[0], 0), y, line, scale.text, "middle", INK)
    yield "</g>"


def _legend(content: Content, scale: Scale, top: float, foot: list[str]) -> Iterator[str]:
    """What colours and widths mean, then the lines with the counts."""
    mm, size = scale.mm, scale.text
    x = 2 * mm
    yield '<g class="legend">'
    if content.sides:
        entries = list(zip(SIDES, ("shared", "only left", "only right"), strict=True))
    else:
        entries = [(EXCITE, "excitation"), (INHIBIT, "inhibition")]
    for colour, label in entries:
        yield (
            f'<path d="M{x:.1f} {top - 0.32 * size:.1f}h{4 * mm:.1f}" stroke="{colour}" '
            f'stroke-width="{0.6 * mm:.2f}"/>'
        )
        yield _text(x + 5 * mm, top, label, size, "start", INK)
        x += (7.5 + 1.12 * len(label)) * mm
    for part in (0.0, 0.5, 1.0):
        yield (
            f'<path d="M{x:.1f} {top - 0.32 * size:.1f}h{3 * mm:.1f}" stroke="{GREY}" '
            f'stroke-width="{scale.line(part):.2f}"/>'
        )
        x += 3.6 * mm
    x += 0.6 * mm
    width = "width: root of the score over its convolution's largest"
    yield _text(x, top, width, size, "start", INK)
    top += 1.5 * size
    yield (
        f'<rect x="{2 * mm:.1f}" y="{top - 0.75 * size:.1f}" width="{9 * mm:.1f}" '
        f'height="{0.8 * size:.1f}" fill="url(#weights)" stroke="{GREY}" '
        f'stroke-width="{0.1 * mm:.2f}"/>'
    )
    yield _text(12.5 * mm, top, "weights of a kernel, below and above 0", size, "start", INK)
    for line in foot:
        top += 1.45 * size
        yield _text(2 * mm, top, line, size, "start", GREY)
    yield "</g>"
