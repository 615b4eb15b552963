"""`circuit-atlas compact` writes whole layers in few files; old ones are deleted by another."""

from __future__ import annotations

from dataclasses import dataclass

import click

from circuit_atlas.service.circuit.display import size
from circuit_atlas.service.commands import exits, json_output, options
from circuit_atlas.storage_schema.compaction import compact as write_generation
from circuit_atlas.storage_schema.old_generations import YOUNG_S, OldGeneration, delete_old
from circuit_atlas.storage_schema.reader import Reader

_HOUR_S = 3600.0


@dataclass(frozen=True)
class LayerCompacted:
    """Says what became of a layer; `generation` is None where its newest one has all of its
    units."""

    layer: str
    generation: str | None
    units: int
    size_bytes: int


@click.command()
@options.ATLAS
@click.option(
    "--anew",
    is_flag=True,
    help="Write every layer, also those whose newest generation has all of their units: after "
    "`verify` found one altered.",
)
@options.JSON
@options.debug
def compact(atlas: str, anew: bool, as_json: bool) -> None:
    """Write the layers of ATLAS once more, in a few large files, so that they are read fast.

    Tables, commit records and masks of all units that are stored by now become a generation: a file
    each, read in place of a small one for each unit. A build does this itself for a layer whose
    units are all stored; this command does it for the others, and for an atlas that was copied or
    is older. Nothing that is there is changed, readers and builds go on meanwhile, and the same
    command goes on where it was stopped.
    """
    exits.resumable()
    reader = Reader(atlas)
    written = []
    for name in reader.layers():
        manifest = write_generation(reader.objects, reader.header, reader.layer(name), anew=anew)
        if manifest is None:
            written.append(LayerCompacted(name, None, 0, 0))
        else:
            written.append(
                LayerCompacted(name, manifest.generation, manifest.units, manifest.size_bytes)
            )
        if not as_json:
            click.echo(_compacted(written[-1]))
    if as_json:
        click.echo(json_output.to_json({"layers": written}))
    elif not written:
        click.echo(f"{atlas} has no layers yet")


def _compacted(layer: LayerCompacted) -> str:
    if layer.generation is None:
        return f"{layer.layer}: nothing to do"
    units = f"{layer.units} unit{'' if layer.units == 1 else 's'}"
    return f"{layer.layer}: {units} in generation {layer.generation}, {size(layer.size_bytes)}"


@click.command("delete-old-generations")
@options.ATLAS
@options.older_than("those", default=YOUNG_S / _HOUR_S)
@click.option(
    "--force",
    is_flag=True,
    help="Delete them whatever their age. See to it that no build and no compact is running.",
)
@options.JSON
@options.debug
def delete_old_generations(atlas: str, hours: float, force: bool, as_json: bool) -> None:
    """Delete what `compact` wrote of ATLAS and newer generations replaced.

    Deletes the generations of each layer that came before its newest whole one, and what is left
    of those whose writing was cut off; never the newest whole one, and nothing that they were made
    of. Keeps the young ones: a reader may be in the midst of an old generation, which counts its
    age from when it was replaced, and what seems to be left over may be in the writing. The same
    command goes on where it was stopped.
    """
    exits.resumable()
    reader = Reader(atlas)
    deleted: list[OldGeneration] = []
    kept: list[OldGeneration] = []
    for name in reader.layers():
        found = delete_old(reader.objects, name, older_than_s=0 if force else hours * _HOUR_S)
        for old, gone in found:
            (deleted if gone else kept).append(old)
            if gone and not as_json:
                what = "generation" if old.whole else "what was left of generation"
                click.echo(
                    f"{old.layer}: {what} {old.generation} is deleted, {size(old.size_bytes)}"
                )
    if as_json:
        click.echo(json_output.to_json({"deleted": deleted, "kept": kept}))
        return
    total = sum(old.size_bytes for old in deleted)
    more = f"; {len(kept)} younger than {hours:g} hours stay" if kept else ""
    click.echo(f"{atlas}: {len(deleted)} deleted, {size(total)}{more}")
