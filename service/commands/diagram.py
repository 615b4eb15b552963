"""The command `circuit-atlas diagram`."""

from __future__ import annotations

from typing import get_args

import click

from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.circuit.saved_file import path_of
from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.client.layer import Layer
from circuit_atlas.service.commands import json_output, options
from circuit_atlas.service.commands.chosen_circuit import circuit_of
from circuit_atlas.service.diagram.draw import EDGES
from circuit_atlas.service.diagram.figure import WIDTH_MM
from circuit_atlas.service.diagram.look import LARGEST, PARTS, SMALLEST, Look, NodeKind
from circuit_atlas.storage_schema.errors import QueryError

_GROUP = "group:"


def _parts(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, ...]:
    del context, parameter
    return tuple(part for part in (value or "").split(",") if part)


@click.command()
@options.ATLAS
@options.LAYER
@options.UNIT
@options.keep(0.01)
@options.CRITERION
@options.IMAGES
@options.GROUP
@click.option(
    "--against",
    metavar="WHAT",
    help="Draw another circuit over it, chosen alike: of a unit of the same layer, by number or "
    "name; of another layer's, LAYER/UNIT; or of the unit's own images, group:NUMBER.",
)
@click.option(
    "--side",
    type=click.Choice(["left", "right"]),
    help="With --against: draw this one alone, where both over each other would lie.",
)
@click.option(
    "--edges",
    type=int,
    default=EDGES,
    show_default=True,
    help="How many kernels to draw, at most: whole paths, those that carry the most of the "
    "response.",
)
@click.option(
    "--share",
    type=float,
    default=1.0,
    show_default=True,
    help="Draw no more kernels than it takes to carry this share of the response.",
)
@click.option(
    "--features/--no-features",
    default=True,
    show_default=True,
    help="Feature visualizations in the nodes of channels that have one, or crops alone.",
)
@click.option(
    "--node-images",
    "node_kind",
    type=click.Choice(get_args(NodeKind)),
    help="What nodes of a figure show; where not given: features where there are any, else crops.",
)
@click.option(
    "--nodes",
    type=float,
    default=1.0,
    show_default=True,
    help=f"Size of a figure's nodes, {SMALLEST} to {LARGEST:g}.",
)
@click.option(
    "--kernels",
    type=float,
    default=1.0,
    show_default=True,
    help=f"Width of a figure's lines, {SMALLEST} to {LARGEST:g}.",
)
@click.option(
    "--fraction", type=float, help="Kept fraction that a figure shows; the largest if not given."
)
@click.option(
    "--hide",
    metavar="PARTS",
    callback=_parts,
    help=f"Kernels that a figure leaves out, such as inhibition,unknown: {', '.join(PARTS)}.",
)
@click.option(
    "--select",
    metavar="ITEM",
    help="Draw in a figure the paths of one item alone: CONVOLUTION:CHANNEL or CONVOLUTION:OUT:IN.",
)
@click.option(
    "--width-mm",
    type=float,
    default=WIDTH_MM,
    show_default=True,
    help="Width of a figure on paper; its text has 7 points or more there.",
)
@click.option(
    "--output",
    metavar="FILE",
    required=True,
    help="File to write: a figure as .svg or .png, or .html to look around in.",
)
@options.JSON
@options.debug
def diagram(
    atlas: str,
    layer: str,
    unit: str,
    keep: float,
    criterion: str | None,
    images: tuple[int, ...] | None,
    group: int | None,
    against: str | None,
    side: str | None,
    edges: int,
    share: float,
    features: bool,
    node_kind: NodeKind | None,
    nodes: float,
    kernels: float,
    fraction: float | None,
    hide: tuple[str, ...],
    select: str | None,
    width_mm: float,
    output: str,
    as_json: bool,
) -> None:
    """Draw the circuit of a UNIT of LAYER: channels by depth, kernels between them.

    Only kernels on a path from the image to the unit are drawn; what is printed says how many of
    how many. A figure is what a page shows in the same state.
    """
    opened = Atlas.open(atlas)
    own = opened.layer(layer)
    circuit = circuit_of(own.unit(unit), keep=keep, criterion=criterion, images=images, group=group)
    other = (
        None
        if against is None
        else _other(opened, own, unit, against, keep=keep, criterion=criterion)
    )
    drawn = circuit.diagram(
        against=other,
        side="left" if side == "left" else "right" if side == "right" else None,
        edges=edges,
        share=share,
        features=features,
    )
    look = Look(fraction, node_kind, nodes, kernels, hide, select)
    if path_of(output).suffix.lower() in (".svg", ".png"):
        written = drawn.figure(width_mm=width_mm, look=look).save(output)
    else:
        if look != Look():
            raise QueryError(
                f"{output!r} is no figure, and only in a figure is it chosen what is seen: end its "
                "name with '.svg' or '.png'"
            )
        written = drawn.save(output)
    if as_json:
        click.echo(json_output.to_json({"file": str(written), "counts": drawn.content.counts}))
    else:
        click.echo(f"{repr(drawn)[1:-1]}\nwritten to {written}")


def _other(
    atlas: Atlas, layer: Layer, unit: str, named: str, *, keep: float, criterion: str | None
) -> Circuit:
    """The circuit that is drawn over it; QueryError where there is none of that name."""
    if named.startswith(_GROUP):
        number = named.removeprefix(_GROUP)
        if not number.isdecimal():
            raise QueryError(f"--against {named!r} names no group: give group:0, group:1, ...")
        one, group = layer.unit(unit), int(number)
    else:
        of_layer, _, name = named.rpartition("/")
        one, group = (atlas.layer(of_layer) if of_layer else layer).unit(name), None
    return circuit_of(one, keep=keep, criterion=criterion, images=None, group=group)
