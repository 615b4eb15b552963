"""`circuit-atlas compare` builds an atlas, compares its criteria, and writes the report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from circuit_atlas.service.circuit.display import text_table
from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.commands import exits, json_output, options, report
from circuit_atlas.service.commands.build_commands import ExecutorKind, run_build
from circuit_atlas.service.comparison.comparison import Comparison, save
from circuit_atlas.service.comparison.query import DRAWS, MOST_DRAWS
from circuit_atlas.service.comparison.report import Grid, Section, Text
from circuit_atlas.service.comparison.sections import headline
from circuit_atlas.service.compute.spec import load_spec
from circuit_atlas.storage_schema.errors import QueryError, SpecError
from circuit_atlas.storage_schema.wording import listed

if TYPE_CHECKING:
    from circuit_atlas.cluster.run import Summary
    from circuit_atlas.jobs.spec.build_spec import BuildSpec

_SHOWN = ("criterion", "split", "area", "low_units", "high_units", "best", "tied")


@click.command()
@click.argument("spec")
@options.ADDRESS
@options.EXECUTOR
@options.STORE
@options.UNITS
@click.option(
    "--out",
    metavar="DIR",
    help="Folder for the report. Where not given: beside the atlas, its name with -comparison; of "
    "one at a URL, here.",
)
@click.option("--ablation", metavar="NAME", help="Which ablation; the first where not given.")
@click.option(
    "--draws",
    type=click.IntRange(1, MOST_DRAWS),
    default=DRAWS,
    show_default=True,
    help="Draws of each bootstrap.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draws.")
@click.option(
    "--ground-truth/--no-ground-truth",
    default=None,
    help="Add how far the criteria find circuits planted in small networks, which takes some ten "
    "seconds. Where not given: of a spec.",
)
@options.PLAIN
@options.JSON
@options.debug
def compare(
    spec: str,
    address: str,
    executor: ExecutorKind,
    store: str | None,
    units: str | None,
    out: str | None,
    ablation: str | None,
    draws: int,
    seed: int,
    ground_truth: bool | None,
    plain: bool,
    as_json: bool,
) -> None:
    """Compare the criteria of SPEC: build its atlas as far as it is missing, and write a report.

    The report says what the circuits that each criterion chooses preserve: as one HTML file, as
    Markdown with charts in SVG, and as tables in CSV. SPEC names two criteria or more; with random
    among them there is a floor. Units that are built here also store what intervals over images
    need. How far the criteria find circuits that are planted in small networks stands beside it.
    SPEC may also be the folder or URL of an atlas, which is compared as it is.
    """
    exits.resumable()
    if out == "":
        raise QueryError("--out is empty: give a folder, or leave it out")
    summary: Summary | None = None
    layers: dict[str, Sequence[int] | None]
    if "://" in spec or Path(spec).is_dir():
        if given := _given("store", "units", "address", "executor"):
            raise QueryError(
                f"{spec!r} is an atlas, which is compared as it is: give no "
                + " and no ".join(given)
            )
        atlas = Atlas.open(spec)
        layers = {name: None for name in atlas.layers if _done(atlas, name)}
        left_out = [name for name in atlas.layers if name not in layers]
        ground_truth = bool(ground_truth)
    else:
        if not Path(spec).exists():
            raise QueryError(
                f"no spec and no atlas at {spec!r}: give a TOML file, or the folder or URL of an "
                "atlas"
            )
        wanted = _checked(load_spec(spec, store=store, units=units), ablation)
        summary = run_build(
            wanted, executor=executor, address=address, progress=sys.stderr, plain=plain
        )
        atlas = Atlas.open(wanted.run.store)
        layers = _asked_for(atlas, wanted)
        left_out = [name for name in _names(atlas, wanted) if name not in layers]
        ground_truth = ground_truth is not False
    compared = [
        atlas.compare_criteria(layer=name, units=numbers, ablation=ablation, draws=draws, seed=seed)
        for name, numbers in layers.items()
    ]
    if not compared:
        raise QueryError(
            f"no unit of {atlas.location} has a circuit, so there is nothing to compare: "
            f"`circuit-atlas status {atlas.location}` says why, and what to run"
        )
    further = [Section("Left out", [Text(_told_left_out(left_out))])] if left_out else []
    if ground_truth:
        further.append(_ground_truth(compared[0].subject.criteria))
    written = save(compared, _folder(atlas) if out is None else out, further=further)
    if as_json:
        told = {"layers": compared, "left_out": left_out, "files": written, "build": summary}
        click.echo(json_output.to_json(told))
    else:
        if summary is not None:
            click.echo(f"{report.summary_text(summary, location=atlas.location)}\n")
        for one in compared:
            click.echo(f"{_told(one)}\n")
        if left_out:
            click.echo(f"note: {_told_left_out(left_out)}\n")
        click.echo(f"written: {written[0]}, and {len(written) - 1} files beside it")
    if summary is not None and summary.failures:
        click.get_current_context().exit(exits.UNIT_FAILED)


def _ground_truth(criteria: Sequence[str]) -> Section:
    """How far criteria find planted circuits, as a section."""
    from circuit_atlas.jobs.planted.by_criterion import by_criterion
    from circuit_atlas.jobs.planted.recovery import CRITERIA, ground_truth

    table = ground_truth([name for name in CRITERIA if name in criteria])
    grids = [Grid(each.caption, each.head, each.rows) for each in by_criterion(table)]
    return Section(
        "Ground truth",
        [
            Text(
                "Small networks in which circuits are planted, among decoys whose weights are "
                "larger but never matter: what each criterion finds of them. A row with a "
                "sub-feature is of the images of that one alone. The network small has random "
                "weights, where every kernel matters."
            ),
            *grids,
        ],
    )


def _checked(spec: BuildSpec, ablation: str | None) -> BuildSpec:
    """The spec with sums of single images, which the intervals over images are made of; SpecError
    where what it builds cannot be compared."""
    criteria = spec.circuits.criteria
    if len(criteria) < 2:
        raise SpecError(
            f"circuits.criteria names {criteria[0]!r} alone: name two or more to compare, such as "
            '["actgrad", "learned", "random"]'
        )
    if ablation not in (None, *spec.circuits.ablation):
        known = ", ".join(spec.circuits.ablation)
        raise SpecError(f"--ablation {ablation!r} is none of circuits.ablation: it names {known}")
    return spec.model_copy(update={"run": spec.run.model_copy(update={"image_sums": True})})


def _asked_for(atlas: Atlas, spec: BuildSpec) -> dict[str, Sequence[int] | None]:
    """The units of the spec that have a circuit, by layer, None where these are all that have;
    without layers that have none."""
    found: dict[str, Sequence[int] | None] = {}
    for name in _names(atlas, spec):
        table = spec.layer(name)
        index = atlas.layer(name).index
        numbers = table.resolve(index.channels, len(index.direction_names)) if table else ()
        done = _done(atlas, name)
        if done.intersection(numbers):
            found[name] = None if done <= set(numbers) else sorted(done.intersection(numbers))
    return found


def _names(atlas: Atlas, spec: BuildSpec) -> list[str]:
    """The layers of an atlas that a spec asks for, in the spec's order."""
    tables = spec.layers
    names = (name for table in tables for name in atlas.layers if table.matches(name))
    return list(dict.fromkeys(names))


