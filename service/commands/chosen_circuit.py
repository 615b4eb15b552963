"""The circuit that a command is asked for: of all images, of some of them, or of a group."""

from __future__ import annotations

import click

from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.storage_schema.errors import QueryError


def circuit_of(
    unit: Unit,
    *,
    keep: float,
    criterion: str | None,
    images: tuple[int, ...] | None,
    group: int | None,
) -> Circuit:
    """Choose the circuit of all scoring images, of `images`, or of a stored sub-feature group.

    Raises:
        UsageError: both images and a group are given.
        QueryError: there is no such group, or as of `Unit.circuit` and `Unit.groups`.
    """
    if group is None:
        return unit.circuit(keep=keep, criterion=criterion, images=images)
    if images is not None:
        raise click.UsageError("--images and --group each say of which images: give one of them")
    chosen = criterion or unit.reader.header.criteria[0]
    groups = unit.groups(criterion=chosen)
    if not 0 <= group < len(groups):
        raise QueryError(
            f"unit {unit.name} has no group {group} by {chosen}: it has {len(groups)}, from 0"
        )
    return groups[group].circuit(keep=keep)
