"""What `plan` prints: the work that a build has to do, layer by layer and in all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from circuit_atlas.service.circuit.display import difference_text, size, text_table
from circuit_atlas.service.commands.report import passed_over_text

if TYPE_CHECKING:
    from circuit_atlas.jobs.tasks.estimate import Estimate


def plan_text(estimate: Estimate) -> str:
    """Tell the work on each layer, the sums over all of them, the images, and every remark."""
    layers = estimate.layers
    columns = {
        "layer": [layer.layer for layer in layers],
        "units": [layer.units for layer in layers],
        "kernels": [layer.kernels for layer in layers],
        "tasks": [layer.tasks for layer in layers],
        "size at most": [size(layer.size_bytes) for layer in layers],
        "response": [layer.explained for layer in layers],
        "self-check": [difference_text(layer.self_check) for layer in layers],
    }
    units, tasks = sum(layer.units for layer in layers), sum(layer.tasks for layer in layers)
    lines = [text_table(pa.table(columns))]
    if len(layers) > 1:
        lines.append(f"{units:,} units of {len(layers)} layers in {tasks:,} tasks")
    if estimate.left:
        more = "unit is" if estimate.left == 1 else "units are"
        lines.append(f"{estimate.left:,} more missing {more} left")
    left_out = f", {estimate.left_out} more cannot be read" if estimate.left_out else ""
    others = passed_over_text(estimate.passed_over)
    lines.append(
        f"{estimate.images} images{left_out}; {size(estimate.size_bytes)} at most in all"
        f"{others and f'; {others}'}"
    )
    return "\n".join([*lines, *(f"note: {remark}" for remark in estimate.remarks)])
