"""The documentation's page of damages, written from what was tried."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tests.damage.damages import DAMAGES
from tests.damage.trials import Trial

_HEAD = """# Damages

Each kind of file that an atlas has, damaged 20 times by seed: {times}. What replaces a file is that
of another unit, attempt, layer or source. The file seems to be as old as before, as after a fault
of a disk. After each damage `circuit-atlas verify` is run, and a client opens the atlas anew and is
asked all that depends on the file, of {questions} questions about everything that there is to know.
`python -m tests.damage` writes this page, in some minutes.

- **found**: `verify` names the file.
- **same**: questions that were answered as of the undisturbed atlas.
- **error**: questions that were answered by an error of Circuit Atlas.
- **absent**: questions that were answered as if the file had never been written. That is what some
  kinds of files are deleted for: a unit without its commit record is to be built again.
- **wrong**: questions that were answered otherwise.

`verify` tells nothing of what workers say that they are at, `runs/`, which decides nothing, nor of
a file that is gone and was named by no other. Of `runs/`, what cannot be read is left out.

| file | damages | found | same | error | absent | wrong |
| --- | --- | --- | --- | --- | --- | --- |
"""


def page(trials: Iterable[Trial], *, questions: int) -> str:
    """Write the page: a row a kind of file, then one a kind of damage."""
    done = list(trials)
    times = ", ".join(f"{damage.__name__} {count}" for damage, count in DAMAGES)
    lines = [_HEAD.format(times=times, questions=questions).rstrip("\n")]
    lines += _rows(done, lambda trial: f"`{trial.kind}`")
    lines += ["", "| damage | damages | found | same | error | absent | wrong |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    lines += _rows(done, lambda trial: trial.damage)
    return "\n".join([*lines, ""])


def _rows(trials: Sequence[Trial], name: Callable[[Trial], str]) -> list[str]:
    by_name: dict[str, list[Trial]] = {}
    for trial in trials:
        by_name.setdefault(name(trial), []).append(trial)
    return [
        f"| {what} | {len(some)} | {sum(one.found for one in some)} "
        f"| {sum(one.same for one in some)} | {sum(one.errors for one in some)} "
        f"| {sum(one.absent for one in some)} | {sum(len(one.wrong) for one in some)} |"
        for what, some in by_name.items()
    ]
