"""The patterns of layers in a spec -> the layers of the model that they stand for."""

from __future__ import annotations

from collections.abc import Iterator

from circuit_atlas.jobs.engine.targets import check_position
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.layers import LayerSpec
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.tasks.stored_directions import with_stored_directions
from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.wording import listed, nearest

_SHOWN = 3


def settle_layers(opened: OpenedSpec) -> tuple[str, ...]:
    """Puts a table for each layer in place of the patterns of a spec, and the directions that its
    atlas has stored into the tables.

    Layers stand in the order of the tables that first match them, and those of one pattern in the
    order of the forward pass. A layer has the settings of the table with its name, else those of
    the last pattern that matches it. Of what patterns match are left out: layers that cannot be
    explained, and layers whose response is that of another layer of the spec.

    Args:
        opened: the spec, which is changed.

    Returns:
        What was left out, a line for each reason.

    Raises:
        ModelError: a pattern matches no layer, or none that can be explained.
        StoreError: there is an atlas that cannot be read.
    """
    spec = opened.spec
    if not any(table.is_pattern for table in spec.layers):
        opened.spec = with_stored_directions(spec)
        return ()
    tables = _matching(spec, opened.graph)
    by_name = {table.name for table in spec.layers}
    opened.spec = with_stored_directions(spec.model_copy(update={"layers": tables}))
    refused = dict(_refused(opened, by_name))
    kept = [table for table in opened.spec.layers if table.name not in refused]
    same = dict(_same(opened.graph, kept, by_name))
    kept = [table for table in kept if table.name not in same]
    for pattern in (table for table in spec.layers if table.is_pattern):
        reasons = [reason for name, reason in refused.items() if pattern.matches(name)]
        if reasons and not any(map(pattern.matches, (*same, *(table.name for table in kept)))):
            raise ModelError(
                f"no layer that {pattern.name!r} matches can be explained; the first of "
                f"{len(reasons)}: {reasons[0]}"
            )
    opened.spec = opened.spec.model_copy(update={"layers": tuple(kept)})
    return tuple(_told(refused, same))


def _matching(spec: BuildSpec, graph: ModelGraph) -> tuple[LayerSpec, ...]:
    """A table for each layer that one of the spec's is of, in order."""
    names: dict[str, None] = {}
    for table in spec.layers:
        matches = [table.name]
        if table.is_pattern:
            matches = [name for name in graph.layers_by_depth if table.matches(name)]
        if not matches:
            known = nearest(table.name, graph.layers, what="layers")
            raise ModelError(f"no layer of the model matches {table.name!r}: {known}")
        names.update(dict.fromkeys(matches))
    tables = (spec.layer(name) for name in names)
    return tuple(table for table in tables if table is not None)


def _refused(opened: OpenedSpec, by_name: set[str]) -> Iterator[tuple[str, str]]:
    """The layers of patterns that cannot be explained, each with why."""
    response = opened.spec.circuits.response
    for table in opened.spec.layers:
        if table.name not in by_name:
            try:
                index = opened.layer(table.name).index
                if not isinstance(response, str):
                    check_position(response, (index.height, index.width))
            except ModelError as error:
                yield table.name, str(error)


def _same(
    graph: ModelGraph, tables: list[LayerSpec], by_name: set[str]
) -> Iterator[tuple[str, str]]:
    """The layers of patterns whose response is that of another layer, each with that layer."""
    first: dict[str, str] = {}
    for table in sorted(tables, key=lambda table: table.name not in by_name):
        other = first.setdefault(graph.response(table.name, table.activation), table.name)
        if other != table.name and table.name not in by_name:
            yield table.name, other


def _told(refused: dict[str, str], same: dict[str, str]) -> Iterator[str]:
    if refused:
        name, reason = next(iter(refused.items()))
        yield (
            f"left out of the layers that patterns match: {len(refused)} that cannot be explained, "
            f"{listed(list(refused), most=_SHOWN)}; of {name!r}: {reason}"
        )
    if same:
        name, other = next(iter(same.items()))
        yield (
            f"left out of the layers that patterns match: {len(same)} with the response of another "
            f"layer, {listed(list(same), most=_SHOWN)}; that of {name!r} is that of {other!r}"
        )
