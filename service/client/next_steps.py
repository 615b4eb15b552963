"""What is left to be done of an atlas, and the command that does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from circuit_atlas.storage_schema.visualization_states import VisualizationState

_DEMO = "demo:squeezenet1_1"
_UNITS = "`circuit-atlas build SPEC`", "`circuit-atlas demo`"
_VISUALIZATIONS = "`circuit-atlas features SPEC`", "`circuit-atlas demo --features`"


def all_left(status: pa.Table, states: Sequence[VisualizationState], *, model: str) -> list[str]:
    """Tell what is left, as of both functions below: a line each, none where an atlas is whole."""
    lines = units_left(status, model=model), visualizations_left(states, model=model)
    return [line for line in lines if line]


def units_left(status: pa.Table, *, model: str) -> str | None:
    """Tell what is left of an atlas' units, in a line with what to run; None where nothing is.

    Args:
        status: as of `Atlas.status`.
        model: the atlas' model: that of the demo has a command of its own.
    """
    counts = {state: sum(status[state].to_pylist()) for state in ("missing", "failed")}
    return _line("units", counts, _UNITS, model=model)


def visualizations_left(states: Sequence[VisualizationState], *, model: str) -> str | None:
    """Return the same of the units and channels whose feature visualizations were asked for."""
    kinds = [one.state for one in states]
    counts = {"missing": kinds.count("missing"), "failed": kinds.count("failed")}
    return _line("feature visualizations", counts, _VISUALIZATIONS, model=model)


def _line(
    what: str, counts: Mapping[str, int], commands: tuple[str, str], *, model: str
) -> str | None:
    left = " and ".join(f"{count} {state}" for state, count in counts.items() if count)
    if not left:
        return None
    command, demo = commands
    also = f" or {demo}" if model == _DEMO else ""
    return (
        f"{what}: {left}; run the command that asked for them again, {command}{also}: it makes "
        "what is missing, tries what failed again, and keeps what is there"
    )
