"""Wheels made without network or build tools: of the packages that are imported here, and of a
folder of the user's code.

They take code to a cluster (`submit`). There Ray runs `pip install WHEEL --target=FOLDER`, which
also fetches whatever the wheel requires, torch and Ray themselves included, and puts that first on
the path. So these wheels require nothing: the cluster's image has to have what we build with
(`cluster/Dockerfile`). For the same reason they are not wheels to publish.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import importlib.util
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from circuit_atlas.storage_schema.errors import InfrastructureError, InputError

_PACKAGES = ("storage_schema", "jobs", "cluster", "service")
# The earliest time that a zip file can hold: the same code is the same wheel, byte for byte.
_TIME = (1980, 1, 1, 0, 0, 0)
# A Ray head refuses a package above 100 MiB.
_MOST_BYTES = 100_000_000


def build_wheel(folder: Path) -> Path:
    """Writes the wheel of our packages into `folder` and returns its path.

    Its version ends in a digest of its contents, as in `circuit_atlas-0.1.0+code0123456789ab-...`:
    a Ray cluster takes two wheels of one name for one and the same, and keeps the older.

    Raises:
        InfrastructureError: the code of a package is not there as files.
    """
    installed = importlib.metadata.metadata("circuit-atlas")
    told = f"Summary: {installed['Summary']}\nRequires-Python: {installed['Requires-Python']}\n"
    version = importlib.metadata.version("circuit-atlas")
    return _write(folder, "circuit-atlas", version, dict(_our_files()), told)


def build_model_wheel(folder: Path, code: Path) -> Path:
    """Writes a wheel of all files of the folder `code` into `folder` and returns its path: where it
    is installed, the modules in that folder can be imported. Hidden files are left out.

    Raises:
        InputError: there is no such folder, no file in it, or too much for a cluster to take.
    """
    if not code.is_dir():
        raise InputError(f"model.code: there is no folder {str(code)!r}")
    files = dict(_files(code))
    size_bytes = sum(path.stat().st_size for path in files.values())
    if not files or size_bytes > _MOST_BYTES:
        raise InputError(
            f"model.code: the folder {str(code)!r} holds {len(files)} files of "
            f"{size_bytes / 1e6:.0f} MB, and is sent with the job: give a folder of code, of at "
            f"most {_MOST_BYTES / 1e6:.0f} MB, and keep weights and images elsewhere"
        )
    code_of = {inside: path.read_bytes() for inside, path in files.items()}
    return _write(folder, "circuit-atlas-model", "0", code_of)


def _write(
    folder: Path, name: str, version: str, code: Mapping[str, bytes], told: str = ""
) -> Path:
    """The wheel of some files; `told` are further lines of its metadata."""
    digest = hashlib.sha256()
    for path in sorted(code):
        digest.update(f"{path}\0{len(code[path])}\0".encode() + code[path])
    # A letter first: as a number, the label would lose its leading zeros.
    version = f"{version}+code{digest.hexdigest()[:12]}"
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{told}"
    files = {
        **code,
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": (
            b"Wheel-Version: 1.0\nGenerator: circuit-atlas\n"
            b"Root-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD").encode()
    wheel_path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel_path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            wheel.writestr(entry, data)
    return wheel_path


def _our_files() -> Iterator[tuple[str, bytes]]:
    """Every file of our packages: its name in the wheel, and its bytes."""
    for package in _PACKAGES:
        spec = importlib.util.find_spec(f"circuit_atlas.{package}")
        folders = None if spec is None else spec.submodule_search_locations
        root = Path(folders[0]) if folders else None
        if root is None or not root.is_dir():
            raise InfrastructureError(
                f"no files of circuit_atlas.{package} to send: install circuit-atlas unzipped"
            )
        for inside, path in _files(root):
            yield f"circuit_atlas/{package}/{inside}", path.read_bytes()


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """The files below a folder that are not hidden, by their paths there."""
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
        if path.is_file() and not hidden:
            yield inside.as_posix(), path


def _record(files: Mapping[str, bytes], record_name: str) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.writerow([name, f"sha256={digest}", len(data)])
    rows.writerow([record_name, "", ""])
    return text.getvalue()
