"""A build handed to a Ray cluster, and a job followed that was."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from circuit_atlas.service.commands import json_output, options


@click.command()
@click.argument("spec", type=click.Path(path_type=Path), required=False)
@click.option(
    "--address", required=True, help="The Ray cluster's job server, such as http://HOST:8265."
)
@click.option("--id", "job", metavar="NAME", help="Name of the job; Ray draws one where not given.")
@click.option("--no-wait", is_flag=True, help="Print the job's id and end; the job goes on.")
@click.option(
    "--follow",
    "followed",
    metavar="ID",
    help="Follow a job that was submitted, from its start, in place of SPEC.",
)
@options.LOG_JSON
@options.JSON
@options.debug
def submit(
    spec: Path | None,
    address: str,
    job: str | None,
    no_wait: bool,
    followed: str | None,
    log_json: bool,
    as_json: bool,
) -> None:
    """Build SPEC on a running Ray cluster.

    Sends this code, that of model.code and the spec as a Ray job, prints the job's id and log, and
    ends with its exit code; with --json the log goes to stderr, and id and exit code are printed.
    The cluster needs our dependencies, and finds images, weights and store at the spec's paths or
    URLs. Ctrl-C asks whether to stop the job too; where nobody can answer, it stops following
    alone.
    """
    from circuit_atlas.cluster import submit as cluster

    if (spec is None) == (followed is None):
        raise click.UsageError("give either SPEC or --follow ID.")
    if followed is not None and (job is not None or no_wait or log_json):
        raise click.UsageError(
            "--follow is of a job that is there: it takes no --id, --no-wait and --log-json."
        )

    def on_log(text: str) -> None:
        click.echo(text, nl=False, err=as_json)

    if spec is not None:
        job = cluster.send(spec, address=address, job=job, log_json=log_json)
        if no_wait:
            click.echo(json_output.to_json({"job": job}) if as_json else job)
            return
        on_log(f"submitted as {job}\n")
    asked = str(followed or job)
    code = cluster.follow(asked, address=address, on_log=on_log, ask_to_stop=_asking(asked))
    if as_json:
        click.echo(json_output.to_json({"job": asked, "exit_code": code}))
    click.get_current_context().exit(code)


def _asking(job: str) -> Callable[[], bool]:
    """Asks on a terminal whether a job is to be stopped; another Ctrl-C is a no."""

    def ask() -> bool:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        try:
            return click.confirm(f"\nStop job {job} too? What is committed stays", err=True)
        except click.Abort:
            return False

    return ask
