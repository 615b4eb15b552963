"""`python -m tests.simulation.status ATLAS`: `circuit-atlas status`, and what it took.

It loads what the command loads, and not what a build does.
"""

from __future__ import annotations

import json
import sys
import time

import click

from circuit_atlas.service.commands.cli import main
from tests.simulation.peak import peak_bytes

if __name__ == "__main__":
    code = main(["status", sys.argv[1]])
    took = {"processor_s": time.process_time(), "peak_bytes": peak_bytes(), "exit_code": code}
    click.echo(json.dumps(took))
