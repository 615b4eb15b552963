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


def clusters() -> list[dict[str, Any]]:
    job = read("rayjob.yaml")["spec"]["rayClusterSpec"]
    return [read("ray-cluster.yaml")["spec"], job]


@pytest.mark.parametrize("cluster", clusters())
def test_a_cluster_has_a_head_without_workers_and_workers_of_our_image(
    cluster: dict[str, Any],
) -> None:
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"] in ("circuit-atlas", "circuit-atlas-gpu")
        assert container["resources"]["limits"] == container["resources"]["requests"]
    image = re.search(r"^ARG RAY=(\S+?)-py", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    assert image is not None
    assert cluster["rayVersion"] == image[1]


@pytest.mark.parametrize("cluster", clusters())
def test_an_autoscaler_may_add_spot_machines_and_never_takes_the_head_to_one(
    cluster: dict[str, Any],
) -> None:
    assert cluster["enableInTreeAutoscaling"] is True
    head = cluster["headGroupSpec"]["template"]["spec"]
    assert not {"tolerations", "nodeSelector"} & head.keys()
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    assert len(groups) == len(cluster["workerGroupSpecs"])
    for name, group in groups.items():
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        pod = group["template"]["spec"]
        limits = pod["containers"][0]["resources"]["limits"]
        assert ("spot" in name) == ("nodeSelector" in pod) == ("tolerations" in pod)
        assert ("gpu" in name) == ("nvidia.com/gpu" in limits)
        # Ray is told of as many GPUs as the pod has.
        assert group["rayStartParams"].get("num-gpus") == limits.get("nvidia.com/gpu")
    assert "spot" in groups


# The fields of KubeRay's ray.io/v1 and of Kubernetes' v1 pods that the files use. A field that is
# spelled in another way is dropped or refused by a cluster, and no file of ours would tell.
POD = {
    "terminationGracePeriodSeconds": int,
    "nodeSelector": {str: str},
    "tolerations": [{"key": str, "operator": str, "value": str, "effect": str}],
    "volumes": [{"name": str, "configMap": {"name": str}}],
    "containers": [
        {
            "name": str,
            "image": str,
            "resources": {"limits": {str: str}, "requests": {str: str}},
            "volumeMounts": [{"name": str, "mountPath": str}],
        }
    ],
}
CLUSTER = {
    "rayVersion": str,
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": {"idleTimeoutSeconds": int, "upscalingMode": str},
    "headGroupSpec": {"rayStartParams": {str: str}, "template": {"spec": POD}},
    "workerGroupSpecs": [
        {
            "groupName": str,
            "replicas": int,
            "minReplicas": int,
            "maxReplicas": int,
            "rayStartParams": {str: str},
            "template": {"spec": POD},
        }
    ],
}
JOB = {
    "entrypoint": str,
    "shutdownAfterJobFinishes": bool,
    "backoffLimit": int,
    "rayClusterSpec": CLUSTER,
}


def form(spec: object) -> dict[str, object]:
    return {"apiVersion": str, "kind": str, "metadata": {"name": str}, "spec": spec}


def misfits(value: Any, known: Any, path: str = "") -> list[str]:
    """The fields that are not known, or of another type."""
    if isinstance(known, list):
        assert isinstance(value, list), path
        return [one for item in value for one in misfits(item, known[0], f"{path}[]")]
    if not isinstance(known, dict):
        return [] if type(value) is known else [path]
    assert isinstance(value, dict), path
    found = []
    for key, item in value.items():
        inner = known.get(key, known.get(str))
        found += [f"{path}.{key}"] if inner is None else misfits(item, inner, f"{path}.{key}")
    return found


@pytest.mark.parametrize(
    ("name", "kind", "spec"),
    [("ray-cluster.yaml", "RayCluster", CLUSTER), ("rayjob.yaml", "RayJob", JOB)],
)
def test_every_field_is_one_of_kuberays(name: str, kind: str, spec: object) -> None:
    content = read(name)
    assert (content["apiVersion"], content["kind"]) == ("ray.io/v1", kind)
    assert misfits(content, form(spec)) == []
    for autoscaler in (cluster["autoscalerOptions"] for cluster in clusters()):
        assert autoscaler.get("upscalingMode") in (None, "Default", "Aggressive", "Conservative")


def test_a_field_that_is_spelled_in_another_way_is_found() -> None:
    content = read("ray-cluster.yaml")
    group = content["spec"]["workerGroupSpecs"][1]
    group["maxReplica"] = group.pop("maxReplicas")
    group["template"]["spec"]["tolerations"][0]["value"] = True
    assert misfits(content, form(CLUSTER)) == [
        ".spec.workerGroupSpecs[].template.spec.tolerations[].value",
        ".spec.workerGroupSpecs[].maxReplica",
    ]


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
