"""The wheel is one that pip installs offline and Python then imports, and it is reproducible."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from circuit_atlas.cluster import wheel as module
from circuit_atlas.cluster.wheel import build_wheel


def test_pip_installs_it_as_ray_does_and_python_prefers_it(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    target = tmp_path / "target"
    # Ray's command, and no index: whatever the wheel required could not be had.
    pip = [sys.executable, "-m", "pip", "--no-cache-dir", "install", "--no-index", "--quiet"]
    installed = subprocess.run(
        [*pip, str(wheel), f"--target={target}"], capture_output=True, text=True, check=False
    )
    assert installed.returncode == 0, installed.stderr
    program = "import circuit_atlas.cluster.retries as r, circuit_atlas.service as s; print(r, s)"
    imported = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(target)},
        cwd=tmp_path,
    )
    assert imported.stdout.count(str(target)) == 2


def test_all_code_and_data_are_in_it_and_nothing_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(build_wheel(tmp_path)) as wheel:
        names = set(wheel.namelist())
        record = next(name for name in names if name.endswith("RECORD"))
        listed = {line.split(",")[0] for line in wheel.read(record).decode().splitlines()}
    assert listed == names
    for package in ("storage_schema", "jobs", "cluster", "service"):
        assert f"circuit_atlas/{package}/__init__.py" in names
        assert f"circuit_atlas/{package}/py.typed" in names
    assert "circuit_atlas/__init__.py" not in names
    assert not [name for name in names if "__pycache__" in name or "/." in name]


def test_the_same_code_is_the_same_wheel_and_other_code_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    one, two = build_wheel(folders[0]), build_wheel(folders[1])
    assert one.name == two.name
    assert one.read_bytes() == two.read_bytes()
    code = dict(module._code()) | {"circuit_atlas/jobs/new.py": b"x = 1"}
    monkeypatch.setattr(module, "_code", lambda: iter(code.items()))
    assert build_wheel(folders[2]).name != one.name, "else a cluster would keep the old code"
