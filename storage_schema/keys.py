"""The one key that travels the whole way: which unit of which layer of which model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from circuit_atlas.storage_schema.bounds import Name, UnitNumber

Whose = Literal["unit", "channel"]
"""What a visualization is of: a unit of a layer, or an output channel of a convolution that lies in
a circuit. A key names either: of a channel, its `layer` is the convolution."""
Numbered = Literal["unit", "channel", "chunk"]
"""What a task's numbers count: these, or chunks of images, whose key has the stage as its layer."""


@dataclass(frozen=True, order=True, slots=True)
class UnitKey:
    """Names a unit: one channel of one layer, or a direction over its channels.

    `unit` counts from 0; channels come first, and the directions of a layer with C channels are
    numbered from C on in the order of the spec.

    >>> str(UnitKey("demo:squeezenet1_1", "features.7.expand3x3", 5))
    'demo:squeezenet1_1/features.7.expand3x3/5'
    >>> UnitKey.parse("demo:squeezenet1_1/features.7.expand3x3/5").unit
    5
    """

    model: Name
    layer: Name
    unit: UnitNumber

    def __str__(self) -> str:
        return f"{self.model}/{self.layer}/{self.unit}"

    @classmethod
    def parse(cls, text: str) -> UnitKey:
        """Invert `str`; ValueError when the text is not of that form."""
        model, layer, unit = text.rsplit("/", 2)
        return cls(model, layer, int(unit))
