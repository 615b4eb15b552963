"""A build that meets a torn file says so, repairs the atlas, and ends as if there had been none; so
does one beside which others repair it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from circuit_atlas.cluster.executor import Planned, TaskDone, TaskStarted
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.service import CorruptError, Damaged
from circuit_atlas.service.commands.cli import main
from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.repair import repair
from circuit_atlas.storage_schema.verify import verify
from tests.patience import PATIENCE_S
from tests.repairs.atlases import finish, spec
from tests.repairs.conftest import Whole
from tests.repairs.trial import Content, content


@pytest.fixture
def atlas(whole: Callable[[bool], Whole], tmp_path: Path) -> Path:
    """A copy of the atlas whose units have images of their own."""
    shutil.copytree(whole(True).location, tmp_path / "atlas")
    return tmp_path / "atlas"


@pytest.fixture
def expected(whole: Callable[[bool], Whole]) -> Content:
    """What is in it."""
    return whole(True).content


def tear(atlas: Path, pattern: str) -> Path:
    """Cuts a file in half."""
    path = sorted(atlas.glob(pattern))[-1]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


@pytest.mark.parametrize(
    "pattern",
    [
        "layers/2/commits/0.json",
        "plans/*",
        "layers/2/layer.json",
        "images.json",
        "prepared/*/whole.json",
        "layers/2/responses/*.json",
        "layers/2/sealed/*/manifest.json",
        "layers/2/sealed/*/commits.parquet",
    ],
)
def test_no_torn_file_ends_a_build(
    folder: Path, expected: Content, atlas: Path, pattern: str
) -> None:
    path = tear(atlas, pattern)
    events: list[object] = []
    finish(spec(folder, atlas, sampled=True), on_event=events.append)
    met, done = (event for event in events if isinstance(event, Damaged))
    assert str(path) in met.lines[0]
    assert any(layout.SET_ASIDE in line for line in done.lines)
    assert content(atlas) == expected
    assert not [finding for finding in verify(open_store(atlas)) if finding.harmful]


@pytest.mark.parametrize(
    ("pattern", "moment"),
    [
        ("layers/2/arrays.zarr/contribution/c.3.*", Planned),
        ("layers/2/network.json", TaskStarted),
        ("layers/4/layer.json", TaskDone),
    ],
)
def test_a_build_ends_whole_where_a_repair_beside_it_takes_what_it_counts_on(
    folder: Path, expected: Content, atlas: Path, pattern: str, moment: type
) -> None:
    (atlas / "layers/2/commits/0.json").unlink()
    events: list[object] = []

    def note(event: object) -> None:
        if isinstance(event, moment) and not any(isinstance(e, moment) for e in events):
            tear(atlas, pattern)
            assert repair(open_store(atlas)).steps
        events.append(event)

    finish(spec(folder, atlas, sampled=True), on_event=note)
    (told,) = (event for event in events if isinstance(event, Damaged))
    assert "a repair was at work meanwhile" in told.lines[-1]
    assert content(atlas) == expected
    assert not [finding for finding in verify(open_store(atlas)) if finding.harmful]


def test_of_two_builds_that_meet_damage_neither_ends_at_the_other(
    folder: Path, expected: Content, atlas: Path
) -> None:
    """One repairs it, and the other, which has met the same, finds nothing left to repair."""
    tear(atlas, "layers/2/responses/*.json")
    met, repaired = threading.Barrier(2, timeout=PATIENCE_S), threading.Event()

    def run(_: int) -> list[Damaged]:
        told: list[Damaged] = []

        def note(event: object) -> None:
            if isinstance(event, Damaged):
                told.append(event)
                if len(told) == 2:
                    repaired.set()
                elif met.wait():
                    assert repaired.wait(PATIENCE_S)

        finish(spec(folder, atlas, sampled=True), on_event=note)
        return told

    with ThreadPoolExecutor(2) as pool:
        told = [[event.lines for event in one] for one in pool.map(run, range(2))]
    assert {len(one) for one in told} == {2}
    assert sum("meanwhile" in one[1][0] for one in told) == 1
    assert content(atlas) == expected
    assert not [finding for finding in verify(open_store(atlas)) if finding.harmful]


def test_a_chunk_of_pixels_that_is_gone_ends_no_build(
    folder: Path, expected: Content, atlas: Path
) -> None:
    path = sorted(atlas.glob("prepared/pixels/*"))[0]
    path.unlink()
    (atlas / "layers/2/commits/0.json").unlink()
    events: list[object] = []
    finish(spec(folder, atlas, sampled=True), on_event=events.append)
    met, _ = (event for event in events if isinstance(event, Damaged))
    assert f"{path} is missing" in met.lines[0]
    assert content(atlas) == expected


@pytest.mark.parametrize(
    "pattern", ["layers/4/failures/*", "prepared/*/0.json", "layers/2/labels/*", "runs/*"]
)
def test_what_it_does_not_read_does_not_stop_it(folder: Path, atlas: Path, pattern: str) -> None:
    tear(atlas, pattern)
    end = finish(spec(folder, atlas, sampled=True))
    assert end.summary.skipped > 3


def test_a_header_is_no_builds_to_make_again(folder: Path, atlas: Path) -> None:
    path = tear(atlas, layout.HEADER)
    torn = path.read_bytes()
    with pytest.raises(CorruptError, match="circuit-atlas repair"):
        finish(spec(folder, atlas, sampled=True))
    assert path.read_bytes() == torn


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"circuits": {"fractions": [1, 0.4, 0.1]}}, "fractions of unit 0 of layer '2'"),
        ({"circuits": {"criteria": ["actgrad", "snip"]}}, "arrays of layer '2' differ"),
        ({"images": {"held_out": 0.5}}, "images"),
        ({"model": {"reference": "repair_models:another"}}, "weights of layer '2'"),
        ({"layers": [{"name": "4", "units": [0]}]}, "laid out differently"),
    ],
)
def test_a_header_is_not_made_from_another_spec(
    folder: Path,
    atlas: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    differs: str,
) -> None:
    """Even where nothing of the header is left."""
    (atlas / layout.HEADER).unlink()
    values = spec(folder, atlas, sampled=True).model_dump(mode="json", exclude_none=True)
    for section, keys in changes.items():
        values[section] = {**values[section], **keys} if section != "layers" else keys
    other = folder / "other.toml"
    other.write_text(BuildSpec.from_values(values).to_toml())
    assert main(["repair", str(atlas), "--spec", str(other)]) == 3
    assert differs in capsys.readouterr().err
    assert not (atlas / layout.HEADER).exists()
