"""`circuit-atlas transfer` tests circuits of one half of the images on the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click
import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.service.circuit.display import text_table
from circuit_atlas.service.commands import json_output, options
from circuit_atlas.storage_schema.ranking import KEEP

if TYPE_CHECKING:
    from circuit_atlas.jobs.spec.circuits import Criterion

_R = ("chosen", "tested")


@click.command()
@options.SPEC
@options.LAYER
@click.argument("unit", type=int)
@options.keep(KEEP)
@options.CRITERION
@click.option(
    "--numbers",
    metavar="NUMBERS",
    callback=options.whole_numbers,
    help="How many images choose a circuit, such as 1,5,20, each at most half of them. Where not "
    "given: 1, 2, 4, ... and half.",
)
@click.option(
    "--repeats", type=int, metavar="NUMBER", help="How often to split the images. Default: 5."
)
@options.JSON
@options.debug
def transfer(
    spec: Path,
    layer: str,
    unit: int,
    keep: float,
    criterion: str | None,
    numbers: tuple[int, ...] | None,
    repeats: int | None,
    as_json: bool,
) -> None:
    """Test circuits of one half of SPEC's scoring images on the other half.

    UNIT is a channel of LAYER, or a direction, which follow the channels. The first 1, 2, 4, ...
    images of each half choose a circuit, by a criterion with scores of single images. Prints by
    their number the mean r on the images that chose and on the other half, and the IoU of the
    circuits that as many images of either half choose. Loads model and images; no atlas is needed.
    """
    # Only here: `--help` and other commands do without torch.
    from circuit_atlas.jobs.tasks.transfer import REPEATS
    from circuit_atlas.service.compute.spec import load_spec
    from circuit_atlas.service.compute.transfer import transfer_in

    loaded = load_spec(spec)
    chosen = loaded.circuits.criteria[0] if criterion is None else cast("Criterion", criterion)
    rows = transfer_in(
        loaded,
        layer=layer,
        unit=unit,
        criterion=chosen,
        keep=keep,
        numbers=numbers,
        repeats=REPEATS if repeats is None else repeats,
    )
    means = by_number(rows)
    if as_json:
        told = {"layer": layer, "unit": unit, "criterion": chosen, "keep": keep}
        click.echo(json_output.to_json({**told, "by_images": means, "rows": rows}))
        return
    click.echo(
        f"{layer}/{unit}: circuits that keep {keep:g} by {chosen}, zero ablation\n"
        "  images: how many of one half chose the circuit\n"
        "  chosen, tested: mean r on these images, and on the other half\n"
        "  iou: mean IoU with the circuit that as many of the other half choose\n\n"
        f"{text_table(means)}"
    )


def by_number(rows: pa.Table) -> pa.Table:
    """Average over the circuits that as many images chose: images, circuits, kernels, and the means
    of chosen, tested and iou; an undefined r counts as 0."""
    known = rows
    for name in _R:
        at = known.column_names.index(name)
        known = known.set_column(at, name, pc.fill_null(known[name], 0.0))
    means = [(name, "mean") for name in (*_R, "iou")]
    grouped = known.group_by(["images", "kernels"], use_threads=False)
    found = grouped.aggregate([("repeat", "count"), *means]).sort_by("images")
    names = {"repeat_count": "circuits", **{f"{name}_mean": name for name, _ in means}}
    found = found.rename_columns([names.get(name, name) for name in found.column_names])
    return found.select(["images", "circuits", "kernels", *_R, "iou"])
