"""The door: an atlas to read, a build to run, a circuit to find, and every error.

```python
from circuit_atlas.service import find_circuit

circuit = find_circuit(model, images, layer="features.6", unit=12, keep=0.1)
```

What computes needs torch, and is imported when it is asked for: reading an atlas does without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.client.atlas import Atlas, Layer
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.storage_schema.errors import (
    AtlasError,
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
    WorkerLostError,
    WriteError,
)

if TYPE_CHECKING:
    from circuit_atlas.service.compute.find_circuit import find_circuit

__all__ = [
    "Atlas",
    "AtlasError",
    "Circuit",
    "CorruptError",
    "DeadlineError",
    "ImageError",
    "InfrastructureError",
    "InputError",
    "Layer",
    "MismatchError",
    "ModelError",
    "NonFiniteError",
    "NotAnAtlasError",
    "QueryError",
    "RecordError",
    "SchemaError",
    "SpecError",
    "StoreError",
    "Unit",
    "UnitError",
    "WorkerLostError",
    "WriteError",
    "find_circuit",
]

_COMPUTE = {"find_circuit": "find_circuit"}


def __getattr__(name: str) -> Any:
    """What computes, imported at its first use."""
    if name not in _COMPUTE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.compute.{_COMPUTE[name]}"), name)
    globals()[name] = found
    return found
