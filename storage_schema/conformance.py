"""Whether a record fits the layer that it is to be stored in, looked at before anything is written.

What does not fit is a fault of the worker that made it, and would be stored for good: shapes,
dtypes, circuit sizes and the kernels that count are checked here, once.
"""

from __future__ import annotations

import numpy as np

from circuit_atlas.storage_schema.errors import QueryError, RecordError
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.records import CircuitRecord, CriterionRecord


def check_key(key: UnitKey, *, header: AtlasHeader, layer: LayerIndex) -> None:
    """Raise RecordError where the key names another model, another layer or no unit of it."""
    if (key.model, key.layer) != (header.model, layer.layer):
        raise RecordError(
            f"record of {key.model}/{key.layer} handed to the writer of "
            f"{header.model}/{layer.layer}: use the writer of its layer"
        )
    try:
        layer.unit(key.unit)
    except QueryError as error:
        raise RecordError(str(error)) from error


def check(record: CircuitRecord, *, header: AtlasHeader, layer: LayerIndex) -> None:
    """Raise RecordError where the record does not fit the header and the layer."""
    check_key(record.key, header=header, layer=layer)
    if not record.responses:
        _refuse(record, "no responses", "a row an image")
    if record.state == "dead":
        circuits = (record.criteria, record.faithfulness, record.subfeatures)
        maps = (record.contribution, record.response_maps)
        grouped = (record.groups, record.contrast)
        given = (*maps, record.image_sums)
        if any(circuits) or any(grouped) or any(rows is not None for rows in given):
            _refuse(record, "a dead unit with circuits", "responses alone")
        return
    names = tuple(criterion.name for criterion in record.criteria)
    if names != header.criteria:
        _refuse(record, f"criteria {names}", f"{header.criteria}")
    if not 1 <= record.kernels <= layer.index.size:
        _refuse(record, f"{record.kernels} kernels", f"1 to {layer.index.size}")
    _check_top_images(record, header, layer)
    for criterion in record.criteria:
        _check_scores(record, criterion, header, layer)
        _check_masks(record, criterion, header, layer)
        _check_image_scores(record, criterion, header, layer)
        _check_stability(record, criterion, header, layer)
        _check_group_levels(record, criterion, header, layer)
    _check_contribution(record, layer)
    _check_groups(record, header)
    _check_image_sums(record, header)


def _check_scores(
    record: CircuitRecord, criterion: CriterionRecord, header: AtlasHeader, layer: LayerIndex
) -> None:
    what = f"scores of {criterion.name}"
    expected = (header.runs(criterion.name), layer.index.size)
    _check_array(record, what, criterion.scores, np.float32, expected)
    if np.isinf(criterion.scores).any():
        _refuse(record, f"{what} with an infinity", "finite numbers, or NaN out of reach")
    reached = ~np.isnan(criterion.scores)
    counts = reached.sum(axis=1)
    if (counts != record.kernels).any() or (reached != reached[0]).any():
        _refuse(
            record,
            f"{what} for {counts.tolist()} kernels",
            f"the same {record.kernels} in every run, NaN for the kernels out of reach",
        )


def _check_masks(
    record: CircuitRecord, criterion: CriterionRecord, header: AtlasHeader, layer: LayerIndex
) -> None:
    what = f"masks of {criterion.name}"
    expected = (len(header.fractions), layer.index.size)
    _check_array(record, what, criterion.masks, np.bool_, expected)
    if (criterion.masks & np.isnan(criterion.scores[0])).any():
        _refuse(record, f"{what} with kernels out of reach", "only kernels that have a score")
    kept = criterion.masks.sum(axis=1).tolist()
    wanted = [max(1, round(fraction * record.kernels)) for fraction in header.fractions]
    if kept != wanted:
        _refuse(record, f"{what} of {kept} kernels", f"{wanted}")


def _check_image_scores(
    record: CircuitRecord, criterion: CriterionRecord, header: AtlasHeader, layer: LayerIndex
) -> None:
    what = f"image scores of {criterion.name}"
    scores = criterion.image_scores
    if (scores is not None) != (criterion.name in header.image_criteria):
        has = "none" if scores is None else "some"
        _refuse(record, f"{has} {what}", f"them for {header.image_criteria} alone")
    if scores is None:
        return
    _check_array(record, what, scores, np.float32, (len(_top(record)), layer.index.size))
    reached = ~np.isnan(criterion.scores[0])
    if (np.isnan(scores) == reached).any():
        _refuse(record, f"{what} with NaN elsewhere than its scores", "NaN out of reach alone")
    if not (np.isfinite(scores[:, reached]).all() and (scores[:, reached] >= 0).all()):
        _refuse(record, f"{what} below zero or infinite", "finite numbers of at least 0")


