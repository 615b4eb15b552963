"""A set of pictures: which are in it, which are left out, the split, the batches."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from obstore.store import MemoryStore
from PIL import Image

from circuit_atlas.jobs.images import preparation
from circuit_atlas.jobs.images.prepared_images import load_images
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.errors import CorruptError, ImageError
from circuit_atlas.storage_schema.image_table import IMAGES
from circuit_atlas.storage_schema.objects import Objects
from tests.jobs.images.pictures import EXACT, SIZE, coloured, load, png, refusal, shown, spec_of


def folder(root: Path, names: list[str]) -> Path:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(Image.fromarray(coloured(seed))))
    return root


def test_class_folders_give_labels_and_other_files_are_no_pictures(tmp_path: Path) -> None:
    folder(tmp_path, ["dog/b.PNG", "cat/deep/a.png", "loose.png", "dog/.hidden.png"])
    (tmp_path / "notes.txt").write_text("no picture")
    found = load(tmp_path)
    assert [(info.id, info.name, info.label) for info in found.infos] == [
        (0, "cat/deep/a.png", "deep"),
        (1, "dog/b.PNG", "dog"),
        (2, "loose.png", None),
    ]
    assert {(info.width, info.height, info.mode) for info in found.infos} == {(8, 6, "RGB")}
    assert found.passed_over == {".txt": 1}


@pytest.mark.parametrize(
    ("level", "labels"),
    [
        (None, ["cat", "dog", "val"]),
        (-1, ["cat", "dog", "val"]),
        (1, ["train", "train", "val"]),
        (2, ["cat", "dog", None]),
        (-2, ["train", "train", None]),
        (0, [None, None, None]),
    ],
)
def test_the_level_of_the_label(tmp_path: Path, level: int | None, labels: list[str]) -> None:
    folder(tmp_path, ["train/cat/a.png", "train/dog/a.png", "val/a.png"])
    given = {} if level is None else {"label_level": level}
    assert [info.label for info in load(tmp_path, **given).infos] == labels


def test_files_are_told_by_what_they_hold(tmp_path: Path) -> None:
    avif, jpeg = io.BytesIO(), io.BytesIO()
    smooth = Image.fromarray(coloured()).resize((8, 6))
    smooth.save(avif, "AVIF", quality=100)
    smooth.save(jpeg, "JPEG")
    for name in ("a.avif", "b.jpg", "c.dat", "d"):
        (tmp_path / name).write_bytes(avif.getvalue())
    (tmp_path / "e.HEIC").write_bytes(jpeg.getvalue())
    found = load(tmp_path)
    assert [info.name for info in found.infos] == ["a.avif", "b.jpg", "c.dat", "d", "e.HEIC"]
    assert {info.problem for info in found.infos} == {None}
    assert np.array_equal(shown(found, 0), np.asarray(Image.open(avif).convert("RGB")))
    assert np.array_equal(shown(found, 4), np.asarray(Image.open(jpeg)))
    assert found.passed_over == {}


def test_kinds_that_are_passed_over_are_counted(tmp_path: Path) -> None:
    folder(tmp_path, ["cat/a.png"])
    for kind in ("tga", "ico"):
        Image.fromarray(coloured()).save(tmp_path / f"b.{kind}")
    np.save(tmp_path / "cat" / "c.npy", coloured())
    for name in ("d.heic", "e.HEIC", "cat/f.heif", ".hidden.heic", "README"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    os.mkfifo(tmp_path / "pipe")  # reading from it would never end
    found = load(tmp_path)
    assert [info.name for info in found.infos] == ["cat/a.png"]
    assert found.passed_over == {
        ".heic": 2,
        ".heif": 1,
        ".ico": 1,
        ".npy": 1,
        ".tga": 1,
        "pipes and devices": 1,
        "without a suffix": 1,
    }
    (tmp_path / "cat/a.png").unlink()
    assert ", only " in refusal(tmp_path)
    assert "2 .heic" in refusal(tmp_path)


def test_a_limit_is_spread_over_the_classes(tmp_path: Path) -> None:
    names = [f"{label}/{n:02d}.png" for label in ("ape", "bee", "cow", "doe") for n in range(6)]
    folder(tmp_path, [*names[:-4], "few/a.png"])

    def taken(limit: int) -> list[str]:
        return [info.name for info in load(tmp_path, limit=limit).infos]

    assert taken(2) == ["ape/00.png", "bee/00.png"]
    counted = [name.split("/")[0] for name in taken(13)]
    assert {label: counted.count(label) for label in dict.fromkeys(counted)} == {
        "ape": 4,
        "bee": 3,
        "cow": 3,
        "doe": 2,
        "few": 1,
    }
    assert [name for name in taken(13) if name.startswith("ape")] == names[:4]
    assert taken(13) == sorted(taken(13))
    assert len(taken(100)) == 21


def test_a_limit_of_the_demo_takes_the_first_by_name_two_of_one_class_included() -> None:
    found = load(Path("demo:photos"), limit=8).infos
    assert [info.name[9:11] for info in found] == [f"{n:02d}" for n in range(8)]
    assert [info.label for info in found][6:] == ["jeep", "jeep"]


def test_a_limit_without_labels_takes_the_first_by_name(tmp_path: Path) -> None:
    folder(tmp_path, ["c.png", "a.png", "b.png", "d.png"])
    assert [info.name for info in load(tmp_path, limit=3).infos] == ["a.png", "b.png", "c.png"]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    folder(tmp_path / "set", ["cat/a.png"])
    folder(tmp_path / "other", ["b.png"])
    os.symlink(tmp_path / "other", tmp_path / "set" / "dog")
    os.symlink(tmp_path / "set", tmp_path / "set" / "dogs_loop")
    assert [info.name for info in load(tmp_path / "set").infos] == ["cat/a.png", "dog/b.png"]


def test_pipes_and_links_in_a_circle_are_not_waited_for(tmp_path: Path) -> None:
    folder(tmp_path, ["a.png"])
    os.mkfifo(tmp_path / "b.png")
    os.mkfifo(tmp_path / "notes")
    os.symlink("/dev/zero", tmp_path / "c.png")
    os.symlink("d.png", tmp_path / "d.png")
    os.symlink("nothing", tmp_path / "e.png")
    found = load(tmp_path)
    assert [(info.name, info.problem is None) for info in found.infos] == [
        ("a.png", True),
        ("d.png", False),
        ("e.png", False),
    ]
    assert found.passed_over == {"pipes and devices": 3}


@pytest.mark.parametrize("name", ["x.tar", "x.parquet", "x.npy", "x.zarr", "x"])
def test_a_pipe_is_no_source(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert refusal(tmp_path / name)
    if "." in name:
        assert refusal(tmp_path / f"*{Path(name).suffix}")


def test_a_name_that_is_no_text_is_shown_as_its_bytes(tmp_path: Path) -> None:
    data = png(Image.fromarray(coloured()))
    with open(os.fsencode(tmp_path) + b"/caf\xe9.png", "wb") as file:
        file.write(data)
    found = load(tmp_path)
    assert found.table().column("name").to_pylist() == ["caf\\xe9.png"]
    assert found.batch([0]).shape == (1, 3, *SIZE)


def test_unreadable_pictures_are_left_out_and_recorded(tmp_path: Path) -> None:
    folder(tmp_path, ["a.png", "b.png", "c.png", "d.png", "e.png"])
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.png").write_bytes(b"hello")
    (tmp_path / "d.png").write_bytes(b"")
    found = load(tmp_path, held_out=0.5)
    assert [info.split == "left_out" for info in found.infos] == [False, True, True, True, False]
    problems = [info.problem or "" for info in found.infos]
    assert "truncated" in problems[1]
    assert problems[2:4] == ["not an image of a known format", "the file is empty"]
    assert sorted(found.scoring + found.held_out) == [0, 4]
    with pytest.raises(ImageError, match=r"image 1 \('b.png'\) is left out: .*truncated"):
        found.batch([1])
    rows = found.table().to_pylist()
    assert [row["pixels_crc32c"] is None for row in rows] == [False, True, True, True, False]
    assert rows[1]["sha256"] == hashlib.sha256(whole[: len(whole) // 2]).hexdigest()
    assert rows[1]["width"] is None


def test_a_truncated_jpeg_is_left_out(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    Image.fromarray(noise).save(tmp_path / "b.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "b.jpg").read_bytes()[:-500])
    assert [info.split for info in load(tmp_path).infos] == ["scoring", "left_out"]


def test_the_table_shows_what_the_network_sees(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 48 * 64 * 3).reshape(48, 64, 3).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.png")
    given = PreprocessingSpec(resize=(32, 32), crop=(16, 24))
    found = load_images(spec_of(tmp_path), given)
    table = found.table()
    assert table.schema == IMAGES.stored_schema
    row = table.to_pylist()[0]
    kept = Image.fromarray(smooth).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.array_equal(shown(found, 0), np.asarray(kept)[8:24, 4:28])
    assert found.size == (16, 24)
    assert found.batch([0]).shape == (1, 3, 16, 24)
    assert (row["width"], row["height"], row["mode"], row["problem"]) == (64, 48, "RGB", None)


def test_batches_normalise_and_do_not_depend_on_company(tmp_path: Path) -> None:
    folder(tmp_path, ["a.png", "b.png", "c.png"])
    given = PreprocessingSpec(resize=SIZE)
    found = load_images(spec_of(tmp_path), given)
    together = found.batch([2, 0, 1])
    assert together.dtype == torch.float32
    assert torch.equal(together, torch.cat([found.batch([i]) for i in (2, 0, 1)]))
    expected = (coloured(2) / 255.0 - np.array(given.mean)) / np.array(given.std)
    assert np.abs(together[0].permute(1, 2, 0).numpy() - expected).max() < 1e-6
    assert found.batch([]).shape == (0, 3, *SIZE)
    with pytest.raises(ImageError, match="no image 3: ids go from 0 to 2"):
        found.batch([3])


def test_a_file_that_changes_later_changes_nothing(tmp_path: Path) -> None:
    folder(tmp_path, ["a.png", "b.png", "c.png"])
    found = load(tmp_path)
    expected = load(tmp_path).batch([0, 1, 2])
    folder(tmp_path, ["b.png"])  # now what a.png holds
    (tmp_path / "a.png").unlink()
    assert torch.equal(found.batch([0, 1, 2]), expected)


def test_a_chunks_record_in_anothers_place_is_refused(tmp_path: Path, monkeypatch) -> None:
    """Else images would have each other's pixels, sizes and checksums."""
    monkeypatch.setattr(preparation, "CHUNK_IMAGES", 2)
    (tmp_path / "images").mkdir()
    for number in range(4):
        data = png(Image.fromarray(coloured(number)))
        (tmp_path / "images" / f"{number}.png").write_bytes(data)
    objects = Objects(MemoryStore(), location="memory:")
    found = preparation.Preparation(spec_of(tmp_path / "images"), EXACT)
    for chunk in range(2):
        found.chunker.prepare(objects, chunk)
    assert len(found.gather(objects).infos) == 4
    first, second = (layout.prepared_chunk(found.key, chunk) for chunk in range(2))
    objects.put(first, objects.get(second))
    with pytest.raises(CorruptError, match=r"0\.json is the record of others, moved here"):
        found.gather(objects)


