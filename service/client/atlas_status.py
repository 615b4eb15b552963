"""How far an atlas is, looked at once: what `circuit-atlas status` tells."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.service.analysis.units import layer_counts
from circuit_atlas.service.client import visualization_status
from circuit_atlas.service.client.next_steps import all_left
from circuit_atlas.storage_schema.reader import Reader


@dataclass(frozen=True)
class UnitFailure:
    """Tells why a unit failed, by the latest attempt at it: its layer, number and name, the kind of
    the error and its message."""

    layer: str
    unit: int
    name: str
    kind: str
    message: str


@dataclass(frozen=True)
class AtlasStatus:
    """Holds what is done, failed and missing.

    Attributes:
        location: of the atlas.
        layers: how far each layer is, see `Atlas.status`.
        failures: of units.
        images_left_out: images that cannot be read.
        features: how far visualizations are, see `Atlas.visualization_status`.
        visualization_failures: see `Atlas.visualization_failures`.
        to_go_on: what is left, and what to run, a line each.
    """

    location: str
    layers: pa.Table
    failures: tuple[UnitFailure, ...]
    images_left_out: int
    features: pa.Table
    visualization_failures: pa.Table
    to_go_on: tuple[str, ...]

    @classmethod
    def read(cls, reader: Reader) -> AtlasStatus:
        """Look at an atlas: listings, the plans, and the record of each failure. Of what is
        committed nothing is read, so that it can be asked again and again of a large atlas."""
        listings = reader.listings()
        layers = layer_counts(reader, listings)
        failures = tuple(
            UnitFailure(
                listing.layer,
                number,
                reader.layer(listing.layer).unit(number).name,
                failure.kind,
                failure.message,
            )
            for listing in listings
            for number, failure in reader.failures(listing.layer, listing).items()
        )
        states = reader.visualization_states()
        left_out = pc.equal(reader.images(columns=["split"])["split"], "left_out")
        return cls(
            location=reader.objects.location,
            layers=layers,
            failures=failures,
            images_left_out=pc.sum(left_out).as_py() or 0,
            features=visualization_status.by_layer(states),
            visualization_failures=visualization_status.failures(states, reader),
            to_go_on=tuple(all_left(layers, states, model=reader.header.model)),
        )

    @property
    def failed(self) -> bool:
        """Tell whether a unit or its visualizations failed."""
        return any((*self.layers["failed"].to_pylist(), *self.features["failed"].to_pylist()))
