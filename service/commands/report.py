"""What `show` and `demo` print: an atlas, a layer, a unit, in a terminal's width."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from circuit_atlas.service.analysis.query import CircuitQuery
from circuit_atlas.service.analysis.stability import CORE
from circuit_atlas.service.analysis.unit_scores import UnitScore, unit_scores, with_silent
from circuit_atlas.service.circuit.display import difference_text, size, text_table
from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.client.atlas_status import AtlasStatus
from circuit_atlas.service.client.layer import Layer
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.service.client.unit_groups import Groups, known_groups
from circuit_atlas.service.commands.terminal import wrapped

if TYPE_CHECKING:
    from circuit_atlas.cluster.run import Summary

_HASH = 12
_SHOWN = 4
_MEASURED = ("kernels", "pearson", "firing", "firing_full", "acting")
_SPLIT = {"held_out": "held-out", "scoring": "scoring"}


def atlas_text(atlas: Atlas, *, width: int | None = None) -> str:
    """Tell what an atlas was built from, and how far each layer is, in `width` columns. Default:
    as wide as it comes."""
    header = atlas.header
    splits = atlas.images()["split"].to_pylist()
    counts = ", ".join(
        f"{splits.count(split)} {word}"
        for split, word in (
            ("scoring", "scoring"),
            ("held_out", "held out"),
            ("left_out", "left out"),
        )
        if splits.count(split) or split != "left_out"
    )
    facts = {
        "model": f"{header.model}, weights {header.weights_sha256[:_HASH]}",
        "images": f"{counts}, set {header.images_sha256[:_HASH]}",
        "input": f"{header.input_height} x {header.input_width} pixels",
        "spec": f"{header.spec_sha256[:_HASH]}, seed {header.seed}",
        "response": header.response,
        "criteria": ", ".join(header.criteria),
        "ablation": ", ".join(header.ablations),
        "fractions": ", ".join(f"{fraction:g}" for fraction in header.fractions),
        "built with": ", ".join(f"{name} {number}" for name, number in header.versions),
    }
    if header.connected:
        facts["circuits"] = "connected: dead ends gave way to the next best kernels on a path"
    lines = wrapped((f"  {name:<10}  {value}" for name, value in facts.items()), columns=width)
    indices = [atlas.reader.layer(name) for name in atlas.layers]
    responses = {
        "layer": list(atlas.layers),
        "response": [index.explained for index in indices],
        "self-check": [difference_text(index.self_check) for index in indices],
    }
    tables = [_with_silent(atlas), pa.table(responses)]
    return "\n".join(
        [atlas.location, *lines, *(f"\n{text_table(table, width=width)}" for table in tables)]
    )


def _with_silent(atlas: Atlas) -> pa.Table:
    """How far each layer is, and how many of its units have a silent circuit at the fraction that
    stands for a circuit where none is asked for."""
    table = with_silent(atlas.reader, atlas.status().to_arrow())
    fraction = CircuitQuery.of(atlas.reader).fraction
    return table.rename_columns([*table.column_names[:-1], f"silent at {fraction:g}"])


def status_text(status: AtlasStatus, *, width: int | None) -> str:
    """Tell how far each layer is, every failure, the same of visualizations, and what goes on, in
    lines of at most `width` columns."""
    left_out = images_left_out(status.images_left_out)
    lines = [text_table(status.layers, width=width), *([left_out] if left_out else [])]
    lines += [f"  failed: {f.layer} unit {f.name}: {f.kind}: {f.message}" for f in status.failures]
    if status.features.num_rows:
        lines += ["", "feature visualizations", text_table(status.features, width=width)]
        lines += [
            f"  failed: {row['layer']} {row['of']} {row['name']}: {row['kind']}: {row['message']}"
            for row in status.visualization_failures.to_pylist()
        ]
    lines += ["", *status.to_go_on] if status.to_go_on else []
    return "\n".join(wrapped(lines, columns=width))


def layer_text(layer: Layer, query: CircuitQuery, *, width: int | None = None) -> str:
    """List a layer's units, the most faithful first; `width` as of `atlas_text`."""
    ranked = unit_scores(layer.reader, layer.name, query)
    lines = [repr(layer)[1:-1], f"  self-check: {difference_text(layer.index.self_check)}"]
    if ranked:
        median = statistics.median(score.r for score in ranked)
        silent = sum(score.silent for score in ranked)
        lines += [
            f"  response: {layer.index.explained}",
            f"  r: between the response of the {query.criterion} circuit that keeps "
            f"{query.fraction:g} of the kernels",
            f"  and the full response, on {_SPLIT[query.split]} images; median {median:.3f}",
            f"  fires: share of the positions where the output is above 0; {silent} of "
            f"{len(ranked)} circuits are silent",
            "  act: of the kernels kept, those on a path of kept ones from the image to the unit",
            "",
        ]
    ranks = {score.unit: rank for rank, score in enumerate(ranked)}
    units = layer.units().to_pylist()
    units.sort(key=lambda row: (ranks.get(row["unit"], len(ranks)), row["unit"]))
    scores = {score.unit: score for score in ranked}
    columns = {
        "unit": [row["name"] for row in units],
        **({"label": labels} if any(labels := [row["unit_label"] for row in units]) else {}),
        "state": [row["state"] for row in units],
        "kernels": [row["reachable_kernels"] for row in units],
        "kept": [scores[row["unit"]].kernels if row["unit"] in scores else None for row in units],
        "act": [getattr(scores.get(row["unit"]), "acting", None) for row in units],
        "r": [_r(scores.get(row["unit"])) for row in units],
        "fires": [getattr(scores.get(row["unit"]), "firing", None) for row in units],
        "network": [getattr(scores.get(row["unit"]), "firing_full", None) for row in units],
    }
    if any(row["error"] for row in units):
        columns["error"] = [row["error"] for row in units]
    return "\n".join([*wrapped(lines, columns=width), text_table(pa.table(columns), width=width)])


