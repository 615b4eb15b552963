"""One file of an atlas damaged at random, whichever kind of file it is."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from circuit_atlas.storage_schema import layer_paths

WAYS = ("bit", "cut", "emptied", "deleted", "swapped", "another's", "appended")
_KINDS: tuple[tuple[str, str], ...] = (
    ("header", r"atlas\.json"),
    ("images.json", r"images\.json"),
    ("images.parquet", r"images\.parquet"),
    ("pixels", r"prepared/pixels/.*"),
    ("prepared chunk", r"prepared/[^/]+/\d+\.json"),
    ("prepared whole", r"prepared/[^/]+/whole\.json"),
    ("plan", r"plans/.*"),
    ("layer.json", r"layers/[^/]+/layer\.json"),
    ("directions", r"layers/[^/]+/directions\.parquet"),
    ("labels", r"layers/[^/]+/labels/.*"),
    ("network.json", r"layers/[^/]+/network\.json"),
    ("network's files", r"layers/[^/]+/(wiring\.json|weights\.parquet|channels\.parquet)"),
    ("response chunk", r"layers/[^/]+/responses/[^/]+/.*"),
    ("responses.json", r"layers/[^/]+/responses/[^/]+\.json"),
    ("responses.parquet", r"layers/[^/]+/responses/[^/]+\.parquet"),
    ("zarr.json", r".*/zarr\.json"),
    ("array chunk", r"layers/[^/]+/arrays\.zarr/.*/c\..*"),
    ("unit's table", r"layers/[^/]+/units/.*"),
    ("commit record", r"layers/[^/]+/commits/.*"),
    ("failure", r".*/failures/.*"),
    ("manifest", r".*/sealed/.*/manifest\.json"),
    ("sealed file", r".*/sealed/.*"),
    ("visualization plan", r"features/plans/.*"),
    ("visualization record", r"features/.*\.json"),
    ("visualization", r"features/.*\.png"),
    ("heartbeat", r"runs/.*"),
)


@dataclass(frozen=True)
class Damage:
    """What was done to which files; the second of those that changed places."""

    kind: str
    way: str
    paths: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}, {self.way}: {' and '.join(self.paths)}"

    @property
    def units(self) -> set[tuple[str, int]]:
        """The units whose own files these are."""
        found = set()
        for path in self.paths:
            layer = layer_paths.layer_of(path)
            unit = re.search(r"/(?:units|commits)/(\d+)[./]|/c\.(\d+)\.", path)
            if layer is not None and unit is not None:
                found.add((layer, int(unit[1] or unit[2])))
        return found


def kind_of(path: str) -> str:
    """The kind of the file at a path."""
    return next(kind for kind, pattern in _KINDS if re.fullmatch(pattern, path))


def by_kind(folder: Path) -> dict[str, list[str]]:
    """The files of an atlas, by kind."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            found.setdefault(kind_of(name), []).append(name)
    return found


def damage(
    folder: Path, files: Mapping[str, list[str]], drawn: random.Random, *, kind: str | None = None
) -> Damage:
    """Damages a file of an atlas, and says which and how; of that kind, or of any."""
    kind = drawn.choice(sorted(files)) if kind is None else kind
    path = drawn.choice(files[kind])
    others = [name for name in files[kind] if name != path]
    others = [name for name in others if (folder / name).exists()]
    ways = [way for way in WAYS if others or way not in ("swapped", "another's")]
    way, file = drawn.choice(ways), folder / path
    if not file.exists():
        return Damage(kind, "deleted", (path,))
    data = file.read_bytes()
    paths = (path,)
    if way == "bit" and data:
        at = drawn.randrange(len(data))
        file.write_bytes(data[:at] + bytes([data[at] ^ 1 << drawn.randrange(8)]) + data[at + 1 :])
    elif way == "cut":
        file.write_bytes(data[: drawn.randrange(max(1, len(data)))])
    elif way == "deleted":
        file.unlink()
    elif way == "appended":
        file.write_bytes(data + drawn.randbytes(drawn.randint(1, 40)))
    elif way in ("swapped", "another's"):
        other = drawn.choice(others)
        file.write_bytes((folder / other).read_bytes())
        if way == "swapped":
            (folder / other).write_bytes(data)
            paths = (path, other)
    else:
        way = "emptied"
        file.write_bytes(b"")
    return Damage(kind, way, paths)
