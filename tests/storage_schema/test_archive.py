"""An atlas in a zip or tar archive is read where it lies, and one that is not as it says is not."""

from __future__ import annotations

import io
import pickle
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.archive_objects import ArchiveObjects
from circuit_atlas.storage_schema.errors import CorruptError, NotAnAtlasError, WriteError
from circuit_atlas.storage_schema.opening import open_store

FILES = {
    layout.HEADER: b"{}",
    "layers/conv/index.json": b"[1, 2]",
    "layers/conv/units/0/scores": bytes(range(256)) * 20,
}


def packed(folder: Path, kind: str, *, root: str = "") -> Path:
    """An archive of `FILES`."""
    file = folder / f"atlas.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, data in FILES.items():
                archive.writestr(root + path, data)
        return file
    with tarfile.open(file, "w") as archive:
        for path, data in FILES.items():
            archive.addfile(_of_tar(root + path, len(data)), io.BytesIO(data))
    return file


def _of_tar(name: str, size_bytes: int, **more: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size_bytes
    for key, value in more.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize("root", ["", "atlas/", "./"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_its_objects_are_those_of_the_folder(tmp_path, kind, root):
    objects = open_store(packed(tmp_path, kind, root=root))
    assert isinstance(objects, ArchiveObjects)
    assert [entry.path for entry in objects.list()] == sorted(FILES)
    assert [entry.path for entry in objects.list("layers/conv/units")] == [sorted(FILES)[2]]
    assert objects.names("layers/conv") == ("index.json", "units")
    assert objects.below("layers", most=1).folders == ("layers/conv",)
    for path, data in FILES.items():
        assert objects.exists(path)
        assert pickle.loads(pickle.dumps(objects)).get(path) == data
        assert objects.get_ranges(path, [(1, 1), (0, 2)]) == [data[1:2], data[:2]]
    assert not objects.exists("none")
    with pytest.raises(FileNotFoundError):
        objects.get("none")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_it_is_read_only(tmp_path, kind):
    file = packed(tmp_path, kind)
    objects = open_store(file)
    for write in (
        lambda: objects.put("a", b""),
        lambda: objects.create("a", b""),
        lambda: objects.put_if_absent("a", b""),
        lambda: objects.delete(["a"]),
        lambda: open_store(file, create=True),
    ):
        with pytest.raises(WriteError, match="read-only; unpack it"):
            write()


def _zip(file: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> None:
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)


def _linked() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("layers/link")
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: _zip(file, ("../out", b"")), "leads out"),
        (lambda file: _zip(file, ("/etc/passwd", b"")), "leads out"),
        (lambda file: _zip(file, ("a\\..\\b", b"")), "leads out"),
        (lambda file: _zip(file, (_linked(), b"/etc/passwd")), "is a link"),
        (lambda file: _zip(file, ("layers/bomb", bytes(2**25))), "33,554,432 bytes"),
    ],
)
def test_a_hostile_zip_is_refused(tmp_path, spoil: Callable[[Path], None], message):
    file = packed(tmp_path, "zip")
    spoil(file)
    with pytest.raises(CorruptError, match=message):
        open_store(file)


def test_members_of_a_zip_that_lie_over_each_other_are_refused(tmp_path):
    """Two entries of the list name one member's bytes, as bombs do to be small."""
    file = packed(tmp_path, "zip")
    data = bytearray(file.read_bytes())
    entries = [at for at in range(len(data)) if data[at : at + 4] == b"PK\x01\x02"]
    first = struct.unpack_from("<I", data, entries[0] + 42)[0]
    struct.pack_into("<I", data, entries[1] + 42, first)
    file.write_bytes(data)
    with pytest.raises(CorruptError, match="another file"):
        open_store(file)


@pytest.mark.parametrize(
    "more",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": layout.HEADER},
        {"type": tarfile.FIFOTYPE},
        {"type": tarfile.CHRTYPE},
    ],
)
def test_a_tar_of_anything_but_files_is_refused(tmp_path, more):
    file = packed(tmp_path, "tar")
    with tarfile.open(file, "a") as archive:
        archive.addfile(_of_tar("layers/odd", 0, **more))
    with pytest.raises(CorruptError, match="is a link or no plain file"):
        open_store(file)


@pytest.mark.parametrize(("name", "message"), [("../out", "leads out"), (layout.HEADER, "twice")])
def test_a_tar_with_such_a_name_is_refused(tmp_path, name, message):
    file = packed(tmp_path, "tar")
    with tarfile.open(file, "a") as archive:
        archive.addfile(_of_tar(name, 0))
    with pytest.raises(CorruptError, match=message):
        open_store(file)


def test_a_file_that_was_altered_in_a_zip_is_told(tmp_path):
    file = packed(tmp_path, "zip")
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo("layers/conv/index.json")
        at = info.header_offset + 30 + len(info.filename) + 2
    data = bytearray(file.read_bytes())
    data[at] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(CorruptError):
        open_store(file).get("layers/conv/index.json")


def test_what_is_no_archive_of_an_atlas_is_named(tmp_path):
    for name, message in (("a.zip", "no zip archive"), ("a.tar", "no tar archive")):
        (tmp_path / name).write_bytes(b"text" * 300)
        with pytest.raises(NotAnAtlasError, match=message):
            open_store(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("a/b/atlas.json", b"{}")
    with pytest.raises(NotAnAtlasError, match="holds no atlas"):
        open_store(tmp_path / "none.zip")
    _zip(tmp_path / "none.zip", ("a/atlas.json", b"{}"), ("b/atlas.json", b"{}"))
    with pytest.raises(NotAnAtlasError, match="holds 2 atlases"):
        open_store(tmp_path / "none.zip")
    shutil.make_archive(str(tmp_path / "b"), "gztar", tmp_path)
    with pytest.raises(NotAnAtlasError, match="packed as a whole"):
        open_store(tmp_path / "b.tar.gz")
    with pytest.raises(NotAnAtlasError, match="does not exist"):
        open_store(tmp_path / "missing.zip")
