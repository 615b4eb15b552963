"""Which units of an atlas are done, dead and failed, and their records, read."""

from __future__ import annotations

from circuit_atlas.storage_schema import layer_paths
from circuit_atlas.storage_schema.commit import Commit, Failure
from circuit_atlas.storage_schema.layer_listing import LayerListing, list_committed, list_failures
from circuit_atlas.storage_schema.layer_scan import LayerScan
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.records import FailureRecord


class StoredCommits:
    """Reads the records of units, and keeps commits until a listing lacks them: they never
    change."""

    def __init__(self, objects: Objects, scan: LayerScan) -> None:
        """Read nothing yet."""
        self._objects, self._scan = objects, scan
        self._commits: dict[tuple[str, int], Commit] = {}

    def one(self, layer: str, unit: int) -> Commit | None:
        """Return one unit's commit record by its known path, or None where the unit is not done.

        CorruptError where it is altered, or another unit's.
        """
        if (layer, unit) not in self._commits:
            path = layer_paths.commit(layer, unit)
            try:
                data = self._objects.get(path)
            except FileNotFoundError:
                return None
            self._commits[layer, unit] = Commit.stored_at(self._objects, path, data)
        return self._commits[layer, unit]

    def of_layer(self, layer: str) -> dict[int, Commit]:
        """Return the commit record of every unit that is done or dead, by unit: one listing, and
        the records not seen before. CorruptError as of `one`."""
        listed = list_committed(self._objects, layer)
        known = self._commits.copy()
        kept = {unit: commit for (name, unit), commit in known.items() if name == layer}
        new = {unit: entry for unit, entry in listed.items() if unit not in kept}
        read = self._scan.commits(layer, new)
        kept.update(read)
        self._commits.update(((layer, unit), commit) for unit, commit in read.items())
        for unit in kept.keys() - listed.keys():
            self._commits.pop((layer, unit), None)  # deleted, to be built again
        return {unit: kept[unit] for unit in listed}

    def failures(self, layer: str, listing: LayerListing | None = None) -> dict[int, FailureRecord]:
        """Return the latest failure of every unit that has one and no commit, by unit; `listing`:
        of the layer, where it was listed just now. CorruptError as of `one`."""
        listed = list_failures(self._objects, layer) if listing is None else listing.failures
        paths = [entry.path for entries in listed.values() for entry in entries]
        records = [
            Failure.stored_at(self._objects, path, data)
            for path, data in zip(paths, self._objects.get_listed(paths), strict=True)
        ]
        latest = {f.record.key.unit: f.record for f in sorted(records, key=lambda f: f.time_s)}
        return dict(sorted(latest.items()))
