"""Which feature visualizations a run was asked for: what there is to be, beside what there is.

A plan is put before any image is made, under the checksum of its text, so that the same run
leaves one plan however often it is begun. What several runs asked for is the union of their plans.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Annotated

from circuit_atlas.storage_schema import documents, visualization_paths
from circuit_atlas.storage_schema.bounds import Name, UnitNumber, ascend
from circuit_atlas.storage_schema.document_schema import stored_keys
from circuit_atlas.storage_schema.documents import seal, sha256
from circuit_atlas.storage_schema.keys import Whose
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.own_path import require_own


@dataclass(frozen=True, order=True)
class PlannedVisualizations:
    """Names units of one layer, or channels of one convolution, that are to have the same
    visualizations."""

    layer: Annotated[Name, "Layer of the units, or name of the convolution."]
    of: Annotated[Whose, "`unit`; `channel`: an output channel of a convolution inside a circuit."]
    variants: Annotated[
        tuple[Name, ...], "Names of the visualizations that each of them is to have."
    ]
    numbers: Annotated[tuple[UnitNumber, ...], "The units or channels, ascending."]


@dataclass(frozen=True)
class VisualizationPlan:
    """Names all visualizations that one run asks for, those that were there before it included."""

    visualizations: Annotated[
        tuple[PlannedVisualizations, ...],
        "Who is to have which visualizations; each unit or channel once.",
    ] = field(metadata={"stored_as": "pictures"})

    @classmethod
    def of(cls, asked: Iterable[tuple[str, Whose, int, tuple[str, ...]]]) -> VisualizationPlan:
        """Make one from layer (or convolution), of what, number and names of visualizations.

        They may come in any order.
        """
        alike: dict[tuple[str, Whose, tuple[str, ...]], set[int]] = {}
        for layer, of, number, variants in asked:
            alike.setdefault((layer, of, tuple(sorted(variants))), set()).add(number)
        return cls(
            tuple(
                sorted(
                    PlannedVisualizations(layer, of, variants, tuple(sorted(numbers)))
                    for (layer, of, variants), numbers in alike.items()
                )
            )
        )

    def to_json(self) -> str:
        """Return the text of the plan."""
        content = asdict(self)
        keys = stored_keys(VisualizationPlan)
        return seal({stored: content[name] for name, stored in keys.items()})

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str) -> VisualizationPlan:
        """Read what `to_json` wrote; CorruptError or SchemaError where that cannot be read."""
        return documents.read(cls, text, location=location, what="plan of feature visualizations")

    def inconsistency(self) -> str | None:
        """Say what does not go together; None where all does."""
        for one in self.visualizations:
            if not ascend(one.numbers):
                return f"has `numbers` of {one.layer!r} that do not ascend"
        return None

    @classmethod
    def stored_at(cls, objects: Objects, path: str, data: bytes) -> VisualizationPlan:
        """Do the same for what lies at a path; CorruptError where it is another one."""
        plan = cls.from_json(data, location=objects.at(path))
        own = visualization_paths.visualization_plan(sha256(data))
        require_own(objects, path, own, what="another plan of feature visualizations")
        return plan
