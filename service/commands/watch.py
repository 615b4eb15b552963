"""What `status --watch` shows, again and again, until everything is done."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime

import click
import pyarrow as pa

from circuit_atlas.cluster.tally import duration, rate_text
from circuit_atlas.service.analysis.build_state import BuildState, WorkerState
from circuit_atlas.service.circuit.display import text_table
from circuit_atlas.storage_schema.errors import StoreError
from circuit_atlas.storage_schema.reader import Reader

_MOST_NAMED = 2
_MOST_LISTED = 40


def watch(reader: Reader, *, interval_s: float, as_json: bool) -> int:
    """Show how far the build of an atlas is, until nothing is missing and nobody works, or until
    Ctrl-C; return how many units failed.

    On a terminal each state replaces the one before; elsewhere, and as JSON, each is a line. A
    store that does not answer for a while is asked again.
    """
    failed = 0
    try:
        while True:
            try:
                state = BuildState.read(reader)
            except StoreError as error:
                click.echo(f"circuit-atlas: {error}; trying again", err=True)
            else:
                failed = state.failed
                _show(state, as_json=as_json)
                if state.finished:
                    return failed
            time.sleep(interval_s)
    except KeyboardInterrupt:
        return failed


def _show(state: BuildState, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({**asdict(state), "finished": state.finished}, ensure_ascii=False))
    elif sys.stdout.isatty():
        click.clear()
        click.echo(screen(state))
    else:
        click.echo(line(state))
    sys.stdout.flush()


def line(state: BuildState) -> str:
    """Tell a state in a line."""
    at_work = [worker for worker in state.workers if not worker.silent]
    named = [_activity(worker) for worker in at_work[:_MOST_NAMED]]
    if len(at_work) > _MOST_NAMED:
        named.append(f"{len(at_work) - _MOST_NAMED} more")
    return f"{_time(state)}  {'; '.join([_counts(state), _workers(state), *named])}"


def screen(state: BuildState) -> str:
    """Tell a state in full: what is there of each layer, and what each worker is at."""
    columns = {
        "stage": [stage.stage for stage in state.stages],
        "layer": [stage.layer for stage in state.stages],
        "of": [f"{stage.of}s" for stage in state.stages],
        "done": [stage.done for stage in state.stages],
        "failed": [stage.failed for stage in state.stages],
        "missing": [stage.missing for stage in state.stages],
    }
    lines = [f"{_time(state)}  {_counts(state)}", "", text_table(pa.table(columns)), ""]
    lines.append(_workers(state))
    lines += [f"  {worker.worker}  {_told(worker)}" for worker in state.workers[:_MOST_LISTED]]
    if len(state.workers) > _MOST_LISTED:
        lines.append(f"  and {len(state.workers) - _MOST_LISTED} more")
    return "\n".join(lines)


def _time(state: BuildState) -> str:
    return f"{datetime.fromtimestamp(state.time_s, UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def _counts(state: BuildState) -> str:
    parts = []
    for name in dict.fromkeys(stage.stage for stage in state.stages):
        of_stage = [stage for stage in state.stages if stage.stage == name]
        done, asked = (sum(getattr(s, key) for s in of_stage) for key in ("done", "asked"))
        parts.append(f"{done}/{asked} {name}")
    if state.failed:
        parts.append(f"{state.failed} failed")
    if state.rate is not None and state.left_s:
        parts += [rate_text(state.rate, "units"), f"{duration(state.left_s)} left"]
    return ", ".join(parts) or "nothing is asked for"


def _workers(state: BuildState) -> str:
    silent = sum(worker.silent for worker in state.workers)
    count = len(state.workers) - silent
    text = f"{count or 'no'} worker{'' if count == 1 else 's'} at work"
    return f"{text}, {silent} silent" if silent else text


def _told(worker: WorkerState) -> str:
    if worker.silent:
        silent = duration(worker.silent_s)
        return f"silent for {silent}, killed or cut off; was at {_activity(worker)}"
    ended = f", {worker.ended} of {worker.units} ended" if worker.ended else ""
    return f"{_activity(worker)} ({duration(worker.running_s)}{ended})"


def _activity(worker: WorkerState) -> str:
    return "its first units" if worker.activity is None else str(worker.activity)
