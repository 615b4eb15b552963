"""One task of feature visualizations, from its units to their pictures in the store."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from circuit_atlas.jobs.network.allocator import keep_freed_memory
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.memory import default_budget, is_out_of_memory
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.tasks.plan import Task, resolve_source
from circuit_atlas.jobs.tasks.units import failure
from circuit_atlas.jobs.visualization.ascent import (
    START,
    Made,
    Recipe,
    make_pictures,
    read_picture,
    seed_of,
)
from circuit_atlas.jobs.visualization.batches import Subjects, VisualizationBatch
from circuit_atlas.jobs.visualization.variants import Variant, aims_of_unit, groups_of
from circuit_atlas.storage_schema.errors import (
    InfrastructureError,
    InputError,
    NonFiniteError,
    StoreError,
    UnitError,
)
from circuit_atlas.storage_schema.keys import UnitKey, Whose
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import Receipt
from circuit_atlas.storage_schema.template import check_same
from circuit_atlas.storage_schema.visualizations import OBJECTIVE, FeatureRecord, FeatureWriter
from circuit_atlas.storage_schema.wording import one_line

# Root mean square distance from mid-grey, and from its start, below which a picture shows nothing:
# it starts with .01.
_GREY = 0.05
# Each try after one that stayed grey starts from noise so much stronger: grey may be where a ReLU
# passes nothing, so that there is nothing to climb.
_LOUDER = 10.0


@dataclass(frozen=True)
class FeatureJob:
    """All that a worker of feature visualizations needs to start; see `worker.WorkerJob`."""

    spec: BuildSpec
    workers: int

    @property
    def threads(self) -> int:
        """Threads that the worker computes with."""
        return self.spec.run.threads

    def open(self) -> FeatureWorker:
        """The worker, in the process that calls."""
        return FeatureWorker(self)


@dataclass(frozen=True)
class _Attempt:
    """A picture, how well it does, and how it was made.

    Attributes:
        made: the picture.
        response: the objective at it as stored.
        beyond: by how much that is beyond every photo's, in the direction of the aim.
        negative: whether it is made for the smallest response.
        seed, steps, tries: see `FeatureRecord`.
    """

    made: Made
    response: float
    beyond: float
    negative: bool
    seed: int
    steps: int
    tries: int

    @property
    def beats(self) -> bool:
        """Whether it drives the unit more than any photo."""
        return self.beyond > 0

    @property
    def margin(self) -> float:
        """What the better try has more of; below every number for one that cannot be stored."""
        return self.beyond if self.made.finite and self._shows else -math.inf

    @property
    def _shows(self) -> bool:
        least = min(self.made.contrast, self.made.change)
        return math.isfinite(self.response) and (least >= _GREY or self.settled)

    @property
    def settled(self) -> bool:
        """Whether grey is the answer: nothing gives a smaller response than the start did, as where
        a layer ends in a ReLU, and no photo does."""
        return self.negative and self.beyond >= 0

    def fault(self, aim: Variant, of: Whose, *, tries: int) -> UnitError | None:
        """Why it cannot be stored, if it cannot, where it is the best of all tries."""
        what = (
            f"picture {aim.variant!r} of {of} {aim.key.unit} of {aim.key.layer!r}, the best of "
            f"{tries} tries"
        )
        if not (self.made.finite and math.isfinite(self.response)):
            return NonFiniteError(f"{what}, is or gives NaN or infinity: look at the weights")
        if not self._shows:
            steps = "node_steps" if of == "channel" else "steps"
            return UnitError(
                f"{what}, is all but grey (contrast {self.made.contrast:.3f}, at least {_GREY} is "
                "asked for): the response may not depend on the image; else raise "
                f"features.{steps}"
            )
        return None


class FeatureWorker:
    """Makes pictures and writes them; keeps the model and the images between tasks."""

    def __init__(self, job: FeatureJob) -> None:
        """Loads the model and the images and opens the atlas.

        Raises:
            InputError: the spec cannot be used here.
            StoreError: there is no atlas, or one of other weights, images or settings.
        """
        torch.set_num_threads(job.threads)
        keep_freed_memory()
        tf32 = job.spec.circuits.precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
        self._source = OpenedSpec(job.spec)
        self._objects = open_store(job.spec.run.store)
        self._reader = Reader(self._objects)
        build = resolve_source(self._source)
        check_same(self._reader.header, build.header, place=self._objects.place)
        self._asked = {layer: set(numbers) for layer, numbers in build.plan.units}
        self._writer = FeatureWriter(self._objects)
        run = self._source.spec.run
        budget = run.memory_bytes or default_budget(
            self._source.device, workers=job.workers, threads=job.threads
        )
        self._subjects = Subjects(self._source, self._reader.header, budget_bytes=budget)

    def run(self, task: Task) -> tuple[Receipt, ...]:
        """Every picture that a unit of the task lacks, stored or recorded as failed: one receipt a
        unit.

        All pictures of the task are made together. An error of one unit is that unit's alone;
        errors of the store, of the spec or of the machine are raised.
        """
        receipts: dict[UnitKey, Receipt] = {}
        waiting = deque([task.units])
        while waiting:
            group = waiting.popleft()
            try:
                for receipt in self._make(group):
                    receipts[receipt.key] = receipt
            except (StoreError, InfrastructureError, InputError):
                raise
            except Exception as error:
                left = tuple(key for key in group if key not in receipts)
                if is_out_of_memory(error):
                    if not self._subjects.halve():
                        raise InfrastructureError(
                            f"memory ran out with one picture at a time ({one_line(error)}); use "
                            "fewer workers, or a machine with more memory"
                        ) from error
                    waiting.appendleft(left)
                elif len(left) == 1:
                    receipts[left[0]] = self._writer.fail(failure(left[0], error))
                else:
                    waiting.extendleft((key,) for key in reversed(left))
        return tuple(receipts[key] for key in task.units)

    def _make(self, keys: Sequence[UnitKey]) -> list[Receipt]:
        """The pictures that these units of one layer lack."""
        started = time.perf_counter()
        layer = keys[0].layer
        has = self._reader.feature_variants(layer)
        lacking = {
            key: [aim for aim in self._aims(key) if aim.variant not in has.get(key.unit, ())]
            for key in keys
        }
        stored: dict[UnitKey, list[FeatureRecord]] = {key: [] for key in keys}
        faults: dict[UnitKey, UnitError] = {}
        # A channel that the spec names no unit of is a node: its pictures take other steps.
        for node in (False, True):
            aims = [aim for key in keys if self._is_node(key) is node for aim in lacking[key]]
            if not aims:
                continue
            subject = self._subjects.open(layer, aims, node=node)
            best = self._tried(subject, node=node)
            each_s = (time.perf_counter() - started) / len(aims)
            for place, (aim, attempt) in enumerate(zip(aims, best, strict=True)):
                of: Whose = "channel" if node else "unit"
                fault = attempt.fault(aim, of, tries=self._source.spec.features.tries)
                if fault is not None:
                    faults.setdefault(aim.key, fault)
                    continue
                record = self._record(subject, place, attempt, each_s)
                stored[aim.key].append(self._writer.commit(record, attempt.made.png))
            started = time.perf_counter()
        return [
            self._writer.fail(failure(key, faults[key]))
            if key in faults
            else _receipt(key, stored[key])
            for key in keys
        ]

    def _is_node(self, key: UnitKey) -> bool:
        if key.unit not in self._asked.get(key.layer, ()):
            return True
        commit = self._reader.commit(key.layer, key.unit)
        return commit is None or commit.state != "done"

    def _aims(self, key: UnitKey) -> tuple[Variant, ...]:
        commit = None if self._is_node(key) else self._reader.commit(key.layer, key.unit)
        if commit is None:
            return (Variant(key, "positive"),)
        spec = self._source.spec.features
        groups = groups_of(self._reader, commit, spec)
        return aims_of_unit(self._reader, commit, spec, groups=groups)

    def _tried(self, subject: VisualizationBatch, *, node: bool) -> list[_Attempt]:
        """The best try at each picture. One that is fit and beats every photo, or cannot, is not
        tried again; a later try starts from other noise, which is stronger where the picture stayed
        grey, and takes twice the steps."""
        spec = self._source.spec.features
        best: dict[int, _Attempt] = {}
        left = list(range(len(subject.aims)))
        for number in range(spec.tries):
            grey = [place for place in left if number and best[place].margin == -math.inf]
            others = [place for place in left if place not in grey]
            for places, start in ((others, START), (grey, START * _LOUDER**number)):
                if not places:
                    continue
                recipe = Recipe(
                    size=subject.size,
                    steps=(spec.node_steps if node else spec.steps) << number,
                    learning_rate=spec.learning_rate,
                    mean=self._source.preprocessing.mean,
                    std=self._source.preprocessing.std,
                    start=start,
                )
                tried = self._try(subject, places, recipe, number)
                for place, attempt in zip(places, tried, strict=True):
                    if place not in best or attempt.margin > best[place].margin:
                        best[place] = attempt
            left = [place for place in left if best[place].margin <= 0 and not best[place].settled]
            if not left:
                break
        return [best[place] for place in range(len(subject.aims))]

    def _try(
        self, subject: VisualizationBatch, places: Sequence[int], recipe: Recipe, number: int
    ) -> list[_Attempt]:
        """One try at the pictures for the aims at those places, each judged as it would be stored:
        encoded, decoded and run again."""
        device = self._source.device
        objective = subject.objective(places)
        seed = self._source.spec.features.seed + number
        keys = [subject.aims[place].key for place in places]
        made = make_pictures(
            objective.gradient,
            # One start for all pictures of a unit: what differs comes of the circuit or the sign.
            [seed_of(seed, key.layer, key.unit) for key in keys],
            recipe,
            device=device,
            transform_seed=seed_of(seed),
        )
        stored = torch.cat([read_picture(one.png, recipe, device) for one in made])
        responses = objective.values(stored).tolist()
        return [
            _Attempt(
                made=one,
                response=response,
                beyond=subject.margin(place, response),
                negative=subject.aims[place].sign == "negative",
                seed=seed,
                steps=recipe.steps,
                tries=number + 1,
            )
            for place, one, response in zip(places, made, responses, strict=True)
        ]

    def _record(
        self, subject: VisualizationBatch, place: int, attempt: _Attempt, compute_s: float
    ) -> FeatureRecord:
        aim = subject.aims[place]
        photo_response, photo = subject.photos[place]
        return FeatureRecord(
            model=aim.key.model,
            layer=aim.key.layer,
            unit=aim.key.unit,
            variant=aim.variant,
            sign=aim.sign,
            circuit=aim.circuit,
            objective=OBJECTIVE,
            seed=attempt.seed,
            steps=attempt.steps,
            learning_rate=self._source.spec.features.learning_rate,
            height=subject.size[0],
            width=subject.size[1],
            tries=attempt.tries,
            response=attempt.response,
            photo_response=photo_response,
            photo=photo,
            beats_photos=attempt.beats,
            contrast=attempt.made.contrast,
            attempt=0,
            objects=(),
            compute_s=compute_s,
        )


def _receipt(key: UnitKey, records: Sequence[FeatureRecord]) -> Receipt:
    """Of a unit all whose pictures are stored, those of this task given."""
    return Receipt(
        key=key,
        state="done",
        attempt=records[0].attempt if records else 0,
        size_bytes=sum(one.picture.size_bytes for one in records),
        compute_s=sum(one.compute_s for one in records),
    )
