"""One trial: a build that a fault meets, the same command again, and what came of it."""

from __future__ import annotations

import contextlib
import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from circuit_atlas.storage_schema.segments import escape
from tests.chaos import driver, stages
from tests.chaos.compared import compare
from tests.chaos.driver import Driver
from tests.chaos.limits import ENDED_S, MARK, Family, OverdueError
from tests.chaos.subject import LAYERS, UNITS, Subject

_TRACEBACK = re.compile(r"^Traceback \(most recent call last\)|\bnobody foresaw\b", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        fault: its name.
        seed: of all that was drawn.
        units: that were to be built.
        lost: those, and visualizations, that the finished atlas lacks.
        wrong: those that differ from the undisturbed atlas.
        again: committed units that were computed once more.
        faults: how often the fault met a build that was running.
        seconds: of the whole trial, comparison included.
        complaints: what else was not as it must be, a line each.
    """

    fault: str
    seed: int
    units: int
    lost: int
    wrong: int
    again: int
    faults: int
    seconds: float
    complaints: tuple[str, ...]

    @property
    def well(self) -> bool:
        """Whether nothing was lost, wrong or to be complained of."""
        return not (self.lost or self.wrong or self.complaints)


@dataclass
class Trial:
    """What a fault is given: a store of its own, and commands to build it.

    Attributes:
        fault: its name.
        subject: what is built.
        folder: the trial's own.
        seed: of `random`.
        atlas: the store.
        on_ray: whether builds run on Ray, and not in one process. Default: not.
        address: of a running Ray. Default: each build starts its own.
        store: where commands build, as of `--store`. Default: `atlas`.
        images: what is built of. Default: the images of the undisturbed atlas.
        run: more of the spec's `[run]`.
        variables: of the environment of commands. Default: none more.
        visualized: whether visualizations are compared too. Default: not.
        family: the processes of its commands.
        afterwards: what is undone once all is compared.
        faults: how often a fault met a running build; faults count them.
        complaints: what was not as it must be; faults add theirs.
    """

    fault: str
    subject: Subject
    folder: Path
    seed: int
    on_ray: bool = False
    address: str | None = None
    store: str = ""
    images: Path | None = None
    run: dict[str, object] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    visualized: bool = False
    afterwards: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    faults: int = 0
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.atlas = self.folder / "atlas"
        self.family = Family(self.folder)
        self._logs = 0
        (self.folder / "computed").mkdir(parents=True)
        self.order()

    def order(self, **orders: object) -> None:
        """Say what is to go wrong inside the processes that are started from now on: see
        `chaos_orders`; underscores stand for blanks."""
        told = {name.replace("_", " "): order for name, order in orders.items()}
        (self.folder / "orders.json").write_text(json.dumps(told))

    def build(self, *more: str) -> Driver:
        """Start `circuit-atlas build`."""
        return self._start("build", *more)

    def features(self) -> Driver:
        """Start `circuit-atlas features`."""
        return self._start("features")

    def a_moment(self, stage: str, command: Driver) -> bool:
        """Wait for a random moment in a stage; False where the command ended before."""

        def running() -> bool:
            return command.poll() is None

        if not stages.wait_for(stage, self.atlas, running, within_s=command.limit_s):
            return False
        time.sleep(self.random.uniform(0, self.subject.stages_s[stage]))
        return running()

    def unit(self) -> str:
        """Draw a unit, as orders name it."""
        layer = self.random.choice(list(LAYERS))
        return f"{layer}/{self.random.randrange(LAYERS[layer])}"

    def check_end(self, command: Driver, *codes: int) -> None:
        """Complain unless a command ends with one of these codes, and without a traceback."""
        code = command.wait()
        if code not in codes or _TRACEBACK.search(command.output()):
            self.complaints.append(f"exit code {code}: {command.output()[-2000:]}")

    def finish(self) -> None:
        """Build what is left, undisturbed."""
        self.order()
        self.check_end(self.build(), 0)
        if self.visualized:
            self.check_end(self.features(), 0, 1)

    def check_nobody_left(self, *, within_s: float = ENDED_S) -> None:
        """Complain of processes that run so long after their commands have ended, and end them."""
        if left := self.family.outlived(within_s=within_s):
            self.complaints.append(f"left running after {within_s:g} s: {left}")

    def computed_again(self) -> int:
        """Count the marks of units that were made after the unit was committed."""
        again = 0
        for mark in (self.folder / "computed").iterdir():
            layer, unit, _ = mark.name.split("-")
            commit = self.atlas / "layers" / escape(layer) / "commits" / f"{unit}.json"
            if commit.exists():
                again += mark.stat().st_mtime_ns > commit.stat().st_mtime_ns
        return again

    def _start(self, command: str, *more: str) -> Driver:
        spec = self.folder / "spec.toml"
        self.subject.write_spec(spec, images=self.images or self.subject.images, **self.run)
        self._logs += 1
        log = self.folder / f"{self._logs}-{command}.log"
        arguments = [command, str(spec), "--store", self.store or str(self.atlas), *more]
        variables = {MARK: self.family.mark, "CHAOS_TRIAL": str(self.folder), **self.variables}
        if self.on_ray:
            arguments += ["--address", self.address or "local"]
            started = driver.program(arguments, variables, log)
        else:
            started = driver.forked([*arguments, "--executor", "local"], variables, log)
        self.family.add(started.pid)
        return started


Fault = Callable[[Trial], None]


def run_trial(fault: Fault, trial: Trial) -> Outcome:
    """Let a fault meet a build, and hold what is there in the end against what must be there."""
    started_s = time.monotonic()
    with trial.afterwards:
        try:
            with trial.family.limited():
                fault(trial)
        except OverdueError as error:
            trial.complaints.append(str(error))
        trial.check_nobody_left()
        undisturbed = trial.subject.atlas
        found = compare(trial.atlas, undisturbed, visualizations=trial.visualized)
        again = trial.computed_again()
    wrong = [f"{name}: {what}" for name, what in found.wrong.items()]
    return Outcome(
        fault=trial.fault,
        seed=trial.seed,
        units=UNITS,
        lost=len(found.lost),
        wrong=len(wrong),
        again=again,
        faults=trial.faults,
        seconds=time.monotonic() - started_s,
        complaints=(*trial.complaints, *found.lost, *wrong, *found.damaged),
    )