def test_odd_holds_out_every_second_name(tmp_path: Path) -> None:
    folder(tmp_path, ["d.png", "b.png", "a.png", "c.png", "e.png"])
    found = load(tmp_path, held_out="odd")
    assert (found.scoring, found.held_out) == ((0, 2, 4), (1, 3))
    (tmp_path / "b.png").write_bytes(b"torn")
    found = load(tmp_path, held_out="odd")
    assert (found.scoring, found.held_out) == ((0, 2, 4), (3,))


def test_a_fraction_is_exact_seeded_and_stable(tmp_path: Path) -> None:
    names = [f"{i:02d}.png" for i in range(20)]
    folder(tmp_path, names)
    one, again = load(tmp_path, held_out=0.3), load(tmp_path, held_out=0.3)
    assert one.held_out == again.held_out
    assert len(one.held_out) == 6
    others = {load(tmp_path, held_out=0.3, seed=seed).held_out for seed in range(4)}
    assert len(others) == 4
    folder(tmp_path, [*names, "00a.png"])
    held = {one.infos[i].name for i in one.held_out}
    more = load(tmp_path, held_out=0.3)
    assert len(({more.infos[i].name for i in more.held_out} ^ held) - {"00a.png"}) <= 1


def test_a_small_set_has_one_of_each_split(tmp_path: Path) -> None:
    folder(tmp_path, ["a.png", "b.png"])
    for fraction in (0.01, 0.99):
        found = load(tmp_path, held_out=fraction)
        assert len(found.scoring) == len(found.held_out) == 1
    assert load(tmp_path, held_out=0.0).held_out == ()
    assert len(load(tmp_path, held_out=0.9, limit=1).scoring) == 1


