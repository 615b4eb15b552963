"""A spec -> its atlas: what `circuit-atlas build` does, for Python and for the command alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from circuit_atlas.cluster import run
from circuit_atlas.cluster.executor import Event
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.compute.mended import mended
from circuit_atlas.service.compute.spec import load_spec


@dataclass(frozen=True)
class Finished:
    """The last event of a build.

    Attributes:
        summary: how many units were done, dead, failed, lost or skipped, and the failures.
    """

    summary: run.Summary


def build(
    spec: str | Path | BuildSpec,
    *,
    store: str | Path | None = None,
    units: str | Sequence[int] | None = None,
    executor: Literal["ray", "local"] = "ray",
    address: str = "local",
    max_units: int | None = None,
    on_event: Callable[[Event | Finished], None] | None = None,
) -> Atlas:
    """Build the atlas of a spec, or what is missing of it, and open it.

    Units that are stored are skipped and failed ones tried again, so the same call goes on where it
    was stopped. A unit that fails is recorded and the others go on: `atlas.status()` counts them.
    Where the build meets damage in the atlas, it repairs the atlas as `circuit-atlas repair` does,
    and begins anew.

    ```python
    atlas = build("spec.toml", on_event=print)
    ```

    Args:
        spec: path of a TOML file, or a `BuildSpec`.
        store: folder or URL of the atlas, in place of the spec's.
        units: channels of every layer, in place of the spec's: numbers, `all`, or a range such as
            `0:64:2`.
        executor: `ray` runs tasks on Ray workers, `local` one after the other in this process.
        address: which Ray. `local` starts one here, `auto` is the one that this process runs in,
            HOST:PORT is on a machine of the cluster.
        max_units: build so many units at most, the first that are missing. Default: all.
        on_event: is called with each event as it comes, in this thread: `Planned`, then
            `WorkersReady`, `TaskStarted`, `TaskProgress` every two seconds of a task, `TaskDone`
            with a receipt for each unit and `TaskLost` in any number, and `Finished` at the end.
            An `Outage` of the store may come at any time, and from another thread that waits;
            `Damaged` where the atlas is damaged. What it raises ends the build.

    Raises:
        InputError: the spec, the model or the images cannot be used; nothing was written.
        MismatchError: the atlas there was built from something else; nothing was changed.
        WriteError, InfrastructureError: the run cannot go on; what is committed stays.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the workers are stopped, what is committed stays.
    """
    wanted = load_spec(spec, store=store, units=units)
    workers = run.executor_for(wanted, kind=executor, address=address)
    summary = mended(
        partial(run.build, wanted, executor=workers, on_event=on_event, max_units=max_units),
        location=wanted.run.store,
        on_event=on_event or _ignore,
    )
    if on_event is not None:
        on_event(Finished(summary))
    return Atlas.open(wanted.run.store)


def _ignore(event: Event) -> None:
    del event
