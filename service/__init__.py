"""The door: an atlas to read, a build to run, a circuit to find, and every error.

```python
from circuit_atlas.service import Atlas, build, find_circuit

circuit = find_circuit(model, images, layer="features.6", unit=12, keep=0.1)
atlas = build("spec.toml")
atlas = Atlas.open("circuit-atlas-demo")
```

Each name is imported when it is asked for: reading an atlas does without torch, which computing
needs, and the command line has begun before anything else is imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from circuit_atlas.cluster.executor import (
        Damaged,
        Planned,
        TaskDone,
        TaskLost,
        TaskProgress,
        TaskStarted,
        WorkersReady,
    )
    from circuit_atlas.jobs.spec.build_spec import BuildSpec
    from circuit_atlas.service.circuit.atlas_table import AtlasTable
    from circuit_atlas.service.circuit.circuit import Circuit
    from circuit_atlas.service.client.atlas import Atlas
    from circuit_atlas.service.client.checkpoints import Checkpoints
    from circuit_atlas.service.client.layer import Layer
    from circuit_atlas.service.client.unit import Unit
    from circuit_atlas.service.comparison.comparison import Comparison
    from circuit_atlas.service.compute.build import Finished, build
    from circuit_atlas.service.compute.find_circuit import find_circuit
    from circuit_atlas.service.compute.transfer import transfer, transfer_in
    from circuit_atlas.storage_schema.errors import (
        AtlasError,
        ContestedError,
        CorruptError,
        DeadlineError,
        ImageError,
        InfrastructureError,
        InputError,
        MismatchError,
        ModelError,
        NonFiniteError,
        NotAnAtlasError,
        QueryError,
        RecordError,
        SchemaError,
        SpecError,
        StoreError,
        UnitError,
        UnreadableError,
        WorkerLostError,
        WriteError,
    )
    from circuit_atlas.storage_schema.patience import Outage

__all__ = [
    "Atlas",
    "AtlasError",
    "AtlasTable",
    "BuildSpec",
    "Checkpoints",
    "Circuit",
    "Comparison",
    "ContestedError",
    "CorruptError",
    "Damaged",
    "DeadlineError",
    "Finished",
    "ImageError",
    "InfrastructureError",
    "InputError",
    "Layer",
    "MismatchError",
    "ModelError",
    "NonFiniteError",
    "NotAnAtlasError",
    "Outage",
    "Planned",
    "QueryError",
    "RecordError",
    "SchemaError",
    "SpecError",
    "StoreError",
    "TaskDone",
    "TaskLost",
    "TaskProgress",
    "TaskStarted",
    "Unit",
    "UnitError",
    "UnreadableError",
    "WorkerLostError",
    "WorkersReady",
    "WriteError",
    "build",
    "find_circuit",
    "transfer",
    "transfer_in",
]

_MODULES = {
    "circuit_atlas.service.circuit.atlas_table": ("AtlasTable",),
    "circuit_atlas.service.circuit.circuit": ("Circuit",),
    "circuit_atlas.service.client.atlas": ("Atlas",),
    "circuit_atlas.service.client.checkpoints": ("Checkpoints",),
    "circuit_atlas.service.client.layer": ("Layer",),
    "circuit_atlas.service.client.unit": ("Unit",),
    "circuit_atlas.service.comparison.comparison": ("Comparison",),
    "circuit_atlas.storage_schema.errors": (
        "AtlasError",
        "ContestedError",
        "CorruptError",
        "DeadlineError",
        "ImageError",
        "InfrastructureError",
        "InputError",
        "MismatchError",
        "ModelError",
        "NonFiniteError",
        "NotAnAtlasError",
        "QueryError",
        "RecordError",
        "SchemaError",
        "SpecError",
        "StoreError",
        "UnitError",
        "UnreadableError",
        "WorkerLostError",
        "WriteError",
    ),
    "circuit_atlas.storage_schema.patience": ("Outage",),
    "circuit_atlas.cluster.executor": (
        "Damaged",
        "Planned",
        "TaskDone",
        "TaskLost",
        "TaskProgress",
        "TaskStarted",
        "WorkersReady",
    ),
    "circuit_atlas.jobs.spec.build_spec": ("BuildSpec",),
    "circuit_atlas.service.compute.build": ("Finished", "build"),
    "circuit_atlas.service.compute.find_circuit": ("find_circuit",),
    "circuit_atlas.service.compute.transfer": ("transfer", "transfer_in"),
}


def __getattr__(name: str) -> Any:
    """What the package has, imported at its first use."""
    for module, names in _MODULES.items():
        if name in names:
            found = globals()[name] = getattr(import_module(module), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """All names, whether they were used or not."""
    return sorted({*globals(), *__all__})
