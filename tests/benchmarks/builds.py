"""Whole builds: on one worker and on two, and the demo from its command to its atlas."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from circuit_atlas.cluster.executor import Event, TaskDone, TaskStarted
from circuit_atlas.cluster.run import build, executor_for
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.plan import Task
from circuit_atlas.service.commands.demo import demo_spec
from tests.benchmarks.measured import Row


class Watch:
    """When a build's workers were ready, and how long its tasks took the driver and the workers."""

    def __init__(self) -> None:
        self.ready_s: float | None = None
        self.end_s = 0.0
        self.waited_s = 0.0
        self.computed_s = 0.0
        self._started: dict[Task, float] = {}

    def note(self, event: Event) -> None:
        """An event of the build, as it comes."""
        now = time.perf_counter()
        if isinstance(event, TaskStarted):
            self.ready_s = self.ready_s or now
            self._started[event.task] = now
        elif isinstance(event, TaskDone):
            self.end_s = now
            self.waited_s += now - self._started.pop(event.task)
            self.computed_s += sum(receipt.compute_s for receipt in event.receipts)

    @property
    def working_s(self) -> float:
        """From the first task's start to the last one's end."""
        return self.end_s - (self.ready_s or self.end_s)


def workers(*, units: int, images: int = 20) -> Row:
    """The demo on one worker of one thread, and on two, with so many of its images."""
    times, overhead = {}, 0.0
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            values = demo_spec(store=str(Path(folder, "atlas")), units=str(units)).model_dump()
            values["run"] |= {"workers": count, "units_per_task": max(1, units // 8)}
            values["images"]["limit"] = images
            values["circuits"]["criteria"] = ["actgrad", "random"]
            spec = BuildSpec.from_values(values)
            watch = Watch()
            build(spec, executor=executor_for(spec), on_event=watch.note)
        times[count] = watch.working_s
        overhead = 1 - watch.computed_s / watch.waited_s
    return Row(
        work=f"two workers of one thread against one, demo, {units} units",
        of="unit",
        ours_s=times[2] / units,
        facts={
            "times the work of one worker": times[1] / times[2],
            "overhead of tasks, share": overhead,
        },
    )


def demo(*, units: str, executor: str = "ray") -> Row:
    """`circuit-atlas demo`, from the command to the finished atlas."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "atlas")
        command = [
            sys.executable,
            "-m",
            "circuit_atlas.service.commands.cli",
            "demo",
            "--plain-progress",
        ]
        started = time.perf_counter()
        subprocess.run(
            [*command, "--units", units, "--executor", executor, "--store", str(store)],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - started
        size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    return Row(
        work=f"circuit-atlas demo --units {units}, start to end",
        of="command",
        ours_s=seconds,
        facts={"bytes of the atlas": size},
    )
