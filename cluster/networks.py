"""The network of a layer stored again, where a repair set it aside and no unit is missing."""

from __future__ import annotations

from collections.abc import Mapping

from circuit_atlas.jobs.tasks.plan import Build
from circuit_atlas.jobs.tasks.worker import CircuitJob
from circuit_atlas.storage_schema.network import is_stored
from circuit_atlas.storage_schema.objects import Objects


def restore_networks(
    build: Build, objects: Objects, *, committed: Mapping[str, frozenset[int]]
) -> None:
    """Stores, in this process, the network of each layer that has all units of the build and lacks
    it; of the others the first worker does.

    Args:
        build: the resolved build, whose store is laid out.
        objects: the store.
        committed: the units that are stored, by layer.

    StoreError where the store cannot be read or refuses.
    """
    whole = {name for name, numbers in build.plan.units if committed[name].issuperset(numbers)}
    missing = [
        index.layer
        for index in build.layers
        if index.layer in whole and committed[index.layer] and not is_stored(objects, index)
    ]
    if missing:
        worker = CircuitJob(build.spec, trace=build.trace).open()
        for name in missing:
            worker.store_network(name)