def _done(atlas: Atlas, layer: str) -> set[int]:
    """The units of a layer that have a circuit."""
    commits = atlas.reader.commits(layer).items()
    return {unit for unit, commit in commits if commit.state == "done"}


def _told_left_out(layers: Sequence[str]) -> str:
    """Which layers are not compared."""
    return f"Layers without a circuit, which are not compared: {listed(layers)}."


def _given(*names: str) -> list[str]:
    """Those of the command's options that its line gives."""
    context = click.get_current_context()
    known = {option.name: option.opts[0] for option in context.command.params}
    source = click.core.ParameterSource.DEFAULT
    return [known[name] for name in names if context.get_parameter_source(name) is not source]


def _folder(atlas: Atlas) -> Path:
    """The folder beside the atlas; of one that lies at a URL, in the current one."""
    location = atlas.location.rstrip("/")
    if "://" in location:
        return Path(f"{location.rsplit('/', 1)[-1].replace(':', '-')}-comparison")
    return Path(f"{location}-comparison")


def _told(found: Comparison) -> str:
    """What was found in a layer, in a terminal's width."""
    lines = [found.subject.layer, f"  {headline(found)}"]
    lines += [text_table(found.areas.select(_SHOWN)), *(f"  note: {note}" for note in found.notes)]
    return "\n".join(lines)
