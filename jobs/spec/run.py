"""The `[run]` table of a spec: where the atlas goes and how the work is spread."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from circuit_atlas.jobs.spec.section import Positive, Section


class RunSpec(Section):
    """`[run]`: where the atlas goes and how the work is spread; never changes a number.

    Attributes:
        store: a folder, or a URL such as `s3://bucket/atlas`. Default: "atlas".
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`. Default: "auto".
        workers: processes. Default: 0, one a core: of this machine, or of all machines that the
            cluster has at any moment.
        max_workers: processes at most, those that a cluster has no room for yet included: an
            autoscaler takes them as demand. Not with `workers`. Default: 0, what there is room for.
        threads: threads of each worker. Default: 1.
        batch_size: images a forward pass, at most. Default: 16.
        memory_bytes: budget of each worker, see `memory`. Default: 0, its share of half of what is
            free.
        units_per_task: units of one task, at most. Default: 0, the planner's choice.
        deadline_s: seconds after which a task is given up. Default: 3600.
        store_patience_s: seconds that a store is waited for that does not answer, that of images
            too, before the build ends. Default: 600.
        retries: further tries of a task whose worker was lost. Default: 2.
        self_check: hold each layer against the model itself, on one image and two units, before any
            work. Default: true.
        image_sums: store of each circuit and image the sums that r over any choice of images is
            made of, see `storage_schema.unit_tables.IMAGE_SUMS`. Default: false.
    """

    store: Annotated[str, Field(min_length=1)] = "atlas"
    device: str = "auto"
    workers: Annotated[int, Field(ge=0)] = 0
    max_workers: Annotated[int, Field(ge=0)] = 0
    threads: Positive = 1
    batch_size: Positive = 16
    memory_bytes: Annotated[int, Field(ge=0)] = 0
    units_per_task: Annotated[int, Field(ge=0)] = 0
    deadline_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3600.0
    store_patience_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 600.0
    retries: Annotated[int, Field(ge=0)] = 2
    self_check: bool = True
    image_sums: bool = False

    @model_validator(mode="after")
    def _one_number(self) -> Self:
        if self.workers and self.max_workers:
            raise ValueError(
                "gives both workers, how many there are, and max_workers, how many there may be; "
                "leave one out"
            )
        return self

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
            return value
        raise ValueError('should be "auto", "cpu", "cuda", "cuda:N" or "mps"')
