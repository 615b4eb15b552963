"""One task of feature visualizations, from its units to the images in the store."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from circuit_atlas.jobs.tasks.beating import Beating
from circuit_atlas.jobs.tasks.plan import Task
from circuit_atlas.jobs.tasks.progress import Progress
from circuit_atlas.jobs.tasks.unit_loop import run_units
from circuit_atlas.jobs.tasks.units import failure
from circuit_atlas.jobs.tasks.worker_job import PreparedWorker, WorkerJob
from circuit_atlas.jobs.visualization.ascent import (
    START,
    Recipe,
    make_visualizations,
    read_visualization,
    seed_of,
)
from circuit_atlas.jobs.visualization.attempt import Attempt
from circuit_atlas.jobs.visualization.batches import BatchOpener, VisualizationBatch
from circuit_atlas.jobs.visualization.variants import Variant, groups_of, variants_of_unit
from circuit_atlas.storage_schema.errors import (
    InfrastructureError,
    InputError,
    StoreError,
    UnitError,
)
from circuit_atlas.storage_schema.keys import UnitKey, Whose
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord, Receipt
from circuit_atlas.storage_schema.template import check_same
from circuit_atlas.storage_schema.visualizations import OBJECTIVE, FeatureRecord, FeatureWriter
from circuit_atlas.storage_schema.wording import one_line

# Each attempt after one that stayed grey starts from noise so much stronger: grey may be where a
# ReLU passes nothing, so that there is nothing to climb.
_LOUDER = 10.0


class VisualizationJob(WorkerJob):
    """What a worker that makes feature visualizations is made from."""

    def open(self) -> VisualizationWorker:
        """Opens the worker, in the process that calls.

        Raises:
            InputError: the spec cannot be used here.
            StoreError: there is no atlas, or one of other weights, images or settings.
        """
        return VisualizationWorker(self.prepare())


class VisualizationWorker:
    """Makes visualizations and writes them; keeps the model and the images between tasks."""

    fatal: tuple[type[Exception], ...] = (StoreError, InfrastructureError, InputError)

    def __init__(self, prepared: PreparedWorker) -> None:
        """Opens the atlas; MismatchError where it is of other weights, images or settings."""
        self._opened = prepared.opened
        self._reader = Reader(prepared.objects)
        header = self._reader.header
        check_same(header, prepared.header, location=prepared.objects.location)
        self._units_of_spec: dict[str, frozenset[int]] = {}
        self._writer = FeatureWriter(prepared.objects)
        self.progress = Progress()
        self._beating = Beating(prepared.objects, self.progress, "features")
        self._batches = BatchOpener(self._opened, header, budget_bytes=prepared.budget_bytes)

    def run(self, task: Task) -> tuple[Receipt, ...]:
        """Stores every visualization that a unit of the task lacks, or records the unit as failed:
        one receipt a unit.

        All visualizations of the task are made together. An error of one unit is that unit's alone;
        errors of the store, of the spec or of the machine are raised.
        """
        self.progress.begin(task.of)
        with self._beating.during(task):
            return run_units(task.units, self)

    def units_together(self, keys: Sequence[UnitKey]) -> int:
        """Says that all do: how many go through the network at one time is settled later."""
        return len(keys)

    def halve(self, keys: Sequence[UnitKey], error: Exception) -> None:
        """Uses half of the memory from now on; InfrastructureError where there is no half."""
        del keys
        if not self._batches.halve():
            raise InfrastructureError(
                f"memory ran out with one visualization at a time ({one_line(error)}); use "
                "fewer workers, or a machine with more memory"
            ) from error

    def fail(self, record: FailureRecord) -> Receipt:
        """Records a unit as failed."""
        return self._writer.fail(record)

    def compute(self, keys: Sequence[UnitKey]) -> list[Receipt]:
        """Makes and stores the visualizations that these units of one layer lack."""
        stored: dict[UnitKey, list[FeatureRecord]] = {key: [] for key in keys}
        faults: dict[UnitKey, UnitError] = {}
        lacking = self._lacking(keys)
        # A channel that the spec names no unit of is a node: its visualization takes other steps.
        for node in (False, True):
            started = time.perf_counter()
            variants = [each for key in keys if self._is_node(key) is node for each in lacking[key]]
            if not variants:
                continue
            batch = self._batches.open(keys[0].layer, variants, node=node)
            best = self._best_attempts(batch, node=node)
            each_s = (time.perf_counter() - started) / len(variants)
            for row, (variant, attempt) in enumerate(zip(variants, best, strict=True)):
                of: Whose = "channel" if node else "unit"
                fault = attempt.fault(variant, of, tries=self._opened.spec.features.tries)
                if fault is not None:
                    faults.setdefault(variant.key, fault)
                    continue
                record = self._record(batch, row, attempt, each_s)
                stored[variant.key].append(self._writer.commit(record, attempt.made.png))
        return [
            self._writer.fail(failure(key, faults[key]))
            if key in faults
            else _receipt(key, stored[key])
            for key in keys
        ]

    def _lacking(self, keys: Sequence[UnitKey]) -> dict[UnitKey, list[Variant]]:
        stored = self._reader.feature_variants(keys[0].layer)
        return {
            key: [each for each in self._variants(key) if each.name not in stored.get(key.unit, ())]
            for key in keys
        }

    def _is_node(self, key: UnitKey) -> bool:
        if key.unit not in self._asked_for(key.layer):
            return True
        commit = self._reader.commit(key.layer, key.unit)
        return commit is None or commit.state != "done"

    def _asked_for(self, layer: str) -> frozenset[int]:
        """The units that the spec names of a layer; none of what is no layer of it."""
        if layer not in self._units_of_spec:
            table = self._opened.spec.layer(layer)
            units: tuple[int, ...] = ()
            if table is not None:
                opened = self._opened.layer(layer)
                units = table.resolve(opened.index.channels, len(opened.directions))
            self._units_of_spec[layer] = frozenset(units)
        return self._units_of_spec[layer]

    def _variants(self, key: UnitKey) -> tuple[Variant, ...]:
        commit = None if self._is_node(key) else self._reader.commit(key.layer, key.unit)
        if commit is None:
            return (Variant(key, "positive"),)
        spec = self._opened.spec.features
        groups = groups_of(self._reader, commit, spec)
        return variants_of_unit(self._reader, commit, spec, groups=groups)

    def _best_attempts(self, batch: VisualizationBatch, *, node: bool) -> list[Attempt]:
        """The best attempt at each visualization. One that is fit and beats every image, or cannot,
        is not tried again; a later attempt starts from other noise, which is stronger where the
        last one stayed grey, and takes twice the steps."""
        spec = self._opened.spec.features
        best: dict[int, Attempt] = {}
        left = list(range(len(batch.variants)))
        for number in range(spec.tries):
            grey = [row for row in left if number and best[row].margin == -math.inf]
            others = [row for row in left if row not in grey]
            for rows, start in ((others, START), (grey, START * _LOUDER**number)):
                if not rows:
                    continue
                recipe = Recipe(
                    size=batch.size,
                    steps=(spec.node_steps if node else spec.steps) << number,
                    learning_rate=spec.learning_rate,
                    mean=self._opened.images.mean,
                    std=self._opened.images.std,
                    start=start,
                )
                attempts = self._attempt(batch, rows, recipe, number)
                for row, attempt in zip(rows, attempts, strict=True):
                    if row not in best or attempt.margin > best[row].margin:
                        best[row] = attempt
            left = [row for row in left if best[row].margin <= 0 and not best[row].settled]
            if not left:
                break
        return [best[row] for row in range(len(batch.variants))]

    def _attempt(
        self, batch: VisualizationBatch, rows: Sequence[int], recipe: Recipe, number: int
    ) -> list[Attempt]:
        """One attempt at the variants in those rows of the batch, each judged as it would be
        stored: encoded, decoded and run again."""
        device = self._opened.device
        objective = batch.objective(rows)
        self.progress.step(f"ascent {number + 1}" if number else "ascent", recipe.steps)

        def gradient(images: Tensor) -> Tensor:
            self.progress.advance()
            return objective.gradient(images)

        seed = self._opened.spec.features.seed + number
        variants = [batch.variants[row] for row in rows]
        made = make_visualizations(
            gradient,
            # One start for all visualizations of a unit: they differ by circuit or sign alone.
            [seed_of(seed, each.key.layer, each.key.unit) for each in variants],
            recipe,
            device=device,
            transform_seed=seed_of(seed),
        )
        stored = torch.cat([read_visualization(each.png, recipe, device) for each in made])
        responses = objective.values(stored).tolist()
        return [
            Attempt(
                made=made[n],
                response=responses[n],
                beyond=batch.margin(row, responses[n]),
                negative=variants[n].sign == "negative",
                seed=seed,
                steps=recipe.steps,
                tries=number + 1,
            )
            for n, row in enumerate(rows)
        ]

    def _record(
        self, batch: VisualizationBatch, row: int, attempt: Attempt, compute_s: float
    ) -> FeatureRecord:
        variant = batch.variants[row]
        image_response, image = batch.best_images[row]
        return FeatureRecord(
            model=variant.key.model,
            layer=variant.key.layer,
            unit=variant.key.unit,
            variant=variant.name,
            sign=variant.sign,
            circuit=variant.circuit,
            objective=OBJECTIVE,
            seed=attempt.seed,
            steps=attempt.steps,
            learning_rate=self._opened.spec.features.learning_rate,
            height=batch.size[0],
            width=batch.size[1],
            tries=attempt.tries,
            response=attempt.response,
            best_image_response=image_response,
            best_image=image,
            beats_images=attempt.beats_images,
            contrast=attempt.made.contrast,
            attempt=0,
            objects=(),
            compute_s=compute_s,
        )


def _receipt(key: UnitKey, records: Sequence[FeatureRecord]) -> Receipt:
    """The receipt of a unit all of whose visualizations are stored; `records` are this task's."""
    return Receipt(
        key=key,
        state="done",
        attempt=records[0].attempt if records else 0,
        size_bytes=sum(record.image.size_bytes for record in records),
        compute_s=sum(record.compute_s for record in records),
    )
