"""`circuit-atlas transfer` prints what `transfer_in` finds, with means by the number of images."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from circuit_atlas.service import transfer_in
from circuit_atlas.service.commands.cli import main
from circuit_atlas.service.commands.transfer import by_number
from tests.jobs.builds import write_noise
from tests.service.compute.test_transfer import MODEL


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "command_models.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    write_noise(tmp_path / "pictures", count=7, side=10)
    file = tmp_path / "spec.toml"
    file.write_text(
        """
        [model]
        reference = "command_models:network"
        [preprocessing]
        resize = [10, 10]
        [images]
        source = "pictures"
        held_out = ["06.png"]
        [[layers]]
        name = "4"
        [circuits]
        criteria = ["snip", "learned"]
        """
    )
    return file


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["transfer", *map(str, arguments)])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_it_prints_the_means_by_the_number_of_images(spec, capsys):
    given = (spec, "4", 1, "--keep", 0.5, "--numbers", "1,3", "--repeats", 2)
    code, out, _ = call(capsys, *given)
    assert code == 0
    assert "4/1: circuits that keep 0.5 by snip, zero ablation" in out
    head, *rows = [line.split() for line in out.splitlines()[-3:]]
    assert head == ["images", "circuits", "kernels", "chosen", "tested", "iou"]
    assert [row[:2] for row in rows] == [["1", "4"], ["3", "4"]]
    code, out, _ = call(capsys, *given, "--json")
    told = json.loads(out)
    found = transfer_in(spec, layer="4", unit=1, keep=0.5, numbers=[1, 3], repeats=2)
    assert told["rows"] == found.to_pylist()
    assert (told["criterion"], told["keep"]) == ("snip", 0.5)
    assert told["by_images"] == by_number(found).to_pylist()
    tested = [row["tested"] or 0 for row in told["rows"] if row["images"] == 3]
    assert told["by_images"][1]["tested"] == pytest.approx(sum(tested) / 4)
    assert f"{told['by_images'][1]['tested']:.3f}" == rows[1][4]


def test_an_undefined_r_counts_as_zero():
    rows = pa.table(
        {
            "repeat": [0, 0],
            "images": [2, 2],
            "kernels": [5, 5],
            "chosen": [0.5, 1.0],
            "tested": [None, 0.5],
            "iou": [0.25, 0.75],
        }
    )
    assert by_number(rows).to_pylist() == [
        {"images": 2, "circuits": 2, "kernels": 5, "chosen": 0.75, "tested": 0.25, "iou": 0.5}
    ]


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        (["--criterion", "learned"], 2, "'learned' has no scores of single images"),
        (["--criterion", "snap"], 2, "did you mean 'snip'"),
        (["--numbers", "4"], 2, "half of the images are 3, so give 1 to 3"),
        (["--numbers", "1;2"], 2, "'1;2' is no list of whole numbers"),
        (["--repeats", "0"], 2, "repeats=0"),
        (["--keep", "2"], 2, "keep=2"),
    ],
)
def test_what_cannot_be_tested(spec, capsys, changes, code, message):
    found, out, err = call(capsys, spec, "4", 1, *changes)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err