def test_named_pictures_are_held_out(tmp_path: Path) -> None:
    folder(tmp_path, ["cat/a.png", "cat/b.png", "dog/a.png"])
    found = load(tmp_path, held_out=["dog/a.png", "cat/b.png"])
    assert (found.scoring, found.held_out) == ((0,), (1, 2))
    line = refusal(tmp_path, held_out=["dog/a.png", "cat/c.png"])
    assert "images.held_out names 'cat/c.png', which is not among the 3 images" in line
    assert "did you mean 'cat/" in line
    everything = ["cat/a.png", "cat/b.png", "dog/a.png"]
    assert "all 3 readable ones are held out" in refusal(tmp_path, held_out=everything)


def test_the_fingerprint_covers_names_bytes_labels_and_splits(tmp_path: Path) -> None:
    def print_of(**images: Any) -> str:
        return load(tmp_path, **images).sha256

    folder(tmp_path, ["a.png", "b.png", "c.png", "d.png"])
    prints = [print_of(), print_of(held_out="odd"), print_of(limit=3)]
    assert print_of() == prints[0]
    (tmp_path / "d.png").write_bytes(b"torn")
    prints.append(print_of())
    (tmp_path / "d.png").write_bytes(b"torn otherwise")
    prints.append(print_of())
    (tmp_path / "a.png").rename(tmp_path / "a2.png")
    prints.append(print_of())
    assert len(set(prints)) == len(prints)


def test_no_pictures(tmp_path: Path) -> None:
    assert "no images (.jpg, .png ..., rows of .parquet, or samples of .tar) in" in refusal(
        tmp_path
    )
    assert "no images at" in refusal(tmp_path / "gone")
    assert "no images at" in refusal(tmp_path / "gone-*.parquet")
    (tmp_path / "a.png").write_bytes(b"x")
    assert "is a file that is no .parquet file" in refusal(tmp_path / "a.png")
    assert "which is no .parquet file" in refusal(tmp_path / "*.png")
    assert "none of the 1 images in" in refusal(tmp_path)
    assert "the demo has no images 'photo': did you mean 'photos'?" in refusal(Path("demo:photo"))
