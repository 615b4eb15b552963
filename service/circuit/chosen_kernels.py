"""What a circuit is to those who ask for its kernels: which they are, and of what model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.service.circuit.kernel_ids import Ids
from circuit_atlas.service.circuit.origin import Origin
from circuit_atlas.storage_schema.kernels import KernelIndex


class ChosenKernels(Protocol):
    """Is what a circuit tells of its kernels, see `Circuit`."""

    @property
    def index(self) -> KernelIndex:
        """Return the convolutions."""

    @property
    def ids(self) -> Ids:
        """Return the number of each kernel over all convolutions, ascending."""

    @property
    def reachable(self) -> Ids:
        """Return the same of the kernels that they were chosen from."""

    @property
    def located(self) -> tuple[Ids, Ids, Ids]:
        """Return convolution, output channel and input channel of each kernel."""

    @property
    def scores(self) -> NDArray[np.float32]:
        """Return the score of each."""

    @property
    def positions(self) -> Ids:
        """Return the place of each on the axis of the first origin; -1 for none."""

    @property
    def origins(self) -> Sequence[Origin]:
        """Return the units that they were chosen for."""


class KernelsOfModel(ChosenKernels, Protocol):
    """Is the same, and says what the kernels are of, see `Circuit`."""

    @property
    def title(self) -> str:
        """Return what it is a circuit of."""

    @property
    def model(self) -> str:
        """Return the model's reference."""

    @property
    def weights_sha256(self) -> str:
        """Return the fingerprint of the model's weights."""
