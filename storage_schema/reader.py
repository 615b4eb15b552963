"""Store -> arrays and tables, read-only. Only what a commit record names is read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.storage_schema import fragments, labels, layout, unit_tables
from circuit_atlas.storage_schema.at_once import at_once
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.directions import Direction, Directions
from circuit_atlas.storage_schema.errors import CorruptError, NotAnAtlasError, QueryError
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.laid_out_layers import LaidOutLayers
from circuit_atlas.storage_schema.layer_listing import (
    LayerListing,
    list_committed,
    list_layer,
)
from circuit_atlas.storage_schema.layer_scan import LayerScan
from circuit_atlas.storage_schema.network_tables import CHANNELS
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.pixels import PixelsRecord
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.references import References
from circuit_atlas.storage_schema.response_tables import DISTRIBUTIONS
from circuit_atlas.storage_schema.sealed import POLYSEMANTICITY
from circuit_atlas.storage_schema.stored_commits import StoredCommits
from circuit_atlas.storage_schema.stored_images import StoredImages
from circuit_atlas.storage_schema.stored_networks import StoredNetworks
from circuit_atlas.storage_schema.stored_responses import StoredResponses
from circuit_atlas.storage_schema.stored_visualizations import StoredVisualizations
from circuit_atlas.storage_schema.table import Table
from circuit_atlas.storage_schema.template import Plan
from circuit_atlas.storage_schema.unit_arrays import UnitArrays
from circuit_atlas.storage_schema.version import NETWORK_SINCE
from circuit_atlas.storage_schema.visualization_states import (
    Listing,
    VisualizationState,
    listed,
    states,
)
from circuit_atlas.storage_schema.visualizations import FeatureRecord
from circuit_atlas.storage_schema.wiring import Wiring


class Reader:
    """Reads an atlas, finished or still being built.

    Commits, layers and images never change once stored and are kept, a commit until a listing lacks
    it; what is listed (layers, commits, failures, plans) is listed anew at each call. Of a whole
    layer the newest sealed generation is read, and of the units committed since what each of them
    stored: the answers are the same as without it, but for `polysemanticity`, which it alone has.
    """

    def __init__(self, location: str | Path | Objects) -> None:
        """Open a folder, a URL or an opened store.

        Raises:
            NotAnAtlasError: there is no atlas.
            SchemaError: the atlas is of a newer schema.
            CorruptError: its header is altered.
        """
        self.objects = location if isinstance(location, Objects) else open_store(location)
        try:
            data = self.objects.get(layout.HEADER)
        except FileNotFoundError:
            raise NotAnAtlasError(
                f"{self.objects.location} holds no atlas (there is no {layout.HEADER}): give the "
                "store that `circuit-atlas build` wrote"
            ) from None
        self.header = AtlasHeader.from_json(data, location=self.objects.at(layout.HEADER))
        self._layers = LaidOutLayers(self.objects, self.header)
        self._arrays = UnitArrays(self.objects, self.header)
        self._scan = LayerScan(self.objects, self._arrays)
        self._commits = StoredCommits(self.objects, self._scan)
        self._image_set = StoredImages(self.objects, self.header.schema, self._get)
        self._references = References(self.header, self._image_set.count)
        self._networks = StoredNetworks(self.objects, self._get)
        self._responses = StoredResponses(self.objects, self.header)
        self._visualizations = StoredVisualizations(self.objects)

    def images(self, *, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the images table, see `StoredImages.table`."""
        return self._image_set.table(columns=columns)

    def pixels(self) -> PixelsRecord:
        """Return where the images' pixels lie, see `StoredImages.pixels`."""
        return self._image_set.pixels()

    def jpegs(self, images: Iterable[int]) -> dict[int, bytes | None]:
        """Return some images to look at, see `StoredImages.jpegs`."""
        return self._image_set.jpegs(images)

    def layers(self) -> tuple[str, ...]:
        """Return the names of the layers that are laid out, see `LaidOutLayers.names`."""
        return self._layers.names()

    def layer(self, name: str) -> LayerIndex:
        """Return a layer's units and kernel axis, see `LaidOutLayers.index`."""
        return self._layers.index(name)

    def plan(self) -> Plan:
        """Return all layers and units that any build asked for, see `LaidOutLayers.plan`."""
        return self._layers.plan()

    def direction(self, layer: str, unit: int) -> Direction | None:
        """Return one direction of a layer; None for a channel. See `StoredNetworks.direction`."""
        return self._networks.direction(self.layer(layer), unit)

    def directions(self, layer: str) -> Directions:
        """Return the directions of a layer that came from a file, see
        `StoredNetworks.directions`."""
        return self._networks.directions(self.layer(layer))

    def labels(self, layer: str) -> dict[int, str]:
        """Return what the units of a layer stand for, by number, as far as a build said so: one
        listing. QueryError where the atlas has no such layer."""
        self.layer(layer)
        return labels.read(self.objects, layer)

    def commit(self, layer: str, unit: int) -> Commit | None:
        """Return one unit's commit record, or None where the unit is not done, see
        `StoredCommits.one`; QueryError where the atlas has no such layer or unit."""
        self.layer(layer).unit(unit)
        return self._commits.one(layer, unit)

    def commits(self, layer: str) -> dict[int, Commit]:
        """Return the commit record of every unit that is done or dead, by unit, see
        `StoredCommits.of_layer`; QueryError where the atlas has no such layer."""
        self.layer(layer)
        return self._commits.of_layer(layer)

    def listings(self) -> tuple[LayerListing, ...]:
        """Return which units of each layer are done, dead and failed, by the layers' names: three
        listings a layer, several at once, and no record read."""
        return tuple(at_once(partial(list_layer, self.objects, self.header), self.layers()))

    def failures(self, layer: str, listing: LayerListing | None = None) -> dict[int, FailureRecord]:
        """Return the latest failure of every unit that has one and no commit, by unit; `listing`:
        of the layer, as `listings` gave it just now, which saves asking anew."""
        if listing is None:
            self.layer(layer)
        return self._commits.failures(layer, listing)

    def scores(self, commit: Commit, criterion: str) -> NDArray[np.float32]:
        """Return a unit's scores, see `UnitArrays.scores`."""
        return self._arrays.scores(self.layer(commit.layer), commit, criterion)

    def levels(self, commit: Commit, criterion: str) -> NDArray[np.uint8]:
        """Tell how many sparsity levels' circuits hold each kernel. Shape: (kernels,).

        Where the circuits are not nested a level does not tell which they are; use `mask`.
        """
        return self._arrays.circuits(self.layer(commit.layer), commit, criterion).levels()

    def mask(self, commit: Commit, criterion: str, level: int) -> NDArray[np.bool_]:
        """Return the circuit of one sparsity level, an index of the header's `fractions`.

        Shape: (kernels,). QueryError where there is no such level.
        """
        self._require_level(level)
        return self._arrays.circuits(self.layer(commit.layer), commit, criterion).mask(level)

    def masks(
        self, layer: str, criterion: str, level: int, *, units: Collection[int] | None = None
    ) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """Give unit and circuit of one sparsity level, as of `mask`, of all units of a layer that
        are done, in no order. Takes a fraction of the time of a `mask` each where the layer is
        sealed.

        Args:
            layer: its name.
            criterion: one of the header's.
            level: an index of the header's `fractions`.
            units: only of these, where they are done.

        Raises:
            QueryError: there is no such layer, criterion or level.
        """
        self._require_level(level)
        if criterion not in self.header.criteria:
            names = ", ".join(self.header.criteria)
            raise QueryError(f"there is no criterion {criterion!r}: choose from {names}")
        done = {
            unit: commit
            for unit, commit in self.commits(layer).items()
            if commit.state == "done" and (units is None or unit in units)
        }
        circuits = self._scan.circuits(self.layer(layer), done, criterion)
        return ((unit, of_unit.mask(level)) for unit, of_unit in circuits)

    def image_scores(self, commit: Commit, criterion: str) -> NDArray[np.float32]:
        """Return a unit's scores on each top image, see `UnitArrays.image_scores`."""
        return self._arrays.image_scores(self.layer(commit.layer), commit, criterion)

    def stability(self, commit: Commit, criterion: str) -> NDArray[np.uint8]:
        """Tell in how many draws each kernel is in a circuit, see `UnitArrays.stability`."""
        return self._arrays.stability(self.layer(commit.layer), commit, criterion)

    def group_levels(self, commit: Commit, criterion: str) -> NDArray[np.uint8]:
        """Tell how many sparsity levels' circuits of each sub-feature group hold each kernel, see
        `UnitArrays.group_levels`; QueryError for an old atlas, too."""
        self._require(unit_tables.GROUPS.name)
        return self._arrays.group_levels(self.layer(commit.layer), commit, criterion)

    def contribution(self, commit: Commit) -> NDArray[np.float32]:
        """Return the signed contribution of each kernel to the response, see
        `UnitArrays.contribution`; QueryError for an old atlas, too."""
        self._require("contributions")
        return self._arrays.contribution(self.layer(commit.layer), commit)

    def response_maps(self, commit: Commit) -> NDArray[np.float32]:
        """Return the unit's output on each of its top images, see `UnitArrays.response_maps`;
        QueryError for an old atlas, too."""
        self._require("response maps")
        return self._arrays.response_maps(self.layer(commit.layer), commit)

    def responses(self, commit: Commit) -> pa.Table:
        """Tell what each image does to the unit: `unit_tables.RESPONSES`."""
        rows = self._rows(commit, unit_tables.RESPONSES)
        self._references.check_responses(rows, commit, what=f"the table responses of {commit.key}")
        return rows

    def distribution(self, layer: str, unit: int) -> dict[str, Any] | None:
        """Return what all images do to a unit, see `StoredResponses.distribution`."""
        row = self._responses.distribution(layer, unit)
        if row is not None:
            rows = pa.Table.from_pylist([row], schema=DISTRIBUTIONS.schema)
            self._references.check(rows, DISTRIBUTIONS.columns, what=f"responses to unit {unit}")
        return row

    def faithfulness(self, commit: Commit) -> pa.Table:
        """Tell how well its circuits preserve the response: `unit_tables.FAITHFULNESS`."""
        return self._rows(commit, unit_tables.FAITHFULNESS)

    def subfeatures(self, commit: Commit) -> pa.Table:
        """Tell the same of the circuits of single images: `unit_tables.SUBFEATURES`."""
        return self._rows(commit, unit_tables.SUBFEATURES)

    def groups(self, commit: Commit) -> pa.Table:
        """Return the sub-feature groups of its top images: `unit_tables.GROUPS`; QueryError
        for an old atlas."""
        self._require(unit_tables.GROUPS.name)
        return self._rows(commit, unit_tables.GROUPS)

    def selectivity(self, commit: Commit) -> pa.Table:
        """Tell what the groups' circuits preserve of its top images: `unit_tables.SELECTIVITY`,
        empty where there is one group. QueryError for an old atlas."""
        self._require(unit_tables.SELECTIVITY.name)
        return self._rows(commit, unit_tables.SELECTIVITY)

    def image_sums(self, commit: Commit) -> pa.Table | None:
        """Return the sums that r over any choice of images is made of: `unit_tables.IMAGE_SUMS`;
        None where the unit was built without them."""
        rows = self._rows(commit, unit_tables.IMAGE_SUMS)
        return rows if rows.num_rows else None

    def wiring(self, layer: str) -> Wiring:
        """Tell which channels of the layer's network feed which, see `StoredNetworks.wiring`;
        QueryError for an old atlas, too, as of the two that follow."""
        self._require("wiring")
        return self._networks.wiring(self.layer(layer))

    def weights(self, layer: str) -> tuple[NDArray[np.float32] | None, ...]:
        """Return the weights of each convolution of the axis, see `StoredNetworks.weights`."""
        self._require("weights")
        return self._networks.weights(self.layer(layer))

    def channels(self, layer: str) -> pa.Table:
        """Tell where each convolution's channels are largest, see `StoredNetworks.channels`."""
        self._require("channels")
        rows = self._networks.channels(self.layer(layer))
        self._references.check(rows, CHANNELS.columns, what=f"the table of channels of {layer}")
        return rows

    def feature_variants(self, layer: str) -> dict[int, tuple[str, ...]]:
        """Return the names of visualizations, see `StoredVisualizations.variants`."""
        return self._visualizations.variants(layer)

    def feature_visualizations(self, layer: str, unit: int) -> tuple[FeatureRecord, ...]:
        """Return every visualization of a unit, see `StoredVisualizations.of_unit`."""
        return self._visualizations.of_unit(layer, unit)

    def feature_visualization(self, layer: str, unit: int, variant: str) -> FeatureRecord | None:
        """Return one visualization by its name, see `StoredVisualizations.one`."""
        return self._visualizations.one(layer, unit, variant)

    def visualization_image(self, record: FeatureRecord) -> bytes:
        """Return the image, a PNG, see `StoredVisualizations.image`."""
        return self._visualizations.image(record)

    def visualization_states(self, found: Listing | None = None) -> tuple[VisualizationState, ...]:
        """Tell of every unit and channel that a run was asked to make visualizations of, or that
        has some: which were asked for, which are there, and why the others failed.

        `found`: what the store has, where it was listed just now.
        """
        names = self.layers()
        return states(
            self.objects,
            found or listed(self.objects),
            stored=lambda layer: list_committed(self.objects, layer) if layer in names else (),
        )

    def table(
        self,
        layer: str,
        name: str,
        *,
        units: Collection[int] | None = None,
        columns: Sequence[str] | None = None,
        commits: Mapping[int, Commit] | None = None,
    ) -> pa.Table:
        """Return one table over all units of a layer, with a `unit` column first.

        Args:
            layer: its name.
            name: of one of `unit_tables.FRAGMENTS`.
            units: only of these, where they are stored.
            columns: only these, after `unit`.
            commits: of the layer, as `commits` gave them just now, which saves a listing.

        Raises:
            QueryError: there is no such layer or table, or none in an old atlas.
        """
        table = next((table for table in unit_tables.FRAGMENTS if table.name == name), None)
        if table is None:
            known = ", ".join(table.name for table in unit_tables.FRAGMENTS)
            raise QueryError(f"there is no table {name!r}: choose from {known}")
        if table in (unit_tables.GROUPS, unit_tables.SELECTIVITY):
            self._require(name)
        if commits is None:
            commits = self.commits(layer)
        if units is not None:
            commits = {unit: commit for unit, commit in commits.items() if unit in units}
        names = None if columns is None else table.stored_names(columns)
        rows = table.public(self._scan.rows(layer, commits, table, columns=names))
        self._references.check(rows, table.columns, what=f"the table {name} of layer {layer}")
        return rows

    def polysemanticity(self, layer: str, commits: Mapping[int, Commit]) -> pa.Table:
        """Return what the newest sealed generation says of some units: unit, then
        `sealed.POLYSEMANTICITY`, by ascending unit. Units without a row are dead, or not sealed as
        their commits have them; none has one where the generation is older than the table.
        CorruptError where it is altered."""
        return self._scan.sealed_rows(layer, commits, POLYSEMANTICITY)

    def _rows(self, commit: Commit, table: Table) -> pa.Table:
        """One unit's table, under its public names."""
        rows = table.public(fragments.read(self.objects, [commit], table)[0])
        self._references.check(rows, table.columns, what=f"the table {table.name} of {commit.key}")
        return rows

    def _require_level(self, level: int) -> None:
        """QueryError where there is no such sparsity level."""
        levels = len(self.header.fractions)
        if not 0 <= level < levels:
            raise QueryError(f"there is no sparsity level {level}: levels are 0 to {levels - 1}")

    def _require(self, what: str) -> None:
        """QueryError where the atlas is older than some things are."""
        if self.header.schema < NETWORK_SINCE:
            raise QueryError(
                f"{self.objects.location} was built by an older circuit-atlas and has no {what}: "
                "build it again into another store"
            )

    def _get(self, path: str) -> bytes:
        try:
            return self.objects.get(path)
        except FileNotFoundError as error:
            raise CorruptError(
                f"{error}: the build that laid the atlas out was cut off, or the file was removed; "
                "run the build again"
            ) from error