def unit_text(unit: Unit, query: CircuitQuery, *, width: int | None = None) -> str:
    """Show a unit's top images, how faithful its circuits are, and where one of them lies; `width`
    as of `atlas_text`.

    QueryError where the unit is not stored.
    """
    top = unit.top_images().to_arrow()
    top = top.select(["rank", "image", "name", "label", "response", "position_y", "position_x"])
    index, label = unit.reader.layer(unit.layer), unit.label
    lines = [repr(unit)[1:-1], f"  response: {index.explained}"]
    if label is not None:
        lines.append(f"  stands for: {label}")
    if top.num_rows:
        lines += ["", "largest responses", text_table(top, width=width)]
    if unit.state == "dead":
        lines += ["", "its response is the same on every image: it has no circuit"]
        return "\n".join(wrapped(lines, columns=width))
    lines += ["", f"faithfulness of the {query.criterion} circuits, {query.ablation} ablation"]
    circuit = unit.circuit(keep=query.fraction, criterion=query.criterion)
    lines += [text_table(_ladder(unit, query), width=width), "", repr(circuit)[1:-1]]
    if query.criterion in dict(unit.reader.header.redrawn):
        lines.append(_stable(unit, query))
    lines += [text_table(circuit.by_convolution().to_arrow(), width=width)]
    groups = known_groups(unit, query.criterion)
    if groups is not None:
        apart = "" if groups.silhouette is None else f", silhouette {groups.silhouette:.2f}"
        lines += [
            "",
            f"sub-features by {groups.criterion}{apart}",
            text_table(_groups(groups, query), width=width),
        ]
    return "\n".join(wrapped(lines, columns=width))


def _stable(unit: Unit, query: CircuitQuery) -> str:
    """How many of the circuit's kernels nearly all circuits hold that were found anew."""
    found = unit.stability(keep=query.fraction, criterion=query.criterion)
    what = "draws of its images" if found.images else "trainings"
    share = len(found.core()) / found.kernels
    return f"  stable: {share:.0%} as many kernels are in {CORE:.0%} of {found.draws} {what}"


def _groups(groups: Groups, query: CircuitQuery) -> pa.Table:
    """A row a group: how many images, the first of them, and where there are several groups the
    share of the responses that its circuit preserves to them, and to the others."""
    named = {row["image"]: row["label"] or row["name"] for row in groups.table().to_pylist()}
    shown = [[named[image] for image in group.images[:_SHOWN]] for group in groups]
    return pa.table(
        {
            "group": [group.number for group in groups],
            "images": [len(group) for group in groups],
            "first": [", ".join(names) for names in shown],
            **_preserved(groups, query),
        }
    )


def _preserved(groups: Groups, query: CircuitQuery) -> dict[str, list[float | None]]:
    rows = groups.unit.selectivity(criterion=groups.criterion, ablation=query.ablation).to_pylist()
    rows = [row for row in rows if row["fraction"] == query.fraction]
    return {name: [row[name] for row in rows] for name in ("preserved", "leaked") if rows}


