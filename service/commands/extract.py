"""`circuit-atlas extract` writes one circuit as a network of its own."""

from __future__ import annotations

import click

from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.commands import json_output, options
from circuit_atlas.service.commands.chosen_circuit import circuit_of


@click.command()
@options.ATLAS
@options.LAYER
@options.UNIT
@options.keep(0.1)
@options.CRITERION
@options.IMAGES
@options.GROUP
@click.option(
    "--weights",
    metavar="FILE",
    help="The model's weights, where the atlas was built with those of a file.",
)
@click.option(
    "--trust-code",
    is_flag=True,
    help="Run the function that ATLAS names as its model: only where you know who made ATLAS.",
)
@click.option(
    "--output",
    metavar="FILE",
    required=True,
    help="File to write: .onnx for ONNX runtimes, .pt2 for torch.export.load.",
)
@options.JSON
@options.debug
def extract(
    atlas: str,
    layer: str,
    unit: str,
    keep: float,
    criterion: str | None,
    images: tuple[int, ...] | None,
    group: int | None,
    weights: str | None,
    trust_code: bool,
    output: str,
    as_json: bool,
) -> None:
    """Write the circuit of a UNIT of LAYER as a small network of its own.

    It computes the unit's output in the circuit, with zero ablation, and nothing else. Prints its
    receipt: kernels, parameters, multiply-adds, time, and the largest difference from the masked
    network, measured on noise. Loads the model that ATLAS names, so it needs what a build needs,
    and for .onnx circuit-atlas[onnx]; a function of your own needs --trust-code. With mean
    ablation, circuits are extracted from Python.
    """
    # Only here: `--help` and other commands do without torch.
    from circuit_atlas.service.compute.atlas_model import load_atlas_model
    from circuit_atlas.service.compute.extracted_circuit import file_of_circuit

    file_of_circuit(output)

    one = Atlas.open(atlas).layer(layer).unit(unit)
    circuit = circuit_of(one, keep=keep, criterion=criterion, images=images, group=group)
    reader = circuit.origins[0].reader
    model = load_atlas_model(reader, weights=weights, trust_code=trust_code)
    extracted = circuit.extract(model)
    written = extracted.save(output)
    if "zero" not in reader.header.ablations:
        click.echo(
            "note: dropped kernels are zero here, and their means in all that the atlas measured: "
            'circuit.extract(model, ablation="mean", images=...) in Python takes the scoring '
            "images for them",
            err=True,
        )
    if as_json:
        told = {"file": str(written), "receipt": extracted.receipt.to_dict()}
        click.echo(json_output.to_json(told))
    else:
        click.echo(f"{extracted.receipt}\nwritten to {written}")
