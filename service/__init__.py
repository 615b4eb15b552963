"""What people touch: the Python client and the command line."""

from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.client.atlas import Atlas, Layer
from circuit_atlas.service.client.unit import Unit

__all__ = ["Atlas", "Circuit", "Layer", "Unit"]