def score_text(layer: Layer, score: UnitScore, *, title: str, images: int = 3) -> str:
    """Tell one unit's faithfulness and its top images, in a few lines under a title."""
    unit = layer.unit(score.unit)
    top = unit.top_images().to_pylist()[:images]
    r = _r(score) or "undefined (a constant response)"
    lines = [
        f"{title}: unit {unit.info.name}",
        f"  r = {r} with {score.kernels:,} of {unit.reachable_kernels:,} kernels",
        "  responds most to",
    ]
    lines += [
        f"    {row['label']} ({row['name']})" if row["label"] else f"    {row['name']}"
        for row in top
    ]
    return "\n".join(lines)


def _r(score: UnitScore | None) -> str | None:
    """Pearson r of a circuit, or that it is silent."""
    if score is None or (score.pearson is None and not score.silent):
        return None
    return "silent" if score.silent else f"{score.r:.3f}"


def _ladder(unit: Unit, query: CircuitQuery) -> pa.Table:
    """A row a level: fraction, kernels, how many of them act, and r on each split with the share
    where it fires; how well it tells the class, where that is known, in the circuit and the whole
    network."""
    r: dict[tuple[int, str], str | None] = {}
    firing: dict[tuple[int, str], float | None] = {}
    auc: dict[tuple[int, str], str] = {}
    levels: dict[int, tuple[float, int, int | None]] = {}
    splits = []
    for row in unit.faithfulness().to_pylist():
        if (row["criterion"], row["ablation"]) == (query.criterion, query.ablation):
            score = UnitScore(unit.number, *(row[name] for name in _MEASURED))
            r[row["level"], row["split"]] = _r(score)
            firing[row["level"], row["split"]] = score.firing
            if row["auc"] is not None:
                auc[row["level"], row["split"]] = f"{row['auc']:.3f} of {row['auc_full']:.3f}"
            levels[row["level"]] = (row["fraction"], row["kernels"], row["acting"])
            splits += [row["split"]] if row["split"] not in splits else []
    order = sorted(levels)
    columns = {
        "keep": [f"{levels[level][0]:g}" for level in order],
        "kernels": [levels[level][1] for level in order],
        "act": [levels[level][2] for level in order],
    }
    for split in splits:
        columns[f"r {_SPLIT[split]}"] = [r.get((level, split)) for level in order]
        columns[f"fires {_SPLIT[split]}"] = [firing.get((level, split)) for level in order]
        if auc:
            columns[f"AUC {_SPLIT[split]}"] = [auc.get((level, split)) for level in order]
    return pa.table(columns)


def summary_text(summary: Summary, *, location: str) -> str:
    """Tell what a build did, in a line, and a line a failure."""
    counts = {
        "done": summary.done,
        "dead (the response never changes)": summary.dead,
        "failed": summary.failed,
        "lost with their workers": summary.lost,
        "stored before": summary.skipped,
        "left": summary.left,
    }
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "none"
    beside = [
        failed_starts_text(summary.failed_starts),
        images_left_out(summary.left_out),
        passed_over_text(summary.passed_over),
    ]
    further = "".join(f"; {part}" for part in beside if part)
    lines = [
        f"{_counted(summary)}: {told}; {size(summary.size_bytes)} written in "
        f"{summary.wall_s:.0f} s to {location}{further}"
    ]
    lines += [
        f"  failed: {r.key.layer} {r.of} {r.key.unit}: {r.kind}: {r.message}"
        for r in summary.failures
    ]
    more = summary.failed + summary.lost - len(summary.failures)
    if more:
        lines.append(f"  and {more} more failed: see `circuit-atlas status {location}`")
    return "\n".join(lines)


def failed_starts_text(count: int) -> str:
    """Tell how many workers did not start; empty where all did."""
    return f"{count} worker{'' if count == 1 else 's'} did not start" if count else ""


def images_left_out(count: int) -> str:
    """Tell how many images cannot be read; empty where all can."""
    if not count:
        return ""
    return f"{count} image{'' if count == 1 else 's'} left out, which cannot be read"


def passed_over_text(passed_over: Mapping[str, int]) -> str:
    """Tell how many files beside the images are taken for none, by suffix, the most first; empty
    where there are none.

    >>> passed_over_text({".tga": 1, ".heic": 3})
    'passed over: 3 .heic, 1 .tga'
    """
    counts = sorted(passed_over.items(), key=lambda item: (-item[1], item[0]))
    text = ", ".join(f"{count} {suffix}" for suffix, count in counts)
    return text and f"passed over: {text}"


def _counted(summary: Summary) -> str:
    """What the counts of a run are of."""
    if not summary.channels:
        return "units"
    everything = summary.done + summary.dead + summary.failed + summary.lost + summary.skipped
    counts = {"unit": everything - summary.channels, "channel": summary.channels}
    return " and ".join(
        f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items() if count
    )
