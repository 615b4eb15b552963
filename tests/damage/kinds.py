"""The kinds of files that an atlas has, by the documented paths."""

from __future__ import annotations

import re

from circuit_atlas.storage_schema import layout

_PARTS = {
    "layer": "[^/]+",
    "unit": r"\d+",
    "attempt": r"\d+",
    "number": r"\d+",
    "chunk": r"\d+",
    "generation": r"\d+-[0-9a-f]{8}",
    "sha256": "[0-9a-f]{64}",
    "source": "[0-9a-f]{64}",
    "units": "[0-9a-f]{64}",
    "variant": "[^/]+?",
    "worker": "[^/]+",
    "table": "[a-z_]+",
    "build": "[^/]+",
    "stage": "[^/]+",
    "repair": "[^/]+",
}
_NOT_READ = (layout.BUILDS, layout.CLAIMS, layout.SET_ASIDE)
"""Folders of what is a hint from one build to another, and of what was taken out of an atlas."""
_BY_TABLE = "<table>"
ABSENT: frozenset[str] = frozenset(
    (
        "layers/<layer>/commits/<unit>.json",
        "layers/<layer>/failures/<unit>.<attempt>.json",
        "layers/<layer>/labels/<number>.json",
        "layers/<layer>/responses/<units>/<chunk>-<sha256>.parquet",
        "layers/<layer>/responses/channels/<chunk>-<sha256>.parquet",
        "layers/<layer>/sealed/<generation>/manifest.json",
        "features/<layer>/<unit>/<variant>.json",
        "features/<layer>/failures/<unit>.<attempt>.json",
        "features/plans/<sha256>.json",
        "plans/<sha256>.json",
        "prepared/<source>/<chunk>.json",
        "prepared/<source>/whole.json",
        "runs/<worker>.json",
    )
)
"""Kinds whose absence is a state of an atlas: of a unit that is not built, or not sealed. A deleted
one is as one that was never written."""


def kind_of(path: str) -> str:
    """Name the kind of file at a path: as it is documented, with tables and arrays by name;
    ValueError where it is none of an atlas."""
    for template in documented():
        match = _pattern(template).fullmatch(path)
        if match is None:
            continue
        if _BY_TABLE in template:
            return template.replace(_BY_TABLE, match["table"])
        return _of_array(path) if template.endswith("arrays.zarr/") else template
    raise ValueError(f"no file of an atlas lies at {path}")


def documented() -> tuple[str, ...]:
    """Return the kinds that are documented, those of tables and arrays as one, but for what no
    reader asks for."""
    return tuple(path for path, _ in layout.PATHS if not path.startswith(_NOT_READ))


def template_of(kind: str) -> str:
    """Return the documented path that files of a kind lie at."""
    return next(
        template
        for template in documented()
        if kind == template
        or (template.endswith("/") and kind.startswith(template))
        or (
            _BY_TABLE in template
            and re.fullmatch(re.escape(template).replace(_BY_TABLE, "[a-z_]+"), kind)
        )
    )


def _of_array(path: str) -> str:
    inside = path.split("/arrays.zarr/")[1].split("/")
    start = "layers/<layer>/arrays.zarr"
    if inside == ["zarr.json"]:
        return f"{start}/zarr.json"
    what = "zarr.json" if inside[-1] == "zarr.json" else "<chunk>"
    return f"{start}/{inside[0]}/{what}"


def _pattern(template: str) -> re.Pattern[str]:
    seen: set[str] = set()
    parts = []
    for index, part in enumerate(re.split(r"<(\w+)>", template)):
        if not index % 2:
            parts.append(re.escape(part))
        elif part in seen:
            parts.append(f"(?:{_PARTS[part]})")
        else:
            seen.add(part)
            parts.append(f"(?P<{part}>{_PARTS[part]})")
    return re.compile("".join(parts) + (".+" if template.endswith("/") else ""))
