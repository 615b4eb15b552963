"""A spec on the command line -> a plan of the work, or the work done."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.errors import SpecError
from circuit_atlas.storage_schema.opening import find_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.template import check_place, check_same, is_laid_out

if TYPE_CHECKING:
    from circuit_atlas.cluster.run import Summary
    from circuit_atlas.jobs.spec.build_spec import BuildSpec
    from circuit_atlas.jobs.tasks.plan import Estimate

ExecutorKind = Literal["ray", "local"]


@dataclass(frozen=True)
class Overrides:
    """What the command line puts in a spec's place: a store, from the current folder on; the
    channels of every layer, as in `[[layers]]`; None leaves the spec's."""

    store: str | None = None
    units: str | None = None


def load_spec(path: str | Path, overrides: Overrides) -> BuildSpec:
    """Read a spec with the command line's values in place; SpecError where it cannot be used."""
    from circuit_atlas.jobs.spec.build_spec import BuildSpec

    spec = BuildSpec.load(path)
    values: dict[str, Any] = spec.model_dump(mode="json", exclude_none=True)
    if overrides.store is not None:
        values["run"]["store"] = here(overrides.store)
    if overrides.units is not None:
        units = parse_units(overrides.units)
        values["layers"] = [{**layer, "units": units} for layer in values["layers"]]
    return BuildSpec.from_values(values)


def here(store: str) -> str:
    """A store as typed: a URL as it is, a folder from the current one on; SpecError for nothing."""
    if not store.strip():
        raise SpecError(
            f"store {store!r} is empty: give a folder, or a URL such as s3://bucket/atlas"
        )
    return store if "://" in store else str(Path(store).expanduser().absolute())


def parse_units(text: str) -> str | list[int]:
    """`all`, a range such as `0:64:2`, or numbers with commas, as a spec holds them.

    >>> parse_units("0,8,16"), parse_units("0:64:2"), parse_units("5")
    ([0, 8, 16], '0:64:2', [5])
    """
    if text == "all" or ":" in text:
        return text
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise SpecError(
            f"units {text!r} cannot be read: give all, a range such as 0:64:2, or numbers such as "
            "0,8,16"
        ) from None


def plan_build(spec: BuildSpec) -> Estimate:
    """The work that a build of `spec` has left to do. Loads the model and the images, computes and
    writes nothing.

    Raises:
        InputError: the spec, the model or the images cannot be used.
        NotAnAtlasError: the store is a file, or holds other things.
        MismatchError: the store holds an atlas of something else.
    """
    from circuit_atlas.jobs.tasks.plan import estimate, make_tasks, resolve
    from circuit_atlas.jobs.tasks.stored_directions import with_stored_directions

    objects = find_store(spec.run.store)
    if objects is not None:
        check_place(objects)
    spec = with_stored_directions(spec)
    build = resolve(spec)
    done: Mapping[str, Any] = {}
    if objects is not None and objects.exists(layout.HEADER):
        reader = Reader(objects)
        check_same(reader.header, build.header, place=objects.place)
        layers = [index.layer for index in build.layers if is_laid_out(objects, index)]
        done = {name: reader.commits(name) for name in layers}
    tasks = make_tasks(build, spec, done, workers=spec.run.workers or os.cpu_count() or 1)
    return estimate(build, tasks)


def run_build(
    spec: BuildSpec,
    *,
    executor: ExecutorKind,
    address: str,
    progress: TextIO,
    plain: bool = False,
) -> Summary:
    """Build what is missing, with progress on a stream; errors as `cluster.run.build` raises."""
    from circuit_atlas.cluster.progress import open_view
    from circuit_atlas.cluster.run import build, executor_for

    with open_view(progress, plain=plain) as view:
        return build(
            spec,
            executor=executor_for(spec, kind=executor, address=address),
            on_event=view.show,
        )


def run_features(
    spec: BuildSpec,
    *,
    executor: ExecutorKind,
    address: str,
    progress: TextIO,
    plain: bool = False,
) -> Summary:
    """Make the visualizations that are missing; errors as `cluster.features.make_features`."""
    from circuit_atlas.cluster.progress import open_view
    from circuit_atlas.cluster.run import executor_for
    from circuit_atlas.cluster.visualizations import make_features

    with open_view(progress, plain=plain) as view:
        return make_features(
            spec,
            executor=executor_for(spec, kind=executor, address=address),
            on_event=view.show,
        )
