"""The sections of a report that say what a comparison found, and how it was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from circuit_atlas.service.comparison.findings import Findings, Subject
from circuit_atlas.service.comparison.line_chart import LineChart, Series, percent
from circuit_atlas.service.comparison.query import RANDOM
from circuit_atlas.service.comparison.report import Charts, Grid, Section, Text
from circuit_atlas.service.comparison.tables import TIE
from circuit_atlas.storage_schema.segments import escape

_SPLITS = {"held_out": "held-out", "scoring": "scoring"}
Row = Mapping[str, Any]


def sections(found: Findings, *, prefix: str = "") -> tuple[Section, ...]:
    """Say what was found in one layer; `prefix` stands before each heading but the first."""
    subject = found.subject
    return (
        Section(subject.layer, [Text(headline(found)), Text(_about(subject)), *_notes(found)]),
        Section(f"{prefix}How much circuits of each size preserve", list(_by_size(found))),
        Section(f"{prefix}Over all sizes", list(_over_sizes(found))),
        Section(f"{prefix}Silent circuits, and kernels that act", list(_silent(found))),
        Section(f"{prefix}Cost", [_cost(found)]),
    )


def method(subject: Subject) -> Section:
    """Say how all of it is measured."""
    return Section(
        "How this is measured",
        [
            Text(
                "r is Pearson's correlation between a unit's response in its circuit and in the "
                "whole network, over all positions of all images of a set; where one of the two is "
                "constant, as in a silent circuit, it is undefined and counts as 0. No scoring "
                "image is held out, and no held-out image chose a kernel."
            ),
            Text(
                "Circuits of the same fraction have the same number of kernels of a unit, whoever "
                "chose them; random is one draw a unit. The area is that under r over the "
                "logarithm of the kept fraction, divided by that of r = 1 throughout. "
                f"Values that differ by less than {TIE:g} are tied."
            ),
            Text(
                f"Intervals are of 95 %, by the percentile bootstrap (Efron 1979) with "
                f"{subject.draws:,} draws, seed {subject.seed}. Over units: how the median changes "
                "where other units of the layer are drawn, the images being these. Over images: "
                "where other images are drawn, the units and their circuits being these. Each "
                "interval is for itself; over few units it is rough."
            ),
            Text(
                "Cost is the time that choosing a unit's circuits of all fractions took its "
                "worker: of work that units share, the unit's share; of work that criteria share, "
                "all of it for each of them."
            ),
        ],
    )


def headline(found: Findings) -> str:
    """Say in a sentence what circuits of one size preserve, the best criterion first."""
    subject = found.subject
    rows = [
        row
        for row in found.table.to_pylist()
        if (row["split"], row["level"]) == (subject.split, subject.level)
    ]
    rows.sort(key=lambda row: -row["median"])
    said = [f"{_with_interval(row, 'median')} by {row['criterion']}" for row in rows]
    return (
        f"Circuits that keep {percent(subject.fraction)} of the kernels have a median r on "
        f"{_SPLITS[subject.split]} images of {', '.join(said[:-1])} and {said[-1]}."
    )


def figure_name(subject: Subject, what: str) -> str:
    """Name the file of one of a layer's charts, without its ending."""
    return f"{escape(subject.layer)}-{what}"


def _about(subject: Subject) -> str:
    images = " and ".join(
        f"{count} {_SPLITS[split]}" for split, count in sorted(subject.images.items(), reverse=True)
    )
    dropped = {"zero": "zero", "mean": "their mean"}[subject.ablation]
    connected = ", circuits connected" if subject.connected else ""
    return (
        f"{_count(subject.units, 'unit')} of {subject.layer} of {subject.model}, on {images} "
        f"images; response: {subject.explained}; dropped kernels are set to {dropped}{connected}."
    )


def _notes(found: Findings) -> list[Text]:
    return [Text(note) for note in found.notes]


def _by_size(found: Findings) -> Iterator[Charts | Grid]:
    subject, rows = found.subject, found.table.to_pylist()
    yield Charts(
        [
            (
                figure_name(subject, f"r-{_SPLITS[split]}"),
                _chart(found, split, "median", f"Median r on {_SPLITS[split]} images", "units"),
                "Lines: median over units. Bands: 95 % interval over units.",
            )
            for split in subject.images
        ]
    )
    for split in subject.images:
        at = {(row["criterion"], row["level"]): row for row in rows if row["split"] == split}
        for ends, what in (("units", "units"), ("images", "images")):
            if any(row[f"low_{ends}"] is not None for row in at.values()) or ends == "units":
                yield _sizes(subject, at, ends, f"{_SPLITS[split]} images, intervals over {what}")
        yield Grid(
            f"Units for which a criterion is the best alone (and those tied for it), "
            f"{_SPLITS[split]} images",
            ["kept", *subject.criteria],
            [
                [
                    percent(fraction),
                    *(_best(at[name, level]) for name in subject.criteria),
                ]
                for level, fraction in enumerate(subject.fractions)
            ],
        )


