"""`circuit-atlas repair` puts a damaged atlas right; what it set aside is deleted by another."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from circuit_atlas.service.circuit.display import size
from circuit_atlas.service.client.repair_text import done_text, findings_text, plan_text
from circuit_atlas.service.commands import exits, json_output, options, report
from circuit_atlas.service.commands.build_commands import ExecutorKind, run_build, run_features
from circuit_atlas.service.compute.header_repair import is_whole, restore
from circuit_atlas.service.compute.spec import load_spec
from circuit_atlas.storage_schema import heartbeat, layout, set_aside
from circuit_atlas.storage_schema.errors import CorruptError, WriteError
from circuit_atlas.storage_schema.http_objects import HttpObjects
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.repair import Repair, look
from circuit_atlas.storage_schema.repair import repair as put_right

if TYPE_CHECKING:
    from circuit_atlas.cluster.run import Summary
    from circuit_atlas.jobs.spec.build_spec import BuildSpec

_HOUR_S = 3600.0


@click.command()
@options.ATLAS
@click.option(
    "--spec",
    type=click.Path(path_type=Path),
    metavar="SPEC",
    help="The spec that it was built from: what has to be computed again is computed now.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@options.EXECUTOR
@options.ADDRESS
@options.PLAIN
@options.JSON
@options.debug
def repair(
    atlas: str,
    spec: Path | None,
    dry_run: bool,
    executor: ExecutorKind,
    address: str,
    plain: bool,
    as_json: bool,
) -> None:
    """Put a damaged ATLAS, a folder or URL, right.

    Reads every byte, as verify does. Sets aside what is damaged, with the commit records of the
    units that it is of; nothing is deleted, and no unit goes whose own files are whole. Makes again
    what follows from what else is there: sealed layers, metadata of arrays, records that are sealed
    too. Says what the next build of its spec does again; with --spec, that is done at once.

    Builds and readers may go on meanwhile. Stopped at any moment, the same command goes on.
    """
    exits.resumable()
    objects = open_store(atlas)
    if isinstance(objects, HttpObjects) and not dry_run:
        raise WriteError(
            f"cannot repair {atlas}: what `circuit-atlas serve` serves is read-only; give its "
            "folder or its store's URL"
        )
    wanted = None if spec is None else load_spec(spec, store=atlas)
    header = None if is_whole(objects) else _header(objects, wanted, dry_run=dry_run)
    if header is not None and not as_json:
        click.echo(header)
    if header is not None and dry_run:  # without it nothing else can be told
        if as_json:
            click.echo(json_output.to_json({"header": header}))
        return
    found = look(objects) if dry_run else put_right(objects)
    if not as_json:
        lines = plan_text(found) if dry_run else done_text(objects, found)
        for line in (*findings_text(found), *_at_work(objects), *lines):
            click.echo(line)
        click.echo(f"{atlas}: {_end(found, dry_run=dry_run)}")
    summaries: dict[str, Summary] = {}
    if wanted is not None and not dry_run:
        runs: dict[str, Callable[..., Summary]] = {"build": run_build}
        if any(step.subject.startswith("visualization") for step in found.steps):
            runs["features"] = run_features
        for name, run in runs.items():
            summaries[name] = run(
                wanted, executor=executor, address=address, progress=sys.stderr, plain=plain
            )
    if as_json:
        click.echo(json_output.to_json({"header": header, **_facts(found), **summaries}))
    else:
        for summary in summaries.values():
            click.echo(report.summary_text(summary, location=atlas))
    if found.unreadable and not dry_run:
        click.get_current_context().exit(exits.STORE)
    if any(summary.failures for summary in summaries.values()):
        click.get_current_context().exit(exits.UNIT_FAILED)


def _header(objects: Objects, spec: BuildSpec | None, *, dry_run: bool) -> str:
    """Have the header made again; CorruptError, which says how, where there is no spec."""
    if spec is None:
        raise CorruptError(
            f"{objects.at(layout.HEADER)} is missing or altered, and nothing else in an atlas says "
            f"all that it says: run `circuit-atlas repair {objects.location} --spec SPEC` with the "
            "spec that the atlas was built from, or restore it from a copy"
        )
    return restore(objects, spec, dry_run=dry_run)


def _at_work(objects: Objects) -> list[str]:
    """What to say where a build is running."""
    now_s = time.time()
    beats = [beat for beat in heartbeat.read(objects) if beat.age_s(now_s) < heartbeat.STALE_S]
    if not beats:
        return []
    count = f"{len(beats)} worker{' is' if len(beats) == 1 else 's are'}"
    return [f"{count} at work on this atlas: what they store meanwhile stays"]


def _end(found: Repair, *, dry_run: bool) -> str:
    """Sum up a repair."""
    if not found.findings:
        return "whole, nothing to do"
    count = f"{len(found.findings)} object{'' if len(found.findings) == 1 else 's'} damaged"
    if dry_run:
        return f"{count}; nothing was changed"
    left = f"; {len(found.unreadable)} cannot be read" if found.unreadable else ""
    return f"{count}, repaired{left}"


def _facts(found: Repair) -> dict[str, object]:
    """What `--json` says, without the bytes of what was made again."""
    return {
        "repair": found.name,
        "findings": found.findings,
        "set_aside": [path for step in found.steps for path, _ in step.aside],
        "size_bytes": found.size_bytes,
        "unreadable": found.unreadable,
        "made_again": [path for step in found.steps for path, _ in step.put],
        "sealed": [{"layer": one.layer, "generation": one.generation} for one in found.sealed],
        "redone": [
            {"what": step.subject, "layer": step.layer, "number": step.number}
            for step in found.steps
            if step.redone
        ],
    }


@click.command("delete-set-aside")
@options.ATLAS
@options.older_than("what was set aside by repairs", default=24)
@options.JSON
@options.debug
def delete_set_aside(atlas: str, hours: float, as_json: bool) -> None:
    """Delete for good what repairs of ATLAS set aside.

    Nothing reads it, but it is the last copy of what was damaged. The same command goes on where it
    was stopped.
    """
    exits.resumable()
    objects = open_store(atlas)
    there = set_aside.listed(objects)
    due = [one for one in there if one.age_s >= hours * _HOUR_S]
    set_aside.delete(objects, due)
    if as_json:
        kept = [one for one in there if one not in due]
        click.echo(json_output.to_json({"deleted": due, "kept": kept}))
        return
    for one in due:
        click.echo(f"{one.repair}: {len(one.paths)} objects are deleted, {size(one.size_bytes)}")
    more = len(there) - len(due)
    young = f"; {more} younger than {hours:g} hours stay" if more else ""
    click.echo(f"{atlas}: {len(due)} deleted, {size(sum(one.size_bytes for one in due))}{young}")
