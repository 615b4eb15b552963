"""Store -> arrays and tables, read-only. Only what a commit record names is read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.storage_schema import (
    arrays,
    fragments,
    labels,
    layout,
    network_tables,
    responses,
    unit_tables,
    visualizations,
)
from circuit_atlas.storage_schema.at_once import at_once
from circuit_atlas.storage_schema.commit import Commit, Failure
from circuit_atlas.storage_schema.directions import Direction, Directions
from circuit_atlas.storage_schema.errors import CorruptError, NotAnAtlasError, QueryError
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.layer_listing import (
    LayerListing,
    list_committed,
    list_failures,
    list_layer,
)
from circuit_atlas.storage_schema.layer_scan import LayerScan
from circuit_atlas.storage_schema.module_paths import number_order
from circuit_atlas.storage_schema.network import network_object, weights_of
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.pixels import PixelsRecord
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.responses import ResponsesRecord
from circuit_atlas.storage_schema.sealed import POLYSEMANTICITY
from circuit_atlas.storage_schema.stored_images import StoredImages
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
        self._layers: dict[str, LayerIndex] = {}
        self._laid_out: set[str] = set()
        self._commits: dict[tuple[str, int], Commit] = {}
        self._arrays = UnitArrays(self.objects, self.header)
        self._scan = LayerScan(self.objects, self._arrays)
        self._image_set = StoredImages(self.objects, self.header.schema, self._get)
        self._wirings: dict[str, Wiring] = {}
        self._weights: dict[str, tuple[NDArray[np.float32] | None, ...]] = {}
        self._channels: dict[str, pa.Table] = {}
        self._directions: dict[str, Directions] = {}
        self._response_sets: dict[str, dict[str, ResponsesRecord]] = {}
        self._distributions: dict[tuple[str, str], pa.Table] = {}

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
        """Return the names of the layers that are laid out, sorted, numbers in them as numbers."""
        names = [layout.unescape(name) for name in self.objects.names(layout.LAYERS)]
        new = [name for name in names if name not in self._laid_out]
        there = at_once(lambda name: self.objects.exists(layout.layer_index(name)), new)
        self._laid_out.update(name for name, laid_out in zip(new, there, strict=True) if laid_out)
        laid_out = (name for name in names if name in self._laid_out)
        return tuple(sorted(laid_out, key=number_order))

    def layer(self, name: str) -> LayerIndex:
        """Return a layer's units and kernel axis; QueryError where the atlas has no such layer."""
        if name not in self._layers:
            path = layout.layer_index(name)
            try:
                data = self.objects.get(path)
            except FileNotFoundError:
                known = ", ".join(self.layers()) or "none"
                raise QueryError(
                    f"{self.objects.location} has no layer {name!r}: it has {known}"
                ) from None
            self._layers[name] = LayerIndex.from_json(data, location=self.objects.at(path))
        return self._layers[name]

    def direction(self, layer: str, unit: int) -> Direction | None:
        """Return the weights, bias and activation of a direction; None for a channel.

        Raises:
            QueryError: the atlas has no such layer or unit.
            CorruptError: the layer's directions are missing or altered.
        """
        index = self.layer(layer)
        info = index.unit(unit)
        if not index.is_direction(info):
            return None
        if info.direction is not None:
            return Direction(np.asarray(info.direction), 0.0, "none")
        return self.directions(layer).direction(unit - index.channels)

    def directions(self, layer: str) -> Directions:
        """Return the directions of a layer that came from a file; QueryError where none did.

        CorruptError where they are missing or altered.
        """
        index = self.layer(layer)
        if index.directions is None:
            raise QueryError(f"layer {layer!r} has no directions from a file")
        if layer not in self._directions:
            path = layout.directions(layer)
            location = self.objects.at(path)
            table = network_tables.DIRECTIONS.from_parquet(self._get(path), location=location)
            found = Directions.of_table(
                table, index.direction_names, index.directions, location=location
            )
            # Those of one layer at a time: they are thousands.
            self._directions = {layer: found}
        return self._directions[layer]

    def labels(self, layer: str) -> dict[int, str]:
        """Return what the units of a layer stand for, by number, as far as a build said so: one
        listing. QueryError where the atlas has no such layer."""
        self.layer(layer)
        return labels.read(self.objects, layer)

    def plan(self) -> Plan:
        """Return all layers and units that any build asked for."""
        paths = [entry.path for entry in self.objects.list(layout.PLANS)]
        return Plan.union(
            [
                Plan.from_json(data, location=self.objects.at(path))
                for path, data in zip(paths, self.objects.get_listed(paths), strict=True)
            ]
        )

    def commit(self, layer: str, unit: int) -> Commit | None:
        """Return one unit's commit record by its known path, or None where the unit is not done.

        QueryError where the atlas has no such layer or unit.
        """
        self.layer(layer).unit(unit)
        if (layer, unit) not in self._commits:
            path = layout.commit(layer, unit)
            try:
                data = self.objects.get(path)
            except FileNotFoundError:
                return None
            self._commits[layer, unit] = Commit.from_json(data, location=self.objects.at(path))
        return self._commits[layer, unit]

    def commits(self, layer: str) -> dict[int, Commit]:
        """Return the commit record of every unit that is done or dead, by unit: one listing, and
        the records not seen before. QueryError where the atlas has no such layer."""
        self.layer(layer)
        listed = list_committed(self.objects, layer)
        known = self._commits.copy()
        kept = {unit: commit for (name, unit), commit in known.items() if name == layer}
        new = {unit: entry for unit, entry in listed.items() if unit not in kept}
        read = self._scan.commits(layer, new)
        kept.update(read)
        self._commits.update(((layer, unit), commit) for unit, commit in read.items())
        for unit in kept.keys() - listed.keys():
            self._commits.pop((layer, unit), None)  # deleted, to be built again
        return {unit: kept[unit] for unit in listed}

    def listings(self) -> tuple[LayerListing, ...]:
        """Return which units of each layer are done, dead and failed, by the layers' names: three
        listings a layer, several at once, and no record read."""
        return tuple(at_once(partial(list_layer, self.objects, self.header), self.layers()))

    def failures(self, layer: str, listing: LayerListing | None = None) -> dict[int, FailureRecord]:
        """Return the latest failure of every unit that has one and no commit, by unit; `listing`:
        of the layer, as `listings` gave it just now, which saves asking anew."""
        if listing is None:
            self.layer(layer)
            failures = list_failures(self.objects, layer)
        else:
            failures = dict(listing.failures)
        paths = [entry.path for entries in failures.values() for entry in entries]
        records = [
            Failure.from_json(data, location=self.objects.at(path))
            for path, data in zip(paths, self.objects.get_listed(paths), strict=True)
        ]
        latest = {f.record.key.unit: f.record for f in sorted(records, key=lambda f: f.time_s)}
        return dict(sorted(latest.items()))

    def scores(self, commit: Commit, criterion: str) -> NDArray[np.float32]:
        """Return the scores, NaN where a kernel cannot reach the unit. Shape: (runs, kernels)."""
        commit.form(criterion)
        return self._arrays.chunk(self.layer(commit.layer), commit, arrays.SCORE, criterion)

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
        """Return the scores on each top image, by rank. Shape: (top images, kernels).

        To within `quantise.RELATIVE_ERROR`. QueryError where the criterion has none.
        """
        commit.form(criterion)
        if criterion not in self.header.image_criteria:
            raise QueryError(
                f"{criterion!r} has no scores for single images: choose from "
                f"{', '.join(self.header.image_criteria) or 'none'}"
            )
        return self._arrays.image_scores(self.layer(commit.layer), commit, criterion)

    def stability(self, commit: Commit, criterion: str) -> NDArray[np.uint8]:
        """Tell in how many draws each kernel is in the circuit of each kept fraction, of as many as
        the header's `redrawn` says. Shape: (fractions, kernels).

        QueryError where the criterion's circuits were not drawn anew.
        """
        commit.form(criterion)
        known = [name for name, _ in self.header.redrawn]
        if criterion not in known:
            raise QueryError(
                f"no stability of {criterion!r} is stored: choose from {', '.join(known) or 'none'}"
            )
        return self._arrays.chunk(self.layer(commit.layer), commit, arrays.STABILITY, criterion)

    def group_levels(self, commit: Commit, criterion: str) -> NDArray[np.uint8]:
        """Tell how many sparsity levels' circuits of each sub-feature group hold each kernel, by a
        criterion of the header's `grouped`. Shape: (groups, kernels).

        A unit of one group has none: its own circuits are the group's. QueryError where nothing of
        the kind is stored.
        """
        commit.form(criterion)
        if criterion not in self.header.grouped:
            known = ", ".join(self.header.grouped) or "none"
            raise QueryError(
                f"no circuits of groups by {criterion!r} are stored: choose from {known}"
            )
        rows = self.groups(commit).to_pylist()
        count = next(row["groups"] for row in rows if row["criterion"] == criterion)
        if count == 1:
            raise QueryError(
                f"unit {commit.unit} of {commit.layer} has one group by {criterion!r}: no circuits "
                "but the unit's own are stored"
            )
        index = self.layer(commit.layer)
        return self._arrays.chunk(index, commit, arrays.GROUP_LEVEL, criterion)[:count]

    def responses(self, commit: Commit) -> pa.Table:
        """Tell what each image does to the unit: `unit_tables.RESPONSES`."""
        return self._rows(commit, unit_tables.RESPONSES)

    def distribution(self, layer: str, unit: int) -> dict[str, Any] | None:
        """Return what all images do to a unit, a row of `response_tables.DISTRIBUTIONS`. None
        where there is none: in an atlas without `sample`, and before the stage that finds it.

        CorruptError where it is missing or altered.
        """
        key = self._responses_of(layer, unit)
        if key is None:
            return None
        record = self._response_sets[layer][key]
        if (layer, key) not in self._distributions:
            # Those of one layer at a time: units are thousands.
            kept = {at: table for at, table in self._distributions.items() if at[0] == layer}
            read = responses.distributions(self.objects, record)
            self._distributions = {**kept, (layer, key): read}
        table = self._distributions[layer, key]
        row: dict[str, Any] = table.slice(record.units.index(unit), 1).to_pylist()[0]
        return row

    def _responses_of(self, layer: str, unit: int) -> str | None:
        """The set of units whose responses are known that a unit is of."""
        known = self._response_sets.get(layer, {})
        if not any(unit in record.units for record in known.values()):
            known = self._response_sets[layer] = responses.records(self.objects, layer)
        return next((key for key, record in known.items() if unit in record.units), None)

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

    def contribution(self, commit: Commit) -> NDArray[np.float32]:
        """Return the signed contribution of each kernel to the response, NaN where a kernel cannot
        reach the unit. Shape: (kernels,). QueryError for a dead unit or an old atlas."""
        self._require("contributions")
        commit.require_circuit()
        return self._arrays.chunk(self.layer(commit.layer), commit, arrays.CONTRIBUTION)

    def response_maps(self, commit: Commit) -> NDArray[np.float32]:
        """Return the unit's output on each of its top images, by rank. Shape: (top images, height,
        width). QueryError for a dead unit or an old atlas."""
        self._require("response maps")
        commit.require_circuit()
        maps = self._arrays.chunk(self.layer(commit.layer), commit, arrays.RESPONSE_MAP)
        return maps[: commit.top_images]

    def wiring(self, layer: str) -> Wiring:
        """Tell which channels of the layer's network feed which.

        QueryError for an old atlas, or while no worker has begun with the layer; as of the two
        that follow.
        """
        if layer not in self._wirings:
            path = layout.wiring(layer)
            data = self._network(layer, path)
            self._wirings[layer] = Wiring.from_json(data, location=self.objects.at(path))
        return self._wirings[layer]

    def weights(self, layer: str) -> tuple[NDArray[np.float32] | None, ...]:
        """Return the weights of each convolution of the axis, each (out_channels, in_channels per
        group, height, width), None where unknown. Read-only."""
        if layer not in self._weights:
            path = layout.weights(layer)
            data = self._network(layer, path)
            table = network_tables.WEIGHTS.from_parquet(data, location=self.objects.at(path))
            # Those of one layer at a time: of a large network they are many.
            self._weights = {layer: weights_of(table, self.layer(layer))}
        return self._weights[layer]

    def channels(self, layer: str) -> pa.Table:
        """Tell where each convolution's channels are largest: `network_tables.CHANNELS`."""
        if layer not in self._channels:
            path = layout.channels(layer)
            data = self._network(layer, path)
            table = network_tables.CHANNELS.from_parquet(data, location=self.objects.at(path))
            self._channels[layer] = table
        return self._channels[layer]

    def feature_variants(self, layer: str) -> dict[int, tuple[str, ...]]:
        """Return the names of the visualizations that units of a layer have, or channels of a
        convolution of that name, by unit: one listing."""
        return visualizations.variants(self.objects, layer)

    def feature_visualizations(self, layer: str, unit: int) -> tuple[FeatureRecord, ...]:
        """Return every visualization of a unit, or of a channel where `layer` names a convolution:
        those of the whole network first. Empty where there is none."""
        return visualizations.records(self.objects, layer, unit)

    def feature_visualization(self, layer: str, unit: int, variant: str) -> FeatureRecord | None:
        """Return one visualization by its name, such as `positive`, or None."""
        return visualizations.record(self.objects, layer, unit, variant)

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

    def visualization_image(self, record: FeatureRecord) -> bytes:
        """Return the image, a PNG; CorruptError where it is missing or altered."""
        return visualizations.image(self.objects, record)

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
        return table.public(self._scan.rows(layer, commits, table, columns=names))

    def polysemanticity(self, layer: str, commits: Mapping[int, Commit]) -> pa.Table:
        """Return what the newest sealed generation says of some units: unit, then
        `sealed.POLYSEMANTICITY`, by ascending unit. Units without a row are dead, or not sealed as
        their commits have them; none has one where the generation is older than the table.
        CorruptError where it is altered."""
        return self._scan.sealed_rows(layer, commits, POLYSEMANTICITY)

    def _rows(self, commit: Commit, table: Table) -> pa.Table:
        """One unit's table, under its public names."""
        return table.public(fragments.read(self.objects, [commit], table)[0])

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

    def _network(self, layer: str, path: str) -> bytes:
        """One object of what is stored of a layer's network."""
        self._require(path.rsplit("/", 1)[-1].partition(".")[0])
        return network_object(self.objects, self.layer(layer), path)

    def _get(self, path: str) -> bytes:
        try:
            return self.objects.get(path)
        except FileNotFoundError as error:
            raise CorruptError(
                f"{error}: the build that laid the atlas out was cut off, or the file was removed; "
                "run the build again"
            ) from error