def _sizes(subject: Subject, at: Mapping[tuple[str, int], Row], ends: str, what: str) -> Grid:
    return Grid(
        f"Median r, {what}",
        ["kept", *subject.criteria],
        [
            [
                percent(fraction),
                *(_with_interval(at[name, level], "median", ends) for name in subject.criteria),
            ]
            for level, fraction in enumerate(subject.fractions)
        ],
    )


def _chart(found: Findings, split: str, key: str, title: str, ends: str | None) -> LineChart:
    """A line for each criterion; `ends`: what its band is over, None where it has none."""
    subject = found.subject
    rows = [row for row in found.table.to_pylist() if row["split"] == split]
    series = []
    for name in subject.criteria:
        own = [row for row in rows if row["criterion"] == name]
        low, high = (
            [None if ends is None else row[f"{end}_{ends}"] for row in own]
            for end in ("low", "high")
        )
        series.append(Series(name, [row[key] for row in own], low, high, floor=name == RANDOM))
    return LineChart(f"{title}, {subject.layer}", subject.fractions, series)


def _over_sizes(found: Findings) -> Iterator[Grid]:
    for split in found.subject.images:
        rows = [row for row in found.areas.to_pylist() if row["split"] == split]
        yield Grid(
            f"Area under r over the logarithm of the kept fraction, {_SPLITS[split]} images",
            ["criterion", "area", "over units", "over images", "best", "tied for it"],
            [
                [
                    row["criterion"],
                    _number(row["area"]),
                    _interval(row, "units"),
                    _interval(row, "images"),
                    str(row["best"]),
                    str(row["tied"]),
                ]
                for row in rows
            ],
        )
        rows = [row for row in found.pairs.to_pylist() if row["split"] == split]
        yield Grid(
            f"Differences of the areas unit by unit, {_SPLITS[split]} images",
            ["criteria", "difference", "over units", "over images", "better", "worse", "tied"],
            [
                [
                    f"{row['criterion']} against {row['other_criterion']}",
                    _number(row["difference"]),
                    _interval(row, "units"),
                    _interval(row, "images"),
                    *(str(row[key]) for key in ("better", "worse", "tied")),
                ]
                for row in rows
            ],
        )


def _silent(found: Findings) -> Iterator[Charts | Grid]:
    subject = found.subject
    if found.table["acting"].null_count < len(found.table):
        chart = _chart(found, subject.split, "acting", "Share of the kernels kept that act", None)
        said = "Median over units: kernels on a path of kept ones from the image to the unit."
        yield Charts([(figure_name(subject, "acting"), chart, said)])
    rows = [row for row in found.table.to_pylist() if row["split"] == subject.split]
    at = {(row["criterion"], row["level"]): row for row in rows}
    for key, what, say in (
        ("silent", f"Silent circuits of {_count(subject.units, 'unit')}", _whole),
        ("acting", "Share of the kernels kept that act, median over units", _number),
    ):
        yield Grid(
            f"{what}, {_SPLITS[subject.split]} images" if key == "silent" else what,
            ["kept", *subject.criteria],
            [
                [percent(fraction), *(say(at[name, level][key]) for name in subject.criteria)]
                for level, fraction in enumerate(subject.fractions)
            ],
        )


def _cost(found: Findings) -> Grid:
    return Grid(
        "Time that choosing the circuits of all fractions took",
        ["criterion", "seconds a unit, median", "seconds in all", "units"],
        [
            [
                row["criterion"],
                _seconds(row["median_s"]),
                _seconds(row["total_s"]),
                str(row["units"]),
            ]
            for row in found.cost.to_pylist()
        ],
    )


def _best(row: Row) -> str:
    return f"{row['best']} ({row['tied']})" if row["tied"] else str(row["best"])


def _with_interval(row: Row, key: str, ends: str = "units") -> str:
    interval = _interval(row, ends)
    return f"{_number(row[key])}{f' ({interval})' if interval != '–' else ''}"


def _interval(row: Row, ends: str) -> str:
    low, high = row[f"low_{ends}"], row[f"high_{ends}"]
    return "–" if low is None or high is None else f"{_number(low)} to {_number(high)}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    text = f"{abs(value):.2f}"
    return f"−{text}" if value < 0 and float(text) else text


def _whole(value: int | None) -> str:
    return "–" if value is None else str(value)


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def titled(models: Sequence[str]) -> str:
    """Title a report of some layers, by their models."""
    return f"Criteria compared: {', '.join(dict.fromkeys(models))}"
