"""What is installed, what it may import, and what it needs to read an atlas."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.patience import START_S

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "torchvision", "ray", "pydantic", "scipy", "rich", "PIL", "safetensors", "pandas")

# Refuses the heavy packages as if they were not installed.
BLOCK = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
"""


def _python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCK + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )


def test_packages_are_the_folders_with_an_init():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {path.parent.relative_to(ROOT) for path in ROOT.glob("*/__init__.py")}
    found |= {path.parent.relative_to(ROOT) for path in ROOT.glob("*/**/__init__.py")}
    code = {str(path) for path in found if path.parts[0] not in {"tests", "build"}}
    code = {path for path in code if not path.startswith(".")}
    assert {f"circuit_atlas.{path.replace('/', '.')}" for path in code} == set(settings["packages"])
    assert set(settings["package-dir"].values()) == code


def test_every_package_is_typed():
    for package in ("storage_schema", "jobs", "cluster", "service"):
        assert (ROOT / package / "py.typed").exists()


@pytest.mark.parametrize("package", ["storage_schema", "service"])
def test_a_light_package_imports_without_what_builds_need(package):
    done = _python(
        "import importlib, pkgutil\n"
        f"package = importlib.import_module('circuit_atlas.{package}')\n"
        "for module in pkgutil.iter_modules(package.__path__):\n"
        f"    importlib.import_module('circuit_atlas.{package}.' + module.name)\n"
    )
    assert done.returncode == 0, done.stderr


def test_an_atlas_is_read_without_what_builds_need(tmp_path):
    from circuit_atlas.storage_schema.documents import sha256
    from circuit_atlas.storage_schema.header import AtlasHeader
    from circuit_atlas.storage_schema.image_table import IMAGES
    from circuit_atlas.storage_schema.opening import open_store
    from circuit_atlas.storage_schema.pixels import PixelForm, PixelsRecord
    from circuit_atlas.storage_schema.template import Plan, create
    from circuit_atlas.storage_schema.version import SCHEMA_VERSION

    spec = '{"model":{}}'
    header = AtlasHeader(
        schema=SCHEMA_VERSION,
        model="toy",
        weights_sha256="0" * 64,
        images_sha256="0" * 64,
        spec_sha256=sha256(spec.encode()),
        spec=spec,
        criteria=("actgrad",),
        image_criteria=(),
        fractions=(1.0,),
        ablations=("zero",),
        response="sum_abs",
        top_images=1,
        seed=0,
        versions=(),
        input_height=8,
        input_width=8,
    )
    objects = open_store(tmp_path)
    pixels = PixelsRecord(PixelForm("uint8", (3, 8, 8), False, 255), (0.0,), (1.0,), 64, ())
    create(objects, header, [], plan=Plan(()), images=IMAGES.table([]), pixels=pixels)
    done = _python(
        "from circuit_atlas.service import Atlas\n"
        "from circuit_atlas.service.commands.cli import main\n"
        "atlas = Atlas.open(sys.argv[1])\n"
        "assert atlas.layers == () and atlas.images().num_rows == 0\n"
        "assert main(['show', sys.argv[1]]) == 0\n"
        "assert main(['demo']) == 2\n"
        f"assert not {{*{HEAVY!r}}} & sys.modules.keys()\n",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        "circuit-atlas: error: this needs the package 'pydantic', which is not installed: "
        "python -m pip install 'circuit-atlas[demo]'\n"
    )


def test_the_tools_for_javascript_are_locked_and_name_no_registry():
    folder = ROOT / ".ci" / "javascript"
    wanted = json.loads((folder / "package.json").read_text())["devDependencies"]
    packages = json.loads((folder / "package-lock.json").read_text())["packages"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert not [name for name, package in packages.items() if "resolved" in package]
    assert all("integrity" in package for name, package in packages.items() if name)


def test_imports_go_one_way():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "service > cluster > jobs > storage_schema KEPT" in done.stdout
