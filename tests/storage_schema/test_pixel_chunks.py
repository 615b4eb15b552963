"""Pixels by chunk: of a folder, in memory, of a store elsewhere; whole, missing and altered."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import numpy as np
import pytest
from obstore.store import LocalStore, MemoryStore

from circuit_atlas.storage_schema import pixel_chunks
from circuit_atlas.storage_schema.errors import CorruptError, StoreError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.pixel_chunks import PixelChunks, checksum, put_chunk
from circuit_atlas.storage_schema.pixels import PixelForm, PixelsRecord

FORM = PixelForm("uint16", (2, 3, 4), False, 65535)
IMAGES = np.random.default_rng(0).integers(0, 65536, (5, *FORM.shape)).astype(np.uint16)
CHECKSUMS = [checksum(image) for image in IMAGES]


class Elsewhere(Objects):
    """A store that is no folder of this machine, and counts what is asked of it."""

    def __init__(self, folder):
        super().__init__(LocalStore(folder), location="elsewhere:")
        self.asked = []

    def file(self, _):
        return None

    def get(self, path):
        self.asked.append("whole")
        return super().get(path)

    def get_ranges(self, path, ranges):
        self.asked.append("range")
        return super().get_ranges(path, ranges)


def written(objects):
    """Two images a chunk, three chunks."""
    chunks = tuple(put_chunk(objects, IMAGES[start : start + 2]) for start in (0, 2, 4))
    return PixelsRecord(FORM, (0.0, 0.0), (1.0, 1.0), 2, chunks)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv(pixel_chunks.CACHE, str(tmp_path / "cache"))
    record = written(Objects(LocalStore(tmp_path / "store", mkdir=True), location="here"))
    return Elsewhere(tmp_path / "store"), record


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_a_chunk_is_read_as_it_was_written(tmp_path, kind):
    store = MemoryStore() if kind == "memory" else LocalStore(tmp_path)
    objects = Objects(store, location=kind)
    chunks = PixelChunks(objects, written(objects))
    for place, (image, digest) in enumerate(zip(IMAGES, CHECKSUMS, strict=True)):
        for values in (chunks.values(place, digest), chunks.one(place, digest)):
            assert values.dtype == np.uint16
            assert np.array_equal(values, image)


def test_the_same_images_are_one_object(tmp_path):
    objects = Objects(LocalStore(tmp_path), location="x")
    assert written(objects) == written(objects)
    assert len(objects.list()) == 3


def test_of_a_store_elsewhere_one_image_is_a_range_and_a_chunk_is_brought_once(elsewhere):
    objects, record = elsewhere
    chunks = PixelChunks(objects, record)
    assert np.array_equal(chunks.one(3, CHECKSUMS[3]), IMAGES[3])
    assert objects.asked == ["range"]
    for place in (0, 1, 0, 4):
        assert np.array_equal(chunks.values(place, CHECKSUMS[place]), IMAGES[place])
    again = PixelChunks(objects, record)
    assert np.array_equal(again.values(1, CHECKSUMS[1]), IMAGES[1])
    # The chunk between them was asked for ahead.
    assert objects.asked == ["range", "whole", "whole", "whole"]


def test_a_full_disk_here_keeps_a_chunk_in_memory(elsewhere, monkeypatch):
    objects, record = elsewhere

    def full(**_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(pixel_chunks.tempfile, "NamedTemporaryFile", full)
    chunks = PixelChunks(objects, record)
    for place in (4, 0, 2, 4, 1):
        assert np.array_equal(chunks.values(place, CHECKSUMS[place]), IMAGES[place])
    assert len(objects.asked) >= 5


def test_chunks_that_were_brought_longest_ago_make_room(elsewhere, monkeypatch):
    objects, record = elsewhere
    first, second = (pixel_chunks._brought(objects, stored) for stored in record.chunks[:2])
    mapped = np.memmap(first, np.uint16, "c")
    os.utime(first, (1, 1))
    free_bytes = iter([0, 10**9])

    def filling(_):
        return SimpleNamespace(f_bavail=next(free_bytes), f_frsize=1, f_blocks=10)

    monkeypatch.setattr(pixel_chunks.os, "statvfs", filling)
    third = pixel_chunks._brought(objects, record.chunks[2])
    assert set(third.parent.iterdir()) == {second, third}
    # What is mapped stays readable.
    assert np.array_equal(mapped, IMAGES[:2].reshape(-1))


def test_pixels_that_changed_since_they_were_read_are_an_error(tmp_path):
    objects = Objects(LocalStore(tmp_path), location=str(tmp_path))
    record = written(objects)
    chunks = PixelChunks(objects, record)
    chunks.values(0, CHECKSUMS[0])
    with (tmp_path / record.chunks[0].path).open("r+b") as file:
        file.write(b"other")
    with pytest.raises(CorruptError, match="other pixels"):
        chunks.values(0, CHECKSUMS[0])


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "missing", "another's"])
def test_damage_is_an_error_and_never_other_pixels(tmp_path, damage):
    objects = Objects(LocalStore(tmp_path), location=str(tmp_path))
    record = written(objects)
    path, other = (tmp_path / record.chunks[n].path for n in (0, 1))
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(
            {
                "bit": bytes([data[0] ^ 1, *data[1:]]),
                "cut": data[:-1],
                "empty": b"",
                "another's": other.read_bytes(),
            }[damage]
        )
    chunks = PixelChunks(objects, record)
    for read in (chunks.values, chunks.one):
        with pytest.raises(CorruptError, match="restore it from a copy"):
            read(0, CHECKSUMS[0])
    assert np.array_equal(chunks.values(2, CHECKSUMS[2]), IMAGES[2])


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_folder_in_a_files_place_and_a_file_in_a_folders(tmp_path, is_folder):
    objects = Objects(LocalStore(tmp_path), location=str(tmp_path))
    record = written(objects)
    path = tmp_path / record.chunks[0].path
    if is_folder:
        path.unlink()
        path.mkdir()
    else:
        path.parent.rename(tmp_path / "elsewhere")
        path.parent.write_bytes(b"")
    chunks = PixelChunks(objects, record)
    for read in (chunks.values, chunks.one):
        with pytest.raises(CorruptError):
            read(0, CHECKSUMS[0])


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE])
def test_a_file_that_the_system_does_not_open(tmp_path, monkeypatch, number):
    objects = Objects(LocalStore(tmp_path), location=str(tmp_path))
    record = written(objects)

    def refused(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(np, "memmap", refused)
    with pytest.raises(StoreError, match=f"^cannot read {tmp_path}/.*{record.chunks[0].sha256}: "):
        PixelChunks(objects, record).values(0, CHECKSUMS[0])


def test_a_place_that_no_chunk_has(tmp_path):
    objects = Objects(LocalStore(tmp_path), location="x")
    with pytest.raises(CorruptError, match="3 chunks of pixels, and an image lies in number 4"):
        PixelChunks(objects, written(objects)).values(8, CHECKSUMS[0])
