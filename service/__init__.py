"""What people touch: the Python client and the command line."""

from circuit_atlas.service.circuit import Circuit
from circuit_atlas.service.client import Atlas, Layer
from circuit_atlas.service.unit import Unit

__all__ = ["Atlas", "Circuit", "Layer", "Unit"]
