"""Plots with matplotlib, where it is installed: r against the kept fraction."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from circuit_atlas.storage_schema.errors import QueryError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, title: str, axes: Axes | None
) -> Axes:
    """Plot r of the circuits of each criterion, by the fraction of kernels that they keep.

    Args:
        curves: fractions and r of each, by the name of its line.
        title: of the plot.
        axes: to plot into. Default: new ones.
    """
    found = _axes(axes)
    for name, (fractions, values) in curves.items():
        found.plot(fractions, values, marker="o", markersize=3, label=name)
    return _finished(found, title=title)


def plot_bands(
    fractions: Sequence[float],
    columns: Mapping[str, Sequence[float | None]],
    *,
    title: str,
    axes: Axes | None,
) -> Axes:
    """Plot how r is spread over units, by the fraction of kernels that their circuits keep.

    Args:
        fractions: that r was measured at.
        columns: low, quarter, median, three_quarters and high, as of `Layer.distribution`.
        title: of the plot.
        axes: to plot into. Default: new ones.
    """
    found = _axes(axes)
    for low, high, opacity, label in (
        ("low", "high", 0.15, "10 % to 90 % of the units"),
        ("quarter", "three_quarters", 0.3, "25 % to 75 %"),
    ):
        found.fill_between(
            fractions, columns[low], columns[high], alpha=opacity, color="C0", label=label, lw=0
        )
    found.plot(fractions, columns["median"], color="C0", marker="o", markersize=3, label="median")
    return _finished(found, title=title)


def _axes(given: Axes | None) -> Any:
    if given is not None:
        if not hasattr(given, "fill_between"):
            raise QueryError(f"axes={given!r} are none: give matplotlib's, or leave it out")
        return given
    try:
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ModuleNotFoundError:
        raise QueryError(
            "a plot needs the package 'matplotlib', which is not installed: "
            "python -m pip install matplotlib"
        ) from None
    return pyplot.subplots()[1]


def _finished(axes: Any, *, title: str) -> Axes:
    axes.set_xscale("log")
    axes.set_xlabel("fraction of the kernels kept")
    axes.set_ylabel("Pearson r with the whole network")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    found: Axes = axes
    return found
