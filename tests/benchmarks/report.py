"""Measured lines as a table for people, as JSON, and as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from circuit_atlas.service.circuit.display import size, text_table


def table(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, object]) -> str:
    """One line a work, then what else was measured, then the machine."""
    columns = {
        "work": [row["work"] for row in rows],
        "ours": [_seconds(row["ours_s"]) for row in rows],
        "slow reference": [_seconds(row["slow_s"]) for row in rows],
        "ratio": [_times(row["ratio"]) for row in rows],
        "limit": [_seconds(row["limit_s"]) for row in rows],
        "share of limit": [_percent(row["share_of_limit"]) for row in rows],
        "peak memory": [size(row["peak_bytes"]) if row["peak_bytes"] else "" for row in rows],
        "times are of one": [row["of"] for row in rows],
    }
    lines = [text_table(pa.table(columns)), ""]
    for row in rows:
        lines += [f"{row['work']}: {name} {value:.4g}" for name, value in row["facts"].items()]
    return "\n".join([*lines, "", ", ".join(f"{k}: {v}" for k, v in machine.items())])


def to_json(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, object]) -> str:
    """The same, whole."""
    return json.dumps({"machine": machine, "rows": rows}, indent=2)


def chart(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Ours, the slow reference and the limit of each work as bars over seconds, logarithmic; the
    format is that of the file's name."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    shown = [row for row in rows if row["slow_s"] is not None][::-1]
    # Text stays text, and the same numbers give the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "circuit-atlas", "font.size": 9}):
        figure = Figure(figsize=(9, 0.55 * len(shown) + 1.2), layout="constrained")
        axes = figure.subplots()
        bars = (("slow_s", "slow reference", "#b9b9b9"), ("ours_s", "ours", "#2a78b8"))
        for offset, (key, label, colour) in enumerate(bars):
            places = [n + 0.2 - 0.4 * offset for n in range(len(shown))]
            axes.barh(places, [row[key] for row in shown], 0.38, label=label, color=colour)
        limits = [(n, row["limit_s"]) for n, row in enumerate(shown) if row["limit_s"]]
        if limits:
            axes.plot(
                [limit for _, limit in limits],
                [n - 0.2 for n, _ in limits],
                "|",
                markersize=16,
                markeredgewidth=2.5,
                color="#d1495b",
                label="multiply-adds alone",
            )
        for n, row in enumerate(shown):
            end = max(row["ours_s"], row["limit_s"] or 0)
            axes.annotate(f"  {_times(row['ratio'])}", (end, n - 0.2), va="center", fontsize=8)
        axes.set_xscale("log")
        axes.set_xlabel("seconds")
        axes.set_yticks(range(len(shown)), [f"{row['work']}\nof one {row['of']}" for row in shown])
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}x"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
