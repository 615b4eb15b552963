"""Images of arrays: what is read, what lies beside, and what the network gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from numpy.typing import NDArray

from circuit_atlas.jobs.images.preparation import Preparation
from circuit_atlas.jobs.images.prepared_images import PreparedImages, load_images
from circuit_atlas.jobs.spec.preprocessing import IMAGENET_MEAN, PreprocessingSpec
from circuit_atlas.storage_schema.errors import ImageError, SpecError
from tests.jobs.images.pictures import shown, spec_of

SHAPE = (6, 5, 7, 9)


def load(
    source: Path, *, preprocessing: dict[str, Any] | None = None, **images: Any
) -> PreparedImages:
    return load_images(spec_of(source, **images), PreprocessingSpec(**(preprocessing or {})))


def refusal(source: Path, **given: Any) -> str:
    with pytest.raises((ImageError, SpecError)) as caught:
        load(source, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def values(dtype: str, shape: tuple[int, ...] = SHAPE) -> NDArray[Any]:
    rng = np.random.default_rng(0)
    if dtype.startswith("float"):
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, 2 if dtype == "bool" else 120, shape).astype(dtype)


def as_npy(path: Path, array: NDArray[Any]) -> Path:
    np.save(path / "x.npy", array)
    return path / "x.npy"


def as_zarr(path: Path, array: NDArray[Any]) -> Path:
    made = zarr.create_array(
        path / "x.zarr", shape=array.shape, dtype=array.dtype, chunks=(4, 1, 7, 9)
    )
    made[:] = array
    return path / "x.zarr"


def as_group(path: Path, array: NDArray[Any]) -> Path:
    group = zarr.open_group(path / "g.zarr", mode="w")
    group.create_array("stacked", data=array)
    group.create_array("labels", data=np.arange(len(array)) % 3 - 1)
    group.create_array("other", data=np.zeros(3))
    return path / "g.zarr"


SCALE = {"uint8": 255, "uint16": 65535, "bool": 1}


@pytest.mark.parametrize("write", [as_npy, as_zarr, as_group])
@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", ">f4", "uint8", "uint16", "int16", "int64", "bool"]
)
def test_the_network_gets_what_the_array_holds(
    tmp_path: Path, write: Callable[..., Path], dtype: str
) -> None:
    array = values("float32" if dtype == ">f4" else dtype).astype(dtype)
    mean, std = (0.5, 0.0, 1.0, -1.0, 2.0), (1.0, 2.0, 0.5, 3.0, 4.0)
    found = load(write(tmp_path, array), preprocessing={"mean": mean, "std": std})
    expected = array.astype(np.float64) / SCALE.get(dtype, 1)
    expected = (expected - np.reshape(mean, (5, 1, 1))) / np.reshape(std, (5, 1, 1))
    batch = found.batch([3, 0, 5])
    assert batch.dtype == torch.float32
    assert np.allclose(batch.numpy(), expected[[3, 0, 5]], atol=1e-5)
    assert (found.size, found.channels) == ((7, 9), 5)
    assert [info.name for info in found.infos] == [f"row-{n}" for n in range(6)]
    assert {(i.width, i.height, i.mode) for i in found.infos} == {(9, 7, np.dtype(dtype).name)}
    assert load(tmp_path / found_name(write), preprocessing={"mean": mean, "std": std}).sha256 == (
        found.sha256
    )


def found_name(write: Callable[..., Path]) -> str:
    return {as_npy: "x.npy", as_zarr: "x.zarr", as_group: "g.zarr"}[write]


def test_mean_and_std_are_0_and_1_unless_there_are_three_channels(tmp_path: Path) -> None:
    array = values("uint8")
    found = load(as_npy(tmp_path, array))
    assert found.mean == (0.0,) * 5
    assert torch.equal(found.batch([1])[0], torch.from_numpy(array[1]).float() / 255)
    colours = load(as_npy(tmp_path, values("uint8", (3, 3, 4, 4))))
    assert colours.mean == IMAGENET_MEAN
    line = refusal(as_npy(tmp_path, array), preprocessing={"mean": (0.5,), "std": (0.5,)})
    assert "mean has 1 numbers and the images have 5 channels" in line


def test_numbers_of_no_fixed_range_are_not_taken_for_imagenets(tmp_path: Path) -> None:
    normalised = as_npy(tmp_path, values("float32", (4, 3, 8, 8)))
    line = refusal(normalised)
    assert "mean and std are ImageNet's, for values from 0 to 1" in line
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    found = load(normalised, preprocessing=plain)
    assert torch.equal(found.batch([2]), torch.from_numpy(np.load(normalised)[2:3]))
    assert "arrays of float32, from -" in found.remark
    shares = as_npy(tmp_path, np.random.default_rng(0).random((4, 3, 8, 8)))
    spec = Preparation(spec_of(shares), PreprocessingSpec()).spec
    assert spec.preprocessing is not None
    assert spec.preprocessing.is_imagenets


def test_arrays_are_resized_and_cropped(tmp_path: Path) -> None:
    array = np.zeros((2, 2, 8, 8), np.float32)
    array[:, :, :4] = 1
    found = load(as_npy(tmp_path, array), preprocessing={"resize": (4, 4), "crop": (4, 2)})
    assert found.size == (4, 2)
    assert torch.allclose(found.batch([0])[0, 0, [0, -1], 0], torch.tensor([1.0, 0.0]), atol=0.1)
    assert load(tmp_path / "x.npy", preprocessing={"resize": 4}).size == (4, 4)
    assert "crop [9, 9] is larger than the images" in refusal(
        tmp_path / "x.npy", preprocessing={"crop": 9}
    )


def test_what_is_shown(tmp_path: Path) -> None:
    array = values("float32", (4, 5, 8, 8)) * 1000
    found = load(as_npy(tmp_path, array))
    pixels = shown(found, 1)
    assert pixels.shape == (8, 8, 3)
    low, high = (getattr(array, end)((0, 2, 3), keepdims=True)[0] for end in ("min", "max"))
    grey = np.rint(((array[1] - low) / (high - low)).mean(0) * 255)
    assert np.abs(pixels - grey[..., None]).max() <= 1
    seen = (found.batch([1])[0].numpy() - low) / (high - low)
    back = (seen - np.reshape(found.mean, (5, 1, 1))) / np.reshape(found.std, (5, 1, 1))
    assert np.allclose(back, found.batch([1])[0].numpy(), atol=1e-2)
    levels = values("uint8", (2, 3, 8, 8))
    assert np.array_equal(shown(load(as_npy(tmp_path, levels)), 1), levels[1].transpose(1, 2, 0))


def test_names_and_labels_beside_an_array(tmp_path: Path) -> None:
    array = as_npy(tmp_path, values("uint8"))
    (tmp_path / "x.ids.txt").write_text("f\ne\nd\nc\nb\na\n")
    np.save(tmp_path / "x.labels.npy", np.array([0, 1, -1, 0, 1, 0]))
    found = load(array)
    assert [(i.name, i.label) for i in found.infos] == [
        ("a", "0"),
        ("b", "1"),
        ("c", "0"),
        ("d", None),
        ("e", "1"),
        ("f", "0"),
    ]
    assert torch.equal(found.batch([0])[0], torch.from_numpy(np.load(array)[5]).float() / 255)
    assert [info.name for info in load(array, limit=2).infos] == ["a", "b"]
    (tmp_path / "named.json").write_text(json.dumps(["cat", None, "dog", 1, "", "cat"]))
    found = load(array, labels=str(tmp_path / "named.json"))
    assert [info.label for info in found.infos] == ["cat", None, "1", "dog", None, "cat"]
    (tmp_path / "named.json").write_text('["cat"]')
    assert "holds 1 for 6 images" in refusal(array, labels=str(tmp_path / "named.json"))
    (tmp_path / "named.json").write_text("{")
    assert "cannot be read" in refusal(array, labels=str(tmp_path / "named.json"))
    (tmp_path / "x.ids.txt").write_text("a\na\nc\nd\ne\nf")
    assert "are called 'a'" in refusal(array)


def test_names_and_labels_in_a_zarr_group(tmp_path: Path) -> None:
    path = as_group(tmp_path, values("float32"))
    assert [info.label for info in load(path).infos] == [None, "0", "1"] * 2
    group = zarr.open_group(path, mode="a")
    called = group.create_array("called", shape=(6,), dtype="string")
    called[:] = np.array([f"n{9 - n}" for n in range(6)], dtype=object)
    found = load(path, ids="called", labels="called", column="stacked")
    assert (found.infos[0].name, found.infos[0].label) == ("n4", "n4")
    group.create_array("more", data=values("float32"))
    assert "axes are 'more' and 'stacked'): set images.column" in refusal(path)
    assert "is no array in" in refusal(path, column="mor")
    assert load(path / "more").channels == 5
    group.create_array("images", data=values("float32", (6, 2, 7, 9)))
    assert load(path).channels == 2


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((4, 8, 8)),
            "is of shape (4, 8, 8): give (images, channels, height, width); of",
        ),
        (np.zeros((4, 8, 8, 3)), "its channels last as it seems"),
        (np.zeros((0, 1, 8, 8)), "is of shape (0, 1, 8, 8)"),
        (np.zeros((1, 1, 8, 8), complex), "is of complex128: give numbers"),
        (np.array([["a"]]), "is of shape (1, 1)"),
    ],
)
def test_arrays_that_hold_no_images(tmp_path: Path, array: NDArray[Any], message: str) -> None:
    assert message in refusal(as_npy(tmp_path, array))


def test_arrays_that_cannot_be_read(tmp_path: Path) -> None:
    assert "no array at" in refusal(tmp_path / "gone.npy")
    (tmp_path / "torn.npy").write_bytes(b"\x93NUMPY torn")
    assert "cannot be read" in refusal(tmp_path / "torn.npy")
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object))
    assert "cannot be read" in refusal(tmp_path / "o.npy")
    (tmp_path / "e.zarr").mkdir()
    assert "no array at" in refusal(tmp_path / "e.zarr")


def test_images_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    array = values("float64")
    array[2, 1, 3, 3] = np.nan
    array[4, 0, 0, 0] = 1e300
    found = load(as_npy(tmp_path, array))
    assert [info.split == "left_out" for info in found.infos] == [n in (2, 4) for n in range(6)]
    assert found.infos[4].problem == "it holds NaN or infinity"
    assert found.batch([3]).shape == (1, *SHAPE[1:])