def _check_stability(
    record: CircuitRecord, criterion: CriterionRecord, header: AtlasHeader, layer: LayerIndex
) -> None:
    what = f"stability of {criterion.name}"
    counts, draws = criterion.stability, dict(header.redrawn).get(criterion.name)
    if (counts is not None) != (draws is not None):
        has = "none" if counts is None else "some"
        _refuse(record, f"{has} {what}", f"it for {[name for name, _ in header.redrawn]} alone")
    if counts is None or draws is None:
        return
    shape = (len(header.fractions), layer.index.size)
    _check_array(record, what, counts, np.uint8, shape)
    held = counts.sum(axis=1, dtype=np.int64)
    wanted = draws * criterion.masks.sum(axis=1)
    if (counts > draws).any() or (held != wanted).any():
        _refuse(record, f"{what} of {held.tolist()} kernels", f"{wanted.tolist()} in {draws} draws")


def _check_group_levels(
    record: CircuitRecord, criterion: CriterionRecord, header: AtlasHeader, layer: LayerIndex
) -> None:
    what = f"circuits of groups of {criterion.name}"
    levels = criterion.group_levels
    count = len({row.group for row in record.groups if row.criterion == criterion.name})
    if (levels is not None) != (criterion.name in header.grouped and count > 1):
        has = "no" if levels is None else "some"
        _refuse(record, f"{has} {what}", f"them for {header.grouped} alone, and several groups")
    if levels is None:
        return
    _check_array(record, what, levels, np.uint8, (count, layer.index.size))
    if (levels[:, np.isnan(criterion.scores[0])] > 0).any():
        _refuse(record, f"{what} with kernels out of reach", "only kernels that have a score")
    kept = [(levels > level).sum(axis=1).tolist() for level in range(len(header.fractions))]
    wanted = [[size] * count for size in criterion.masks.sum(axis=1).tolist()]
    if kept != wanted:
        _refuse(record, f"{what} of {kept} kernels", f"{wanted}")


def _check_contribution(record: CircuitRecord, layer: LayerIndex) -> None:
    values = record.contribution
    _check_array(record, "contribution", values, np.float32, (layer.index.size,))
    reached = ~np.isnan(record.criteria[0].scores[0])
    if values is not None and (np.isfinite(values) != reached).any():
        _refuse(record, "contribution that is not finite", "finite numbers, NaN out of reach alone")


def _check_top_images(record: CircuitRecord, header: AtlasHeader, layer: LayerIndex) -> None:
    ranks = sorted(row.rank for row in record.responses if row.rank is not None)
    if ranks != list(range(len(ranks))) or not 1 <= len(ranks) <= header.top_images:
        _refuse(record, f"top images of ranks {ranks}", f"0, 1, ... below {header.top_images}")
    shape = (len(ranks), layer.height, layer.width)
    _check_array(record, "response maps", record.response_maps, np.float32, shape)


def _check_image_sums(record: CircuitRecord, header: AtlasHeader) -> None:
    if record.image_sums is None:
        return
    circuits = len(header.criteria) * len(header.ablations) * len(header.fractions)
    expected = circuits * len(record.responses)
    if record.image_sums.num_rows != expected:
        _refuse(record, f"{record.image_sums.num_rows} rows of image sums", f"{expected}")


def _check_groups(record: CircuitRecord, header: AtlasHeader) -> None:
    """Every top image is in one group of each criterion that has groups; contrast is of groups and
    images that are there."""
    counts = {}
    for name in header.group_criteria:
        rows = [row for row in record.groups if row.criterion == name]
        found = {row.group for row in rows}
        if (
            sorted(row.image for row in rows) != _top(record)
            or found != set(range(len(found)))
            or any(row.groups != len(found) for row in rows)
        ):
            _refuse(
                record, f"groups of {name} over other images", "each top image in one of 0, 1, ..."
            )
        counts[name] = len(found)
    if any(row.criterion not in counts for row in record.groups):
        _refuse(record, "groups of other criteria", f"{header.group_criteria}")
    if any(not 0 <= row.group < counts.get(row.criterion, 0) for row in record.contrast):
        _refuse(record, "contrast of a group that is not there", f"groups below {counts}")


def _top(record: CircuitRecord) -> list[int]:
    """Ids of the top images, ascending."""
    return sorted(row.image for row in record.responses if row.rank is not None)


def _check_array(
    record: CircuitRecord, what: str, values: object, dtype: type, shape: tuple[int, ...]
) -> None:
    if not isinstance(values, np.ndarray) or values.dtype != dtype or values.shape != shape:
        found = (
            f"{values.dtype} {values.shape}"
            if isinstance(values, np.ndarray)
            else type(values).__name__
        )
        _refuse(record, f"{what} as {found}", f"{np.dtype(dtype)} {shape}")


def _refuse(record: CircuitRecord, found: str, expected: str) -> None:
    raise RecordError(f"{record.key} has {found}: expected {expected}; this is a fault of ours")
