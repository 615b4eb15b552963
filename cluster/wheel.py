"""A wheel of the packages that are imported here, made without network or build tools.

It takes our code to a cluster (`submit`). There Ray runs `pip install WHEEL --target=FOLDER`, which
also fetches whatever the wheel requires, torch and Ray themselves included, and puts that first on
the path. So this wheel requires nothing: the cluster's image has to have what we build with
(`cluster/Dockerfile`). For the same reason it is not the wheel to publish.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import zipfile
from collections.abc import Iterator
from pathlib import Path

from circuit_atlas.storage_schema.errors import InfrastructureError

_PACKAGES = ("storage_schema", "jobs", "cluster", "service")
# The earliest time that a zip file can hold: the same code is the same wheel, byte for byte.
_TIME = (1980, 1, 1, 0, 0, 0)


def build_wheel(folder: Path) -> Path:
    """Writes the wheel into `folder` and returns its path.

    Its version ends in a digest of its contents, as in `circuit_atlas-0.1.0+code0123456789ab-...`:
    a Ray cluster takes two wheels of one name for one and the same, and keeps the older.

    Raises:
        InfrastructureError: the code of a package is not there as files.
    """
    code = dict(_code())
    digest = hashlib.sha256()
    for name in sorted(code):
        digest.update(f"{name}\0{len(code[name])}\0".encode() + code[name])
    # A letter first: as a number, the label would lose its leading zeros.
    version = f"{importlib.metadata.version('circuit-atlas')}+code{digest.hexdigest()[:12]}"
    info = f"circuit_atlas-{version}.dist-info"
    files = code | {
        f"{info}/METADATA": _metadata(version).encode(),
        f"{info}/WHEEL": (
            b"Wheel-Version: 1.0\nGenerator: circuit-atlas\n"
            b"Root-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD").encode()
    path = folder / f"circuit_atlas-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            wheel.writestr(entry, data)
    return path


def _code() -> Iterator[tuple[str, bytes]]:
    """Every file of our packages: its name in the wheel, and its bytes."""
    for package in _PACKAGES:
        spec = importlib.util.find_spec(f"circuit_atlas.{package}")
        folders = None if spec is None else spec.submodule_search_locations
        root = Path(folders[0]) if folders else None
        if root is None or not root.is_dir():
            raise InfrastructureError(
                f"no files of circuit_atlas.{package} to send: install circuit-atlas unzipped"
            )
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            hidden = any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
            if path.is_file() and not hidden:
                yield f"circuit_atlas/{package}/{inside.as_posix()}", path.read_bytes()


def _metadata(version: str) -> str:
    installed = importlib.metadata.metadata("circuit-atlas")
    return (
        f"Metadata-Version: 2.1\nName: circuit-atlas\nVersion: {version}\n"
        f"Summary: {installed['Summary']}\nRequires-Python: {installed['Requires-Python']}\n"
    )


def _record(files: dict[str, bytes], record_name: str) -> str:
    lines = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}")
    return "\n".join([*lines, f"{record_name},,"]) + "\n"
