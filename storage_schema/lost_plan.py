"""A damaged plan found again: its name is its digest, so a guess that gives that digest is it.

What most builds asked for can be guessed: the units that were tried, all channels, or all units.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.layer_listing import list_committed, list_failures
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.template import Plan

# Units that all guesses name, together: it takes a second or so.
_GUESSED = 1_000_000


def lost_plan(objects: Objects, layers: Sequence[LayerIndex], path: str) -> bytes | None:
    """Return the plan that lay at a path, byte for byte; None where no guess is right.

    Args:
        objects: the store.
        layers: those that are laid out.
        path: of the plan.
    """
    units = sum(len(index.units) for index in layers)
    for plan in itertools.islice(_guesses(objects, layers), _GUESSED // max(1, units)):
        text = plan.to_json().encode()
        if layout.plan(sha256(text)) == path:
            return text
    return None


def _guesses(objects: Objects, layers: Sequence[LayerIndex]) -> Iterator[Plan]:
    """Plans of all layers, in any order."""
    choices = []
    for index in layers:
        tried = list_committed(objects, index.layer).keys() | list_failures(objects, index.layer)
        likely = (
            tuple(sorted(tried)),
            tuple(range(index.channels)),
            tuple(unit.number for unit in index.units),
        )
        choices.append([(index.layer, units) for units in dict.fromkeys(likely)])
    for some in itertools.product(*choices):
        for order in itertools.permutations(some):
            yield Plan(order)
