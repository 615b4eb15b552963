"""The command line, `circuit-atlas`. A command parses, makes one call, prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
from click.shell_completion import shell_complete

from circuit_atlas.service.analysis.query import CircuitQuery, nearest_fraction
from circuit_atlas.service.circuit.display import size, text_table
from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.client.atlas_status import AtlasStatus
from circuit_atlas.service.commands import demo as bundled
from circuit_atlas.service.commands import exits, json_output, options, report, server, terminal
from circuit_atlas.service.commands.build_commands import (
    ExecutorKind,
    plan_build,
    run_build,
    run_features,
)
from circuit_atlas.service.commands.compare import compare
from circuit_atlas.service.commands.diagram import diagram
from circuit_atlas.service.commands.extract import extract
from circuit_atlas.service.commands.generations import compact, delete_old_generations
from circuit_atlas.service.commands.plan_report import plan_text
from circuit_atlas.service.commands.reading import export, find, open_
from circuit_atlas.service.commands.repair import delete_set_aside, repair
from circuit_atlas.service.commands.submit import submit
from circuit_atlas.service.commands.transfer import transfer
from circuit_atlas.service.commands.watch import watch
from circuit_atlas.service.compute.spec import load_spec
from circuit_atlas.storage_schema import set_aside
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.ranking import KEEP
from circuit_atlas.storage_schema.verify import verify as verified

if TYPE_CHECKING:
    from circuit_atlas.cluster.run import Summary

# What click's completion scripts set.
_COMPLETE = "_CIRCUIT_ATLAS_COMPLETE"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="circuit-atlas")
def cli() -> None:
    """Circuits of whole convolutional layers.

    A circuit is the part of a network that suffices for one unit's responses. A build computes the
    circuits of many units from a spec, a TOML file, and stores them as an atlas; the other commands
    look at an atlas.
    """


@cli.command()
@options.SPEC
@options.STORE
@options.UNITS
@options.MAX_UNITS
@options.JSON
@options.debug
def plan(
    spec: Path, store: str | None, units: str | None, max_units: int | None, as_json: bool
) -> None:
    """Say what building SPEC would do, without doing it.

    Loads the model and the images, and prints for each layer the units that are not stored yet, the
    kernels that a unit's circuit is chosen from, the tasks, and the bytes that will be written at
    most.
    """
    estimate = plan_build(load_spec(spec, store=store, units=units), max_units=max_units)
    click.echo(json_output.to_json(estimate) if as_json else plan_text(estimate))


@cli.command()
@options.MAX_UNITS
@options.work
def build(work: options.Work) -> None:
    """Build the atlas of SPEC, or what is missing of it.

    Units that are stored are skipped and failed ones tried again, so the same command goes on where
    it was stopped. A unit that fails is recorded with its error and the others go on; the exit code
    is then 1.
    """
    _have_done(work, partial(run_build, max_units=work.max_units))


cli.add_command(compare)
cli.add_command(transfer)


@cli.command()
@options.work
def features(work: options.Work) -> None:
    """Make feature visualizations of the units of SPEC, as far as they are built.

    Each unit gets visualizations of its largest and its smallest response, in the whole network,
    through its circuit, and through those of its sub-feature groups; each channel that lies in a
    circuit gets a small one. The table [features] of SPEC says which and how. What is there is
    skipped, so the same command goes on where it was stopped.
    """
    _have_done(work, run_features)


cli.add_command(submit)


@cli.command()
@options.ATLAS
@click.option(
    "--watch",
    "watching",
    is_flag=True,
    help="Look again and again, until nothing is missing and no worker is at a task.",
)
@click.option(
    "--interval",
    type=click.FloatRange(min=1),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="How often --watch looks.",
)
@options.JSON
@options.debug
def status(atlas: str, watching: bool, interval: float, as_json: bool) -> None:
    """Say how far ATLAS, a folder or URL, is built.

    Counts for each layer the units that were asked for, are done, dead (their response never
    changes), failed, and missing; and prints each failure. The same of visualizations, where some
    were asked for: of the units of each layer, and of the channels of each convolution. Then what
    to run to go on. The exit code is 1 where a unit or its visualizations failed.

    With --watch, from any machine that can read the store: what is done and failed, the rate of the
    last five minutes, the time left, and which units each worker is at. A terminal shows the latest
    state; elsewhere each is a line, and with --json an object on one line. Ctrl-C ends it.
    """
    reader = Atlas.open(atlas).reader
    if watching:
        if watch(reader, interval_s=interval, as_json=as_json):
            click.get_current_context().exit(exits.UNIT_FAILED)
        return
    found = AtlasStatus.read(reader)
    click.echo(
        json_output.to_json(found) if as_json else report.status_text(found, width=terminal.width())
    )
    if found.failed:
        click.get_current_context().exit(exits.UNIT_FAILED)


@cli.command()
@options.ATLAS
@click.argument("layer", required=False)
@click.argument("unit", required=False)
@click.option(
    "--keep",
    type=float,
    default=KEEP,
    show_default=True,
    help="Which circuits: the stored kept fraction that is nearest to this, in ratio.",
)
@options.CRITERION
@options.JSON
@options.debug
def show(
    atlas: str,
    layer: str | None,
    unit: str | None,
    keep: float,
    criterion: str | None,
    as_json: bool,
) -> None:
    """Show ATLAS, one LAYER of it, or one UNIT of the layer.

    UNIT is a number or a direction's name. A layer lists its units, the most faithful first. A unit
    shows the images it responds to most, how faithful its circuits are, and where one of them lies.
    In a terminal nothing is wider than it is.
    """
    opened = Atlas.open(atlas)
    query = CircuitQuery.of(
        opened.reader, criterion=criterion, fraction=nearest_fraction(opened.reader, keep)
    )
    if layer is None:
        text = (
            json_output.to_json(json_output.atlas_facts(opened))
            if as_json
            else report.atlas_text(opened, width=terminal.width())
        )
    elif unit is None:
        one = opened.layer(layer)
        text = (
            json_output.to_json(json_output.layer_facts(one))
            if as_json
            else report.layer_text(one, query, width=terminal.width())
        )
    else:
        asked = opened.layer(layer).unit(unit)
        text = (
            json_output.to_json(json_output.unit_facts(asked, query))
            if as_json
            else report.unit_text(asked, query, width=terminal.width())
        )
    click.echo(text)


cli.add_command(find)
cli.add_command(open_)


@cli.command()
@options.ATLAS
@click.option(
    "--host",
    metavar="HOST",
    default="127.0.0.1",
    show_default=True,
    help="Name or address to listen at; the default is heard by this machine alone.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    default=8000,
    show_default=True,
    help="Port to listen at; 0 takes a free one.",
)
@click.option(
    "--allow-host",
    "allow_hosts",
    metavar="NAME",
    multiple=True,
    help="A name that it answers to besides localhost and addresses, such as a proxy's; may be "
    "given more than once. With --host of this machine alone, it answers to no others.",
)
@options.JSON
@options.debug
def serve(
    atlas: str,
    host: str,
    port: int,
    allow_hosts: tuple[str, ...],
    as_json: bool,
) -> None:
    """Serve ATLAS, a folder or URL, to browsers and Python.

    Prints the address. Opened in a browser it shows layers, units, their circuits and images;
    `Atlas.open(ADDRESS)` reads it from Python as it does a folder. Nothing can be written through
    it. Ctrl-C stops it. To look at it here, `circuit-atlas open ATLAS` is shorter.
    """

    def started(address: str) -> None:
        told = {"address": address, "atlas": atlas}
        text = f"{atlas} is served at {address} (Ctrl-C stops)"
        click.echo(json_output.to_json(told) if as_json else text)

    server.serve(
        atlas,
        host=host,
        port=port,
        on_start=started,
        allow_hosts=allow_hosts,
    )


@cli.command()
@options.ATLAS
@click.argument("query")
@options.JSON
@options.debug
def sql(atlas: str, query: str, as_json: bool) -> None:
    """Ask the tables of ATLAS in SQL.

    QUERY is one SELECT over images, layers, units, responses, faithfulness, subfeatures, groups and
    selectivity; all but the first two have the columns layer and unit. Needs DuckDB:
    pip install 'circuit-atlas[analysis]'.
    """
    table = Atlas.open(atlas).sql(query)
    click.echo(json_output.to_json(table) if as_json else text_table(table.to_arrow()))


cli.add_command(diagram)
cli.add_command(extract)
cli.add_command(export)


@cli.command()
@options.ATLAS
@options.JSON
@options.debug
def verify(atlas: str, as_json: bool) -> None:
    """Check every stored byte of ATLAS, a folder or URL.

    Finds what is missing, torn or altered; the exit code is then 3, and `repair` puts it right.
    What no record names, left by a build that was cut off, is counted and harmless; so is what
    repairs set aside.
    """
    objects = open_store(atlas)
    findings = verified(objects)
    harmful = [finding for finding in findings if finding.harmful]
    aside = set_aside.listed(objects)
    if as_json:
        facts = {"whole": not harmful, "findings": findings, "set_aside": aside}
        click.echo(json_output.to_json(facts))
    else:
        for finding in harmful:
            click.echo(f"{finding.kind}: {finding.message}")
        loose = len(findings) - len(harmful)
        rest = f"; {loose} objects are left over, named by no record" if loose else ""
        if aside:
            rest += f"; {size(sum(one.size_bytes for one in aside))} are set aside by repairs"
        click.echo(f"{atlas}: {f'{len(harmful)} found' if harmful else 'whole'}{rest}")
        if harmful:
            click.echo(f"to put it right: circuit-atlas repair {atlas}")
    if harmful:
        click.get_current_context().exit(exits.STORE)


cli.add_command(repair)
cli.add_command(compact)
cli.add_command(delete_old_generations)
cli.add_command(delete_set_aside)


@cli.command()
@click.option(
    "--units",
    default="16",
    show_default=True,
    metavar="UNITS",
    help="How many of the layer's 128 units, evenly spread; or all, without learned rankings.",
)
@click.option(
    "--store",
    default=bundled.STORE,
    show_default=True,
    metavar="LOCATION",
    help="Folder or URL of the atlas.",
)
@click.option(
    "--features",
    "with_features",
    is_flag=True,
    help="Make feature visualizations too; takes one to three minutes more.",
)
@options.MAX_UNITS
@options.EXECUTOR
@options.PLAIN
@options.JSON
@options.debug
def demo(
    units: str,
    store: str,
    with_features: bool,
    max_units: int | None,
    executor: ExecutorKind,
    plain: bool,
    as_json: bool,
) -> None:
    """Build a small real atlas, and say what to look at.

    Circuits of a layer of SqueezeNet 1.1, with its ImageNet weights, on twenty photos; on a Ray of
    its own. Nothing is downloaded: network and photos are in installed packages. Run again, it
    builds what is missing.
    """
    exits.resumable()
    exits.needs("demo")
    wanted = bundled.demo_spec(store=store, units=units)
    summaries = {}
    runs: dict[str, Callable[..., Summary]] = {
        "build": partial(run_build, max_units=max_units),
        "features": run_features,
    }
    for name, run in runs.items():
        if name == "build" or with_features:
            summaries[name] = run(
                wanted, executor=executor, address="local", progress=sys.stderr, plain=plain
            )
    if as_json:
        click.echo(json_output.to_json(summaries if with_features else summaries["build"]))
    else:
        for summary in summaries.values():
            click.echo(_told(summary, location=store, as_json=False))
        click.echo(f"\n{bundled.demo_text(Atlas.open(store))}")
    for summary in summaries.values():
        _exit(summary)


def _have_done(work: options.Work, run: Callable[..., Summary]) -> None:
    """Have the tasks of a spec run, and print what was done."""
    exits.resumable()
    wanted = load_spec(work.spec, store=work.store, units=work.units)
    summary = run(
        wanted,
        executor=work.executor,
        address=work.address,
        progress=sys.stderr,
        plain=work.plain,
        log_json=work.log_json,
    )
    click.echo(_told(summary, location=wanted.run.store, as_json=work.as_json))
    _exit(summary)


def _told(summary: Summary, *, location: str, as_json: bool) -> str:
    """What a build did."""
    if as_json:
        return json_output.to_json(summary)
    return report.summary_text(summary, location=location)


def _exit(summary: Summary) -> None:
    """Exit code 1 where a unit failed."""
    if summary.failures:
        click.get_current_context().exit(exits.UNIT_FAILED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit code; where a shell asks what could come next,
    answer that."""
    asked = os.environ.get(_COMPLETE) if arguments is None else None
    if asked:
        return shell_complete(cli, {}, "circuit-atlas", _COMPLETE, asked)
    return exits.run(cli, sys.argv[1:] if arguments is None else arguments, name="circuit-atlas")


def program() -> NoReturn:
    """Run the command line as the program that it is, and end the process."""
    exits.end(main())


if __name__ == "__main__":
    program()
