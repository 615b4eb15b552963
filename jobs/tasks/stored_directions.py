"""A layer's directions, fixed by its first build: they decide the kernel axis of all its units."""

from __future__ import annotations

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.layers import DirectionsFile, LayerSpec
from circuit_atlas.storage_schema import layer_paths
from circuit_atlas.storage_schema.at_once import at_once
from circuit_atlas.storage_schema.errors import NotAnAtlasError
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader

STORED = "atlas:"
"""Names the directions that the atlas has, in place of a file of them."""


def with_stored_directions(spec: BuildSpec) -> BuildSpec:
    """Gives each layer that names no directions those that the atlas has stored for it.

    Raises StoreError where there is an atlas that cannot be read.
    """
    try:
        reader = Reader(open_store(spec.run.store, patience_s=spec.run.store_patience_s))
    except NotAnAtlasError:
        return spec
    if reader.header.model != spec.model.reference:
        return spec  # another model's directions say nothing; the build will be refused
    names = [layer.name for layer in spec.layers]
    # Not `reader.layers()`: a layer whose index a repair set aside is laid out again.
    there = at_once(lambda name: reader.objects.exists(layer_paths.layer_index(name)), names)
    stored = {name for name, laid_out in zip(names, there, strict=True) if laid_out}
    at_once(reader.layer, stored)  # the reader keeps them
    layers = tuple(
        _completed(layer, reader) if layer.name in stored and not layer.directions else layer
        for layer in spec.layers
    )
    return spec.model_copy(update={"layers": layers})


def _completed(layer: LayerSpec, reader: Reader) -> LayerSpec:
    index = reader.layer(layer.name)
    directions: DirectionsFile | dict[str, tuple[float, ...]] = {
        unit.name: unit.direction for unit in index.units if unit.direction is not None
    }
    if index.directions is not None:
        # Those that an earlier build asked for are its plan's; this one asks for no more of them.
        activation = index.directions.activation
        directions = DirectionsFile(file=STORED, activation=activation, rows=())
    return layer.model_copy(update={"directions": directions})
