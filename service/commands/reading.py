"""Commands that look into an atlas beside `show`: `find`, `open` and `export`."""

from __future__ import annotations

from pathlib import Path

import click

from circuit_atlas.service.circuit.display import text_table
from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.commands import export as exporting
from circuit_atlas.service.commands import json_output, options, server, terminal


@click.command()
@options.ATLAS
@click.argument("text")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Matches, at most."
)
@options.JSON
@options.debug
def find(atlas: str, text: str, limit: int, as_json: bool) -> None:
    """Find what has a name like TEXT in ATLAS, whatever its case.

    Layers, units by number or by what they stand for, directions, labels of images and images by
    file name; the same text first, then its start, then any part of it.
    """
    found = Atlas.open(atlas).search(text, limit=limit)
    if as_json:
        click.echo(json_output.to_json(found))
    elif not len(found):
        click.echo(f"nothing in {atlas} has a name like {text!r}")
    else:
        click.echo(text_table(found.to_arrow(), width=terminal.width()))


@click.command("open")
@options.ATLAS
@options.JSON
@options.debug
def open_(atlas: str, as_json: bool) -> None:
    """Show ATLAS in a browser: serve it to this machine, at a free port.

    Ctrl-C ends it. `serve` has more to choose.
    """

    def started(address: str) -> None:
        told = {"address": address, "atlas": atlas}
        text = f"{atlas} is at {address} (Ctrl-C stops)"
        click.echo(json_output.to_json(told) if as_json else text)

    server.serve(
        atlas,
        host="127.0.0.1",
        port=0,
        on_start=started,
        open_browser=True,
        allow_hosts=(),
    )


@click.command()
@options.ATLAS
@options.LAYER
@click.argument("what", type=click.Choice(exporting.KINDS))
@click.argument("unit", required=False)
@options.keep(0.1)
@options.CRITERION
@click.option(
    "--output",
    metavar="FILE",
    required=True,
    help="File to write: .csv or .parquet for a table, .npz for masks and scores, .svg, .html or "
    ".png for a figure.",
)
@options.JSON
@options.debug
def export(
    atlas: str,
    layer: str,
    what: str,
    unit: str | None,
    keep: float,
    criterion: str | None,
    output: str,
    as_json: bool,
) -> None:
    """Write something of LAYER, or of one UNIT of it, as a file that other programs read.

    WHAT is a table (units, summary, faithfulness, responses, subfeatures; kernels and top-images,
    of a unit), masks or scores (of a unit: its circuit as a mask for each parameter; of a layer:
    an array of units and kernels, the kernels' names with it), or figure (the circuit of a unit).
    --keep and --criterion say of which circuit.
    """
    one = Atlas.open(atlas).layer(layer)
    written = exporting.export(
        one, what, unit=unit, keep=keep, criterion=criterion, target=Path(output)
    )
    click.echo(json_output.to_json({"file": str(written)}) if as_json else f"written to {written}")
