"""Directions read from the files that sparse autoencoders are published in."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from circuit_atlas.jobs.spec.layers import DirectionsFile
from circuit_atlas.jobs.tasks.directions_file import read_directions
from circuit_atlas.storage_schema.directions import Directions
from circuit_atlas.storage_schema.errors import ModelError

CHANNELS, FEATURES = 4, 7
MATRIX = np.random.default_rng(0).standard_normal((FEATURES, CHANNELS)).astype(np.float32)
BIAS = np.arange(FEATURES, dtype=np.float32)
SHIFT = np.array([1, -2, 3, 0.5], dtype=np.float32)


def read(path: Path, **options: Any) -> Directions:
    return read_directions(DirectionsFile(file=str(path), **options), CHANNELS)


def saved(folder: Path, arrays: dict[str, np.ndarray], **metadata: str) -> Path:
    path = folder / "sae.safetensors"
    save_file({k: torch.from_numpy(v.copy()) for k, v in arrays.items()}, path, metadata)
    return path


@pytest.mark.parametrize(
    "arrays",
    [
        {"directions": MATRIX, "bias": BIAS},
        {"W_enc": MATRIX.T, "b_enc": BIAS, "W_dec": MATRIX},
        {"encoder.weight": MATRIX, "encoder.bias": BIAS, "decoder.weight": MATRIX.T},
        {"encoder.weight": MATRIX, "latent_bias": BIAS},
        {"model.encoder.weight": MATRIX[:, :, None, None], "model.encoder.bias": BIAS},
    ],
)
def test_the_keys_of_published_autoencoders(tmp_path, arrays):
    found = read(saved(tmp_path, arrays), activation="relu")
    np.testing.assert_array_equal(found.vectors, MATRIX)
    np.testing.assert_array_equal(found.bias, BIAS)
    assert found.activation == "relu"
    assert found.names == tuple(f"sae.{n}" for n in range(FEATURES))


def test_a_packed_file_that_unpacks_to_far_more_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("weight.npy", bytes(300 << 20))
    assert (tmp_path / "d.npz").stat().st_size < 10**6
    with pytest.raises(ModelError, match=r"its arrays unpack to 314,572,800 bytes, and 273,"):
        read(tmp_path / "d.npz")


def test_numpy_files(tmp_path):
    np.save(tmp_path / "d.npy", MATRIX)
    found = read(tmp_path / "d.npy")
    np.testing.assert_array_equal(found.vectors, MATRIX)
    assert not found.bias.any()
    names = np.array(list("abcdefg"))
    np.savez(tmp_path / "d.npz", weight=MATRIX.T, bias=BIAS, names=names)
    found = read(tmp_path / "d.npz")
    np.testing.assert_array_equal(found.vectors, MATRIX)
    np.testing.assert_array_equal(found.bias, BIAS)
    assert found.names == tuple("abcdefg")


def test_half_precision(tmp_path):
    path = tmp_path / "d.safetensors"
    save_file({"weight": torch.from_numpy(MATRIX).bfloat16()}, path)
    np.testing.assert_allclose(read(path).vectors, MATRIX, rtol=1e-2)


@pytest.mark.parametrize("shift", ["b_dec", "pre_bias", "decoder.bias"])
def test_whether_a_decoder_s_bias_is_subtracted_is_asked(tmp_path, shift):
    path = saved(tmp_path, {"encoder.weight": MATRIX, "encoder.bias": BIAS, shift: SHIFT})
    with pytest.raises(ModelError, match=rf'say subtract = "{shift}".*or subtract = "none"'):
        read(path)
    np.testing.assert_array_equal(read(path, subtract="none").bias, BIAS)
    x = np.array([0.3, 1.0, -1.0, 2.0])
    found = read(path, subtract=shift)
    np.testing.assert_allclose(
        found.vectors @ x + found.bias, MATRIX @ (x - SHIFT) + BIAS, rtol=1e-6
    )


def test_names(tmp_path):
    names = [f"feature {n}" for n in range(FEATURES)]
    in_file = saved(tmp_path, {"directions": MATRIX}, names=json.dumps(names))
    assert read(in_file).names == tuple(names)
    for text in ("\n".join(names) + "\n", json.dumps(names)):
        (tmp_path / "names.txt").write_text(text)
        assert read(in_file, names=str(tmp_path / "names.txt")).names == tuple(names)
    for wrong, message in (
        (names[1:], "holds 7 directions and there are 6 names"),
        ([*names[1:], names[1]], "'feature 1' twice"),
        ([*names[1:], "12"], "'12' as a name, which is none or a unit's number"),
    ):
        (tmp_path / "names.txt").write_text("\n".join(wrong))
        with pytest.raises(ModelError, match=message):
            read(in_file, names=str(tmp_path / "names.txt"))


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"a": MATRIX, "b": MATRIX}, {}, r"several matrices \('a' and 'b'\).*as key = "),
        ({"a": MATRIX, "b": MATRIX}, {"key": "c"}, "has no matrix 'c'"),
        ({"a": BIAS}, {}, r"no matrix \('a'\)"),
        ({"weight": MATRIX[:, :3]}, {}, "a matrix of 7 x 3 and the layer has 4 channels"),
        ({"W_enc": MATRIX[:4]}, {}, "either side may be the directions"),
        ({"weight": MATRIX, "bias": BIAS[1:]}, {}, "'bias' holds 6 numbers; give 7, one a dir"),
        ({"weight": MATRIX}, {"bias": "b"}, "has no bias 'b'"),
        ({"weight": MATRIX}, {"subtract": "b"}, "has no vector 'b'"),
    ],
)
def test_what_is_not_settled_is_asked_for(tmp_path, arrays, options, message):
    with pytest.raises(ModelError, match=message):
        read(saved(tmp_path, arrays), **options)


def test_a_file_that_cannot_be_read(tmp_path):
    for name in ("d.npy", "d.npz", "d.safetensors", "d.pt"):
        with pytest.raises(ModelError, match="no directions at"):
            read(tmp_path / name)
        (tmp_path / name).write_bytes(b"PK\x03\x04 not what it says")
        with pytest.raises(ModelError, match=r"cannot be read.*give a \.safetensors"):
            read(tmp_path / name)


def test_a_direction_of_zeros_is_refused():
    matrix = MATRIX.copy()
    matrix[3] = 0
    directions = Directions(tuple("abcdefg"), matrix, BIAS)
    with pytest.raises(ModelError, match="direction 'd': its weights are all zero"):
        directions.check()
