"""An atlas damaged, repaired and built on, held against what it was."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from circuit_atlas.service.commands.cli import main
from circuit_atlas.storage_schema import layer_paths
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.sealed import newest
from circuit_atlas.storage_schema.verify import verify
from tests.repairs.atlases import finish, spec
from tests.repairs.damage import Damage, by_kind, damage

Content = dict[tuple[Any, ...], Any]


@dataclass(frozen=True)
class Outcome:
    """What became of a damaged atlas.

    Attributes:
        damages: what was done to it.
        computed: how many units were computed again.
        whole: how many of them had all files of their own whole.
    """

    damages: tuple[Damage, ...]
    computed: int
    whole: int


def content(location: Path) -> Content:
    """Every mask, score and table of an atlas."""
    reader, found = Reader(location), {}
    fractions = range(len(reader.header.fractions))
    found["header",] = reader.header
    found["images",] = reader.images().to_pylist()
    found["jpegs",] = reader.jpegs(range(len(found["images",])))
    found["plan",] = dict(reader.plan().units)
    for layer in reader.layers():
        index, commits = reader.layer(layer), reader.commits(layer)
        found["index", layer] = index, reader.labels(layer), _plain(reader.weights(layer))
        found["network", layer] = reader.wiring(layer), reader.channels(layer).to_pylist()
        if index.directions is not None:
            found["directions", layer] = reader.directions(layer).vectors.tobytes()
        for criterion in reader.header.criteria:
            for level in fractions:
                masks = reader.masks(layer, criterion, level)
                found["masks", layer, criterion, level] = sorted(
                    (unit, mask.tobytes()) for unit, mask in masks
                )
        poly = reader.polysemanticity(layer, commits)
        found["polysemanticity", layer] = repr(poly.to_pylist())
        for unit, commit in commits.items():
            key = layer, unit
            found["responses", *key] = repr(reader.responses(commit).to_pylist())
            found["distribution", *key] = repr(reader.distribution(layer, unit))
            found["commit", *key] = commit.state, commit.kernels, commit.top_images, commit.forms
            found["pictures", *key] = [
                (record.variant, reader.visualization_image(record))
                for record in reader.feature_visualizations(layer, unit)
            ]
            if commit.state == "dead":
                continue
            for table in ("faithfulness", "subfeatures", "groups", "selectivity"):
                found[table, *key] = repr(getattr(reader, table)(commit).to_pylist())
            for array in ("contribution", "response_maps"):
                found[array, *key] = getattr(reader, array)(commit).tobytes()
            for criterion in reader.header.criteria:
                found["scores", *key, criterion] = reader.scores(commit, criterion).tobytes()
                for level in fractions:
                    mask = reader.mask(commit, criterion, level)
                    found["mask", *key, criterion, level] = mask.tobytes()
            found["images", *key] = reader.image_scores(commit, "actgrad").tobytes()
            found["stability", *key] = reader.stability(commit, "actgrad").tobytes()
    return found


def trial(
    folder: Path,
    pristine: Path,
    expected: Content,
    *,
    sampled: bool,
    seed: int,
    scratch: Path,
    kind: str | None = None,
) -> Outcome:
    """Damages a copy of an atlas at one to three files, repairs it, builds, and compares.

    Args:
        folder: of model, images and spec.
        pristine: the atlas.
        expected: its content.
        sampled: which of the two.
        seed: of what is drawn.
        scratch: where the copy goes, and is deleted.
        kind: of the files to damage. Default: any.
    """
    drawn = random.Random(seed)
    shutil.copytree(pristine, scratch)
    try:
        files = by_kind(scratch)
        count = drawn.choice((1, 1, 2, 3))
        damages = tuple(damage(scratch, files, drawn, kind=kind) for _ in range(count))
        # Of a header a spec alone tells.
        with_spec = drawn.random() < 0.2 or any(one.kind == "header" for one in damages)
        computed, whole = _put_right(
            folder, scratch, expected, damages, sampled=sampled, with_spec=with_spec
        )
        return Outcome(damages, computed, whole)
    except BaseException as error:
        told = "; ".join(map(str, damages))
        error.add_note(f"seed {seed}, {'sampled' if sampled else 'all images'}: {told}")
        raise
    finally:
        shutil.rmtree(scratch)


def _put_right(
    folder: Path,
    store: Path,
    expected: Content,
    damages: tuple[Damage, ...],
    *,
    sampled: bool,
    with_spec: bool,
) -> tuple[int, int]:
    before = _commits(store)
    asked = spec(folder, store, sampled=sampled)
    if with_spec:
        (folder / "spec.toml").write_text(asked.to_toml())
        how = ["--spec", str(folder / "spec.toml"), "--executor", "local"]
        assert main(["repair", str(store), *how]) == 1  # a unit of the spec fails
    else:
        assert main(["repair", str(store)]) == 0
    pictures = any(one.kind.startswith("visualization") for one in damages)
    if pictures or not with_spec:
        finish(asked, pictures=pictures)
    assert main(["compact", str(store)]) == 0  # what misses a unit is sealed by nobody else
    found = content(store)
    assert found.keys() == expected.keys()
    wrong = [key for key in expected if found[key] != expected[key]]
    assert not wrong, f"differ: {wrong[:5]}"
    harmful = [finding for finding in verify(open_store(store)) if finding.harmful]
    assert not harmful, harmful
    for layer in ("2", "4"):
        assert newest(open_store(store), layer), f"{layer} is not sealed"
    anew = [key for key, commit in _commits(store).items() if before.get(key) != commit]
    hurt = set().union(*(one.units for one in damages))
    return len(anew), len(set(anew) - hurt)


def _commits(store: Path) -> dict[tuple[str, int], bytes]:
    """The bytes of every commit record."""
    found = {}
    for path in store.glob("layers/*/commits/*.json"):
        name = path.relative_to(store).as_posix()
        layer, unit = layer_paths.layer_of(name), layer_paths.committed_unit(name)
        if layer is not None and unit is not None:
            found[layer, unit] = path.read_bytes()
    return found


def _plain(weights: tuple[np.ndarray | None, ...]) -> list[bytes | None]:
    return [None if array is None else array.tobytes() for array in weights]


def table(outcomes: list[Outcome]) -> str:
    """Kinds of files by what became of them."""
    rows: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        for one in outcome.damages:
            row = rows.setdefault(one.kind, Counter())
            row["damages"] += 1
            row[one.way] += 1
    lines = ["| file | damages | ways |", "| --- | --- | --- |"]
    for kind, row in sorted(rows.items()):
        ways = ", ".join(f"{way} {n}" for way, n in sorted(row.items()) if way != "damages")
        lines.append(f"| {kind} | {row['damages']} | {ways} |")
    return "\n".join(lines)
