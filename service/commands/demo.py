"""The demo: circuits of a real network on real photos, all out of packages that pip installs."""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from circuit_atlas.service.analysis.query import CircuitQuery
from circuit_atlas.service.analysis.unit_scores import unit_scores
from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.client.layer import Layer
from circuit_atlas.service.commands.report import score_text
from circuit_atlas.service.compute.spec import here
from circuit_atlas.storage_schema.errors import SpecError

if TYPE_CHECKING:
    from circuit_atlas.jobs.spec.build_spec import BuildSpec

LAYER = "features.7.expand3x3"
CHANNELS = 128
STORE = "circuit-atlas-demo"
# On ten photos more steps gain little, and the demo is to be short.
STEPS = 50
_HOW = {
    "actgrad": "activation x gradient, from one pass over the images",
    "learned": "a ranking trained on the same images",
    "random": "drawn, the floor",
}


def demo_spec(*, store: str = STORE, units: str = "16") -> BuildSpec:
    """Make the demo's spec: SqueezeNet 1.1 on twenty ImageNet photos, every second one held out.

    Args:
        store: where the atlas goes.
        units: `all`, or how many, spread evenly over the layer's 128. Rankings are learned unless
            it is all, which would take half an hour.

    Raises:
        SpecError: `units` is neither.
    """
    from circuit_atlas.jobs.spec.build_spec import BuildSpec

    trained = [] if units == "all" else ["learned"]
    criteria = ["actgrad", *trained, "random"]
    return BuildSpec.from_values(
        {
            "model": {"reference": "demo:squeezenet1_1"},
            "images": {"source": "demo:photos", "held_out": "odd"},
            "layers": [{"name": LAYER, "units": spread(units)}],
            "circuits": {"criteria": criteria},
            "learned": {"steps": STEPS},
            "run": {"store": here(store), "image_sums": True},
        }
    )


def spread(units: str) -> str | list[int]:
    """Spread so many units evenly over the layer's channels.

    >>> spread("4"), spread("all")
    ([0, 32, 64, 96], 'all')
    """
    if units == "all":
        return units
    if not units.isdecimal() or not 1 <= int(units) <= CHANNELS:
        raise SpecError(f"units {units!r} cannot be built: give all, or a number from 1 to 128")
    return [number * CHANNELS // int(units) for number in range(int(units))]


def demo_text(atlas: Atlas) -> str:
    """Return the most and the least faithful unit, and the lines to type next."""
    layer = atlas.layer(LAYER)
    query = CircuitQuery.of(atlas.reader)
    ranked = unit_scores(layer.reader, layer.name, query)
    if not ranked:
        return f"No unit of {LAYER} has a circuit; see: circuit-atlas status {atlas.location}"
    best, worst = ranked[0], ranked[-1]
    return "\n".join(
        [
            f"{len(ranked)} units of {LAYER} of SqueezeNet 1.1. Of each unit, the circuit by",
            f"{query.criterion} that keeps {query.fraction:.0%} of its kernels, held against the "
            "whole network on",
            "photos that took no part in choosing it",
            "(r = 1: the unit responds the same; r = 0: nothing of its response is left).",
            "",
            score_text(layer, best, title="Most faithful"),
            "",
            score_text(layer, worst, title="Least faithful"),
            "",
            *_by_criterion(layer, query),
            "",
            "Next, in a browser:",
            f"  circuit-atlas open {atlas.location}",
            "or here:",
            f"  circuit-atlas show {atlas.location} {LAYER}",
            f"  circuit-atlas show {atlas.location} {LAYER} {best.unit}",
            *_show_learned(atlas),
            f"  circuit-atlas compare {atlas.location}",
            "or in Python:",
            "  from circuit_atlas.service import Atlas",
            f'  unit = Atlas.open("{atlas.location}")["{LAYER}"][{best.unit}]',
            f"  unit.circuit(keep={query.fraction:g}).kernels()",
        ]
    )


def _by_criterion(layer: Layer, query: CircuitQuery) -> list[str]:
    """What circuits of as many kernels keep, by how the kernels were chosen."""
    lines = [f"Median r of the units, {query.fraction:.0%} of the kernels chosen by"]
    for criterion in layer.reader.header.criteria:
        of_units = unit_scores(layer.reader, layer.name, replace(query, criterion=criterion))
        middle = median(score.r for score in of_units)
        lines.append(f"  {criterion:<9}{middle:z5.2f}  {_HOW.get(criterion, '')}".rstrip())
    return lines


def _show_learned(atlas: Atlas) -> list[str]:
    if "learned" not in atlas.reader.header.criteria:
        return []
    return [f"  circuit-atlas show {atlas.location} {LAYER} --criterion learned"]
