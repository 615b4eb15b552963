"""The circuit of some kernels that were chosen for one unit."""

from __future__ import annotations

from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.circuit.origin import Origin
from circuit_atlas.service.circuit.selection import Selection


def chosen_circuit(origin: Origin, picked: Selection, *, title: str) -> Circuit:
    """Make the circuit of a selection on the unit's kernel axis; `title` says how it was made."""
    index, header = origin.layer.index, origin.reader.header
    ids = index.full_ids(origin.unit.rows)
    return Circuit(
        title=f"{origin.name} {title}",
        model=header.model,
        weights_sha256=header.weights_sha256,
        index=index,
        ids=ids[picked.positions],
        reachable=ids[picked.reachable],
        scores=picked.scores,
        positions=picked.positions,
        origins=(origin,),
    )
