"""Scoring and evaluation, by the engine and by the slow reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from circuit_atlas.jobs.circuits.circuit_runs import CircuitRun, run_circuits
from circuit_atlas.jobs.circuits.masks import nested_masks
from circuit_atlas.jobs.engine.conv_gradients import site_passes
from circuit_atlas.jobs.engine.forward import Forward
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.scores.force import ForceRun, force_scores, schedule
from circuit_atlas.jobs.scores.over_images import BlockScores, score_images
from circuit_atlas.jobs.spec.circuits import FRACTIONS
from circuit_atlas.storage_schema.ranking import kernels_kept
from tests.benchmarks.limits import (
    backward_multiplications,
    circuit_multiplications,
    convolution_multiplications_a_second,
    masked_multiplications,
    multiplications_a_second,
)
from tests.benchmarks.measured import Peak, Row, best_s, once_s, spend
from tests.benchmarks.slow import best
from tests.benchmarks.subjects import BenchmarkSubject

STEPS = 10
KEPT = 0.1
# Operations by what bounds them.
_KINDS = {
    "convolutions": ("aten::mkldnn_convolution", "aten::convolution_backward"),
    "matrix products": ("aten::mm", "aten::bmm"),
    "moving and gating maps": tuple(
        f"aten::{name}"
        for name in (
            "abs abs_ add add_ cat clone copy_ fill_ gather gt index index_add_ mul mul_ "
            "scatter_add_ scatter_reduce_ sum zero_"
        ).split()
    ),
}
_OTHER = "all else, with Python's own time"
# As many as a task has; fewer where a layer's scores would not fit into memory.
_UNITS_TOGETHER = 16
_SCORES_BYTES = 1 << 30
_IMAGES_TOGETHER = 16


def scored(
    layer: TracedLayer,
    units: int,
    images: Tensor,
    criterion: str,
    *,
    together: int = _UNITS_TOGETHER,
) -> Iterator[tuple[range, BlockScores]]:
    """Per-image scores of all images, kept, a block of at most `together` units at a time."""
    bytes_a_unit = layer.upstream.index.size * 4 * (len(images) + 4)
    together = max(1, min(together, _SCORES_BYTES // bytes_a_unit))
    for start in range(0, units, together):
        numbers = range(start, min(start + together, units))
        yield (
            numbers,
            score_images(
                layer,
                numbers,
                images.split(min(_IMAGES_TOGETHER, together)),
                keep=dict.fromkeys(numbers, range(len(images))),
                criteria=[criterion],
                response="sum_abs",
                block=together,
            )[criterion],
        )


def actgrad(subject: BenchmarkSubject, *, units: int, images: int, slow: int) -> Row:
    """Activation x gradient, the backward pass within it, and the slow reference on some units."""
    pictures, layer = subject.pictures(images), subject.layer
    all_of_it = units * images
    spend(scored(layer, min(units, 4), pictures[:1], "actgrad"))
    peak = Peak()
    ours_s = once_s(lambda: spend(scored(layer, units, pictures, "actgrad")))
    peak_bytes = peak.bytes()
    rate = multiplications_a_second()
    with torch.no_grad():
        (forward,) = Forward.of_batch(layer.network, pictures[:1])
        block = range(min(units, _UNITS_TOGETHER))
        targets, rows = layer.targets(block), layer.unit_rows(block)
        back_s = best_s(
            lambda: spend(site_passes(forward, targets, "sum_abs", one_row=rows)), times=5
        )
    slow_s = best_s(lambda: subject.slow.actgrad(0, pictures[:1]), times=slow)
    multiplied = backward_multiplications(layer.network)
    fast_limit_s = multiplied / convolution_multiplications_a_second()
    return Row(
        work=f"actgrad, {subject.name}, {units} units x {images} images",
        of="unit and image",
        ours_s=ours_s / all_of_it,
        slow_s=slow_s,
        limit_s=multiplied / rate,
        part_s=back_s / len(block),
        peak_bytes=peak_bytes,
        facts={
            "billion multiply-adds a second of a large matrix product": rate / 1e9,
            "billion multiply-adds of the backward pass": multiplied / 1e9,
            "milliseconds of the backward pass": back_s / len(block) * 1e3,
            "share of the limit at the rate of a large 1 x 1 convolution": fast_limit_s
            / (back_s / len(block)),
            "kernels": layer.upstream.index.size,
        },
    )


def snip(subject: BenchmarkSubject, *, units: int, images: int, slow: int) -> Row:
    """Per-image SNIP against activation x gradient on the same."""
    pictures, layer = subject.pictures(images), subject.layer
    for criterion in ("actgrad", "snip"):
        spend(scored(layer, min(units, 4), pictures[:1], criterion))
    ours_s = once_s(lambda: spend(scored(layer, units, pictures, "snip")))
    actgrad_s = once_s(lambda: spend(scored(layer, units, pictures, "actgrad")))
    return Row(
        work=f"snip, {subject.name}, {units} units x {images} images",
        of="unit and image",
        ours_s=ours_s / units / images,
        slow_s=best_s(lambda: subject.slow.snip(0, pictures[:1]), times=slow),
        facts={"times actgrad": ours_s / actgrad_s},
    )


def force(subject: BenchmarkSubject, *, units: int, images: int, slow: int) -> Row:
    """FORCE of a block of units against one unit after the other, image by image."""
    pictures, layer = subject.pictures(images), subject.layer
    courses = []
    for unit in range(units):
        total = int(layer.reachable(unit).sum())
        courses.append(ForceRun(unit, schedule(kernels_kept(KEPT, total), total, STEPS)))

    def ours() -> None:
        force_scores(layer, courses, lambda: pictures.split(_IMAGES_TOGETHER), response="sum_abs")

    kept = courses[0].counts[-1]
    slow_s = once_s(lambda: subject.slow.force(0, pictures[:slow], kept=kept, steps=STEPS))
    passes = STEPS + 1
    return Row(
        work=f"force, T = {STEPS}, to {KEPT:g}, {subject.name}, {units} units x {images} images",
        of="unit, image and step",
        ours_s=once_s(ours) / units / images / passes,
        slow_s=slow_s / slow / passes,
        limit_s=masked_multiplications(layer.network) / multiplications_a_second(),
    )


def faithfulness(subject: BenchmarkSubject, *, units: int, images: int, slow: int) -> Row:
    """Maps of the circuits of a ladder against one masked network after the other."""
    pictures, layer = subject.pictures(images), subject.layer
    scores = [
        row
        for numbers, found in scored(layer, units, pictures[:2], "actgrad")
        for row in found.mean[: len(numbers)]
    ]
    with torch.no_grad():
        full = layer.network.output(pictures).transpose(0, 1).numpy()
    trials = [
        CircuitRun(unit, "zero", nested_masks(scores[unit], FRACTIONS), full[unit], range(images))
        for unit in range(units)
    ]

    def batches(places: object) -> Iterator[Tensor]:
        del places
        yield from pictures.split(_IMAGES_TOGETHER)

    # A few units at a time, as the tasks of a build: they share the first convolution.
    groups = [trials[n : n + _UNITS_TOGETHER] for n in range(0, units, _UNITS_TOGETHER)]
    ours_s = once_s(lambda: [run_circuits(layer, some, batches, means=None) for some in groups])

    # A circuit of all kernels is the network itself, and need not run.
    multiplied = sum(circuit_multiplications(layer, 0, mask) for mask in trials[0].masks[1:])
    worth = {
        c.name: torch.rand(c.out_channels, c.in_channels) for c in layer.index.index.convolutions
    }
    total = int(layer.reachable(0).sum())

    def loop() -> None:
        for fraction in FRACTIONS:
            masks = best(worth, 0, subject.layer_name, kernels_kept(fraction, total))
            for batch in pictures.split(_IMAGES_TOGETHER):
                subject.slow.output(batch, masks)

    return Row(
        work=f"faithfulness, {subject.name}, {units} units x {len(FRACTIONS)} fractions "
        f"x {images} images",
        of="unit, fraction and image",
        ours_s=ours_s / units / len(FRACTIONS) / images,
        slow_s=best_s(loop, times=slow) / len(FRACTIONS) / images,
        limit_s=multiplied / len(FRACTIONS) / multiplications_a_second(),
    )


def profile(subject: BenchmarkSubject, *, units: int) -> Row:
    """Where the time of scoring goes: of activation x gradient and SNIP, by kind of operation."""
    pictures, layer = subject.pictures(1), subject.layer
    facts: dict[str, float] = {}
    seconds = 0.0

    def timed(criterion: str) -> None:
        spend(scored(layer, units, pictures, criterion))

    for criterion in ("snip", "actgrad"):
        timed(criterion)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
            seconds = once_s(partial(timed, criterion))
        spent = dict.fromkeys(_KINDS, 0.0)
        for event in found.key_averages():
            for kind, names in _KINDS.items():
                if event.key in names:
                    spent[kind] += event.self_cpu_time_total / 1e3 / units
        spent[_OTHER] = seconds * 1e3 / units - sum(spent.values())
        facts |= {f"{criterion}, milliseconds of {kind}": ms for kind, ms in spent.items()}
    return Row(
        work=f"profile, {subject.name}, {units} units x 1 image",
        of="unit and image",
        ours_s=seconds / units,
        facts=facts,
    )


def growth(subject: BenchmarkSubject, *, units: tuple[int, ...], images: tuple[int, ...]) -> Row:
    """Seconds over units and over images, with the straight lines through them."""
    layer = subject.layer
    pictures = subject.pictures(max(images))
    fewest = units[0]
    spend(scored(layer, fewest, pictures[:1], "actgrad"))

    def timed(count: int, some: Tensor) -> float:
        return once_s(lambda: spend(scored(layer, count, some, "actgrad")))

    by_units = [timed(count, pictures[: images[0]]) for count in units]
    by_images = [timed(fewest, pictures[:count]) for count in images]
    facts = {}
    for axis, counts, seconds in (("unit", units, by_units), ("image", images, by_images)):
        slope, start, residual = straight_line(counts, seconds)
        facts[f"seconds a further {axis}"] = slope
        facts[f"seconds at no {axis}"] = start
        facts[f"largest residual over {axis}s, share"] = residual
    return Row(
        work=f"growth, {subject.name}, {fewest}-{units[-1]} units, {images[0]}-{images[-1]} images",
        of="unit and image",
        ours_s=facts["seconds a further unit"] / images[0],
        facts=facts,
    )


def straight_line(counts: tuple[int, ...], seconds: list[float]) -> tuple[float, float, float]:
    """Slope, value at 0, and the largest residual as a share of the measured value.

    The line has the smallest relative residuals, as a long run is not measured more exactly.
    """
    slope, start = np.polyfit(counts, seconds, 1, w=1 / np.asarray(seconds))
    line = slope * np.asarray(counts) + start
    return float(slope), float(start), float(np.abs(line / seconds - 1).max())


def places(subject: BenchmarkSubject, *, layers: tuple[str, ...], units: int) -> Row:
    """The backward pass of several layers as a share of the limit: all else that grows with the
    place of a layer would show."""
    shares = {}
    pictures = subject.pictures(1)
    rate = multiplications_a_second()
    seconds = 0.0
    for name in layers:
        at = BenchmarkSubject(subject.name, name, lambda: subject.module, subject.pictures)
        with torch.no_grad():
            (forward,) = Forward.of_batch(at.layer.network, pictures)
            targets, rows = at.layer.targets(range(units)), at.layer.unit_rows(range(units))
            passes = partial(site_passes, forward, targets, "sum_abs", one_row=rows)
            seconds = best_s(partial(_spend_on, passes), times=3)
        shares[f"share of the limit at {name}"] = (
            backward_multiplications(at.layer.network) / rate / (seconds / units)
        )
    return Row(
        work=f"backward pass by place, {subject.name.split()[0]}, {units} units",
        of="unit and image, last layer",
        ours_s=seconds / units,
        facts=shares,
    )


def _spend_on(pieces: Callable[[], Iterator[object]]) -> None:
    spend(pieces())
