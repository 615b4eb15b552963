"""The kinds of cases: where each is made. A child imports the one that it runs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from random import Random

from tests.fuzz.watch import Prepare, Run

KINDS = {
    "documents": ("documents", "altered"),
    "parquet, altered": ("parquet", "altered"),
    "parquet, odd": ("parquet", "odd"),
    "parquet, bombs": ("parquet_bombs", "bombs"),
    "sealed tables": ("parquet", "sealed_tables"),
    "values": ("values", "values"),
    "arrays, altered": ("arrays", "altered"),
    "arrays, bombs": ("arrays", "bombs"),
    "links and special files": ("files", "special"),
    "names": ("files", "names"),
    "server": ("files", "served_atlas"),
    "weights": ("weights", "altered"),
}
"""Name -> module of this folder and its function, which is a `watch.Prepare`."""

_DOCUMENT_BYTES, _FILE_BYTES = 1 << 28, 1 << 30


def most_bytes(names: str) -> int:
    """Tell how much memory a case of a kind may take."""
    return _DOCUMENT_BYTES if names == "documents" else _FILE_BYTES


def prepare_of(names: str) -> Prepare:
    """Find a kind by its name, or mix several, `a+b`: each case is then of one of them."""
    found: list[Prepare] = []
    for name in names.split("+"):
        module, function = KINDS[name]
        found.append(getattr(import_module(f"tests.fuzz.{module}"), function))

    def prepare(folder: Path) -> Run:
        runs = []
        for number, each in enumerate(found):
            inside = folder / str(number)
            inside.mkdir(exist_ok=True)
            runs.append(each(inside))

        def run(random: Random) -> None:
            (random.choice(runs) if len(runs) > 1 else runs[0])(random)

        return run

    return prepare
