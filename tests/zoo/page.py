"""The documentation's page of networks, written from what the zoo found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.zoo.trial import TOLERANCE, Trial

_HEAD = """# Networks

Circuit Atlas traces any network that `torch.export` accepts. Which of the usual ones it has been
tried on, and how far its numbers are from an oracle, is listed here. `python -m tests.zoo` writes
this page.

Each network is built with random weights, and every weight and running statistic is drawn anew. Of
each, a convolution before the middle and a block behind it are looked at, as the layers of an
atlas: the map of a unit that responds, the scores of all kernels that can reach it, that no other
kernel has a gradient, and the unit's map in a circuit of four fifths of the kernels. The oracle
runs the module itself, by torch's autograd alone.

- **error** is the largest difference in float64, as a share of the largest value. At most
  {tolerance:g} is taken.
- **self-check** is what [the self-check](your-model.md#the-self-check) says of the same layers in
  float32.

Running statistics lie about those of noise. Where a deep network is then so unsteady that float32
rounding decides what it gives, and it is refused, it is tried once more with larger variances.
"""


def page(trials: Sequence[Trial]) -> str:
    """Writes the page: counts, what is refused, and a table for each package."""
    lines = [_HEAD.format(tolerance=TOLERANCE), _counts(trials), ""]
    refused = [trial for trial in trials if trial.state == "refused"]
    if refused:
        lines += ["## What is refused", "", "| network | layers | why |", "| --- | --- | --- |"]
        lines += [
            f"| {_name(t.key)} | {_layers(t)} | {_cell(t.refused.partition(': ')[2])} |"
            for t in refused
        ]
        lines.append("")
    for source, rows in _by_source(trials).items():
        lines += [f"## {source}", "", "| network | layers | | error | self-check |"]
        lines.append("| --- | --- | --- | --- | --- |")
        lines += [
            f"| {_cell(t.key.partition(':')[2])} | {_layers(t)} | {t.state} | {_number(t.error)} "
            f"| {_number(t.self_check)} |"
            for t in rows
        ]
        lines.append("")
    return "\n".join(lines)


def refused_families(trials: Sequence[Trial]) -> tuple[set[str], set[str]]:
    """Gives the families of which a network is refused, and all families."""
    return {t.family for t in trials if t.state == "refused"}, {t.family for t in trials}


def _counts(trials: Sequence[Trial]) -> str:
    works = [trial for trial in trials if trial.state == "works"]
    errors = [trial.error for trial in works if trial.error is not None]
    differences = [t.self_check for t in works if t.self_check is not None]
    refused, families = refused_families(trials)
    layers = sum(len(trial.layers) for trial in works)
    return (
        f"{len(works)} of {len(trials)} networks work, {layers} layers of them, with an error of "
        f"at most {max(errors, default=0.0):.1g} and a self-check of at most "
        f"{max(differences, default=0.0):.1g}. Of {len(refused)} of {len(families)} families a "
        "network is refused."
    )


def _by_source(trials: Sequence[Trial]) -> Mapping[str, list[Trial]]:
    titles = {"form": "Written for this, as published"}
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        source = trial.key.partition(":")[0]
        found.setdefault(titles.get(source, source), []).append(trial)
    return found


def _layers(trial: Trial) -> str:
    return ", ".join(f"`{name}`" for name in trial.layers)


def _name(key: str) -> str:
    source, _, name = key.partition(":")
    return name if source == "form" else f"{source} {name}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
