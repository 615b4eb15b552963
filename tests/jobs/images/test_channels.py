"""Image files for networks that take another number of channels than three."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from circuit_atlas.jobs.images.prepared_images import PreparedImages, load_images
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.storage_schema.errors import SpecError
from tests.jobs.images.pictures import SIZE, coloured, png, shown, spec_of


def load(source: Path, mean: tuple[float, ...], std: tuple[float, ...]) -> PreparedImages:
    return load_images(spec_of(source), PreprocessingSpec(resize=SIZE, mean=mean, std=std))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rgba = np.dstack([coloured(), coloured(1)[..., :1]])
    (tmp_path / "a.png").write_bytes(png(Image.fromarray(coloured())))
    (tmp_path / "b.png").write_bytes(png(Image.fromarray(coloured()[..., 0])))
    (tmp_path / "c.png").write_bytes(png(Image.fromarray(rgba)))
    return tmp_path


def luma(rgb: np.ndarray) -> np.ndarray:
    """ITU-R 601, as Pillow and torchvision make grey."""
    return rgb @ np.array([0.299, 0.587, 0.114])


def test_one_channel_is_grey(folder: Path) -> None:
    found = load(folder, (0.25,), (0.5,))
    assert found.channels == 1
    batch = found.batch([0, 1, 2])
    assert batch.shape == (3, 1, *SIZE)
    levels = (batch[:, 0].numpy() * 0.5 + 0.25) * 255
    assert np.abs(levels[0] - luma(coloured())).max() <= 0.51
    assert np.allclose(levels[1], coloured()[..., 0], atol=1e-3)
    opacity = coloured(1)[..., :1] / 255
    over_white = coloured() * opacity + 255 * (1 - opacity)
    assert np.abs(levels[2] - luma(over_white)).max() <= 2
    assert np.array_equal(shown(found, 1), np.stack([coloured()[..., 0]] * 3, -1))


def test_two_and_four_channels_have_an_opacity(folder: Path) -> None:
    found = load(folder, (0.0,) * 4, (1.0,) * 4)
    levels = (found.batch([0, 1, 2]) * 255).round().permute(0, 2, 3, 1).numpy()
    assert np.array_equal(levels[0, ..., :3], coloured())
    assert np.array_equal(levels[0, ..., 3], np.full(SIZE, 255))
    assert np.array_equal(levels[2, ..., 3], coloured(1)[..., 0])
    seen = coloured(1)[..., 0] > 0  # Pillow has no colour where nothing is opaque
    assert np.abs(levels[2, ..., :3] - coloured())[seen].max() <= 0
    opacity = coloured(1)[..., :1] / 255
    over_white = coloured() * opacity + 255 * (1 - opacity)
    assert np.abs(shown(found, 2) - over_white).max() <= 1
    assert found.table().column("pixels_crc32c").null_count == 0
    two = load(folder, (0.0, 0.0), (1.0, 1.0))
    assert torch.equal(two.batch([2])[0, 1], found.batch([2])[0, 3])
    assert torch.equal(two.batch([1])[0, 0] * 255, torch.from_numpy(coloured()[..., 0]).float())
    assert shown(two, 2).shape == (*SIZE, 3)


def test_the_default_follows_the_network(folder: Path) -> None:
    default = PreprocessingSpec(resize=SIZE)
    assert load_images(spec_of(folder), default).channels == 3
    grey = load_images(spec_of(folder), default, channels=1)
    assert (grey.channels, grey.mean, grey.std) == (1, (0.0,), (1.0,))
    given = PreprocessingSpec(resize=SIZE, mean=(0.5,) * 3, std=(1.0,) * 3)
    assert load_images(spec_of(folder), given, channels=1).channels == 3


def test_files_have_no_more_than_four_channels(folder: Path) -> None:
    with pytest.raises(SpecError, match="give others as an array"):
        load(folder, (0.0,) * 5, (1.0,) * 5)
