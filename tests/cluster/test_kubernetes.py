"""The Kubernetes files are well formed, and the commands in them are ours."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from circuit_atlas.cluster import submit
from circuit_atlas.service.commands.cli import cli

FOLDER = Path(submit.__file__).parent


def read(name: str) -> dict[str, Any]:
    content = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


@pytest.mark.parametrize("name", ["ray-cluster.yaml", "rayjob.yaml"])
def test_a_cluster_has_a_head_without_workers_and_workers_of_our_image(name: str) -> None:
    content = read(name)
    assert content["apiVersion"] == "ray.io/v1"
    cluster = content["spec"].get("rayClusterSpec", content["spec"])
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"] == "circuit-atlas"
        assert container["resources"]["limits"] == container["resources"]["requests"]
    image = re.search(r"^ARG RAY=(\S+?)-py", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    assert image is not None
    assert cluster["rayVersion"] == image[1]


@pytest.mark.parametrize(
    "entrypoint", [submit.ENTRYPOINT, read("rayjob.yaml")["spec"]["entrypoint"]]
)
def test_the_command_is_one_that_our_command_line_takes(entrypoint: str, tmp_path: Path) -> None:
    python, option, module, command, spec, *options = shlex.split(entrypoint)
    assert (python, option, module) == ("python", "-m", "circuit_atlas.service.commands.cli")
    there = tmp_path / Path(spec).name
    there.touch()
    context = cli.commands[command].make_context(command, [str(there), *options])
    assert context.params["address"] == "auto"
    assert context.params["plain"] is True
