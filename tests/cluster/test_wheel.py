"""The wheel is one that pip installs offline and Python then imports, and it is reproducible."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from circuit_atlas.cluster import wheel as module
from circuit_atlas.cluster.wheel import build_model_wheel, build_wheel
from circuit_atlas.storage_schema.errors import InputError


def printed(wheel: Path, target: Path, program: str) -> str:
    """What a program prints that has a wheel on its path, installed into `target`."""
    # Ray's command, and no index: whatever the wheel required could not be had.
    pip = [sys.executable, "-m", "pip", "--no-cache-dir", "install", "--no-index", "--quiet"]
    installed = subprocess.run(
        [*pip, str(wheel), f"--target={target}"], capture_output=True, text=True, check=False
    )
    assert installed.returncode == 0, installed.stderr
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(target)},
        cwd=target.parent,
    )
    return ran.stdout


def test_pip_installs_it_as_ray_does_and_python_prefers_it(tmp_path: Path) -> None:
    target = tmp_path / "target"
    program = "import circuit_atlas.cluster.retries as r, circuit_atlas.service as s; print(r, s)"
    assert printed(build_wheel(tmp_path), target, program).count(str(target)) == 2


def test_a_folder_of_code_can_be_imported_where_it_is_installed(tmp_path: Path) -> None:
    code = tmp_path / "code"
    (code / "parts").mkdir(parents=True)
    (code / ".git").mkdir()
    (code / ".git" / "hidden.py").touch()
    (code / "mine.py").write_text("from parts.one import X")
    (code / "parts" / "one.py").write_text(
        "import pathlib; X = pathlib.Path(__file__).with_name('a, b.txt').read_text()"
    )
    (code / "parts" / "a, b.txt").write_text("seven")
    wheel = build_model_wheel(tmp_path, code)
    with zipfile.ZipFile(wheel) as stored:
        names = [name for name in stored.namelist() if ".dist-info" not in name]
    assert names == ["mine.py", "parts/a, b.txt", "parts/one.py"]
    assert printed(wheel, tmp_path / "target", "import mine; print(mine.X)") == "seven\n"
    (code / "mine.py").write_text("from parts.one import X as Y")
    assert build_model_wheel(tmp_path, code).name != wheel.name


def test_what_cannot_be_sent_as_code_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"model\.code: there is no folder '.*/gone'"):
        build_model_wheel(tmp_path, tmp_path / "gone")
    with pytest.raises(InputError, match=r"holds 0 files of 0 MB, and is sent with the job: give"):
        build_model_wheel(tmp_path, tmp_path)
    (tmp_path / "weights.pt").write_bytes(bytes(1001))
    monkeypatch.setattr(module, "_MOST_BYTES", 1000)
    with pytest.raises(InputError, match="holds 1 files of 0 MB"):
        build_model_wheel(tmp_path, tmp_path)


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
    code = dict(module._our_files()) | {"circuit_atlas/jobs/new.py": b"x = 1"}
    monkeypatch.setattr(module, "_our_files", lambda: iter(code.items()))
    assert build_wheel(folders[2]).name != one.name, "else a cluster would keep the old code"
