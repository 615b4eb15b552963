"""No two files need each other, not even by names that only types use."""

from __future__ import annotations

import grimp

PACKAGES = ["storage_schema", "jobs", "cluster", "service"]
# `Circuit.diagram`, `.extract` and `.evaluate`, `Atlas.load_model` and `.image_tensor`: the lazy
# calls upward.
UPWARD = {
    ("circuit_atlas.service.circuit.circuit", "circuit_atlas.service.diagram.draw"),
    ("circuit_atlas.service.circuit.circuit", "circuit_atlas.service.diagram.drawing"),
    ("circuit_atlas.service.circuit.circuit", "circuit_atlas.service.compute.extract"),
    ("circuit_atlas.service.circuit.circuit", "circuit_atlas.service.compute.extracted_circuit"),
    ("circuit_atlas.service.circuit.circuit", "circuit_atlas.service.compute.evaluate"),
    ("circuit_atlas.service.client.atlas", "circuit_atlas.service.compute.atlas_model"),
    ("circuit_atlas.service.client.atlas", "circuit_atlas.service.compute.image_tensor"),
}


def test_no_circle_of_files():
    graph = grimp.build_graph(*(f"circuit_atlas.{name}" for name in PACKAGES), cache_dir=None)
    needs = {
        module: {
            other
            for other in graph.find_modules_directly_imported_by(module)
            if (module, other) not in UPWARD
        }
        for module in graph.modules
    }
    assert all(upper in graph.find_modules_directly_imported_by(lower) for lower, upper in UPWARD)
    # What needs nothing more is taken away, until only circles are left.
    while free := {module for module, others in needs.items() if not others}:
        needs = {module: others - free for module, others in needs.items() if module not in free}
    assert not needs, f"these files need each other: {sorted(needs)}"
