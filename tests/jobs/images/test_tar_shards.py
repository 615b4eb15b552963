"""Pictures out of tar shards."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from circuit_atlas.jobs.images.sources import open_source
from circuit_atlas.storage_schema.errors import InfrastructureError
from tests.jobs.images.pictures import coloured, load, refusal, spec_of
from tests.jobs.images.tars import levels, picture, samples, tar


def names_and_labels(source: Path | str, **images: object) -> list[tuple[str, str | None]]:
    listing = open_source(spec_of(source, **images).images).listing()
    return [(entry.name, entry.label) for entry in listing.entries]


def test_a_shard_of_images_and_classes(tmp_path: Path) -> None:
    found = load(tar(tmp_path / "s.tar", samples(4)))
    assert [(info.name, info.label) for info in found.infos] == [
        ("s.tar/0000", "0"),
        ("s.tar/0001", "1"),
        ("s.tar/0002", "2"),
        ("s.tar/0003", "0"),
    ]
    for row in range(4):
        assert np.array_equal(levels(found, row), coloured(row))


@pytest.mark.parametrize(
    "source", ["s-{00..02}.tar", "s-*.tar", "s-0[0-2].tar", "", "s-{00,01,02}.tar"]
)
def test_several_shards(tmp_path: Path, source: str) -> None:
    for shard in range(3):
        tar(tmp_path / f"s-{shard:02d}.tar", samples(2, first=2 * shard))
    (tmp_path / "notes.txt").write_text("x")
    found = load(tmp_path / source)
    assert [info.name for info in found.infos] == [
        f"s-{shard:02d}.tar/{2 * shard + n:04d}" for shard in range(3) for n in range(2)
    ]
    for row in range(6):
        assert np.array_equal(levels(found, row), coloured(row))
    assert found.passed_over == ({".txt": 1} if source == "" else {})


def test_shards_of_one_name_in_a_folder_are_told_apart(tmp_path: Path) -> None:
    for part in ("train", "val"):
        tar(tmp_path / part / "0.tar", samples(1))
    tar(tmp_path / ".hidden" / "0.tar", samples(1))
    assert [name for name, _ in names_and_labels(tmp_path)] == [
        "train/0.tar/0000",
        "val/0.tar/0000",
    ]
    by_pattern = names_and_labels(f"{tmp_path}/{{train,val}}/0.tar")
    assert [name for name, _ in by_pattern] == ["0.tar/0000", "0.tar/0000#2"]


def test_shards_of_two_kinds_are_refused(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", samples(1))
    (tmp_path / "b.parquet").write_bytes(b"")
    assert f"names '{tmp_path}/b.parquet', which is of another kind" in refusal(tmp_path / "?.*")
    found = load(f"file://{tmp_path}/a.tar")
    assert [info.name for info in found.infos] == ["a.tar/0000"]


def test_a_missing_shard_of_a_range_is_named(tmp_path: Path) -> None:
    tar(tmp_path / "s-0.tar", samples(1))
    said = refusal(tmp_path / "s-{0..2}.tar")
    assert f"names 3 files and 2 are not there, the first '{tmp_path}/s-1.tar'" in said


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_archive(tmp_path: Path, form: int) -> None:
    long = "a/" * 40 + "name" * 20 if form != tarfile.USTAR_FORMAT else "a/" * 40 + "name"
    members = [(f"./{long}.PNG", picture(0)), ("/öß.png", picture(1))]
    found = load(tar(tmp_path / "s.tar", members, form=form))
    assert [info.name for info in found.infos] == [f"s.tar/{long}", "s.tar/öß"]
    assert np.array_equal(levels(found, 0), coloured(0))


def test_folders_in_a_shard_are_classes_where_no_member_is(tmp_path: Path) -> None:
    plain = [("train/cat/a.png", picture(0)), ("train/dog/a.png", picture(1))]
    source = tar(tmp_path / "s.tar", plain)
    assert names_and_labels(source) == [("s.tar/train/cat/a", "cat"), ("s.tar/train/dog/a", "dog")]
    assert names_and_labels(source, label_level=1)[0] == ("s.tar/train/cat/a", "train")
    source = tar(tmp_path / "t.tar", [*plain, ("train/dog/a.cls", b"7")])
    assert [label for _, label in names_and_labels(source)] == [None, "7"]


def test_labels_and_names_of_other_members_and_of_json(tmp_path: Path) -> None:
    told = [{"class_name": "cat", "file": "x.png", "n": 3}, {"class_name": None, "file": "y.png"}]
    members = [
        member
        for n, values in enumerate(told)
        for member in (
            (f"{n}.json", json.dumps(values).encode()),
            (f"{n}.png", picture(n)),
            (f"{n}.txt", b" a caption \n"),
            (f"{n}.cls", b"-1"),
        )
    ]
    source = tar(tmp_path / "s.tar", members)
    assert [label for _, label in names_and_labels(source)] == [None, None]
    assert [label for _, label in names_and_labels(source, labels=".TXT")] == ["a caption"] * 2
    assert names_and_labels(source, labels="class_name", ids="file") == [
        ("x.png", "cat"),
        ("y.png", None),
    ]
    assert [label for _, label in names_and_labels(source, labels="n")] == ["3", None]
    assert "images.labels 'clas_name' is in no member" in refusal(source, labels="clas_name")
    assert "did you mean 'class_name'?" in refusal(source, labels="clas_name")
    assert "the extensions are 'cls', 'json', 'png' and 'txt'" in refusal(source, column="zzz")


def test_what_tells_a_class_and_cannot_be_read(tmp_path: Path) -> None:
    torn = tar(tmp_path / "torn.tar", [("a.png", picture(0)), ("a.json", b"{")])
    assert "'a.json' in" in refusal(torn, labels="label")
    assert "tells no class or name" in refusal(torn, labels="label")
    assert names_and_labels(torn) == [("torn.tar/a", None)]
    bytes_ = tar(tmp_path / "bytes.tar", [("a.png", picture(0)), ("a.cls", b"\xff\xfe")])
    assert "'a.cls' in" in refusal(bytes_)
    several = tar(tmp_path / "s.tar", [("a.png", picture(0)), ("a.json", b'{"k": [1], "n": 2}')])
    assert "images.labels 'k' of 'a.json'" in refusal(several, labels="k")
    assert "there is only 'n'" in refusal(several, labels="k")


def test_of_several_images_one_is_named(tmp_path: Path) -> None:
    members = [("a.png", picture(0)), ("a.seg.png", picture(1)), ("b.png", picture(2))]
    source = tar(tmp_path / "s.tar", members)
    assert np.array_equal(levels(load(source), 0), coloured(0))
    maps = load(source, column="seg.png")
    assert [info.name for info in maps.infos] == ["s.tar/a"]
    assert np.array_equal(levels(maps, 0), coloured(1))
    assert maps.passed_over == {".png": 1}
    dotted = tar(tmp_path / "d.tar", [("a.left.png", picture(0)), ("a.right.png", picture(1))])
    assert "sample 'a' of" in refusal(dotted)
    assert "has several images, '.left.png' and '.right.png': set images.column" in refusal(dotted)


def test_members_that_are_no_images(tmp_path: Path) -> None:
    link = tarfile.TarInfo("linked.png")
    link.type, link.linkname = tarfile.LNKTYPE, "a.png"
    symbolic = tarfile.TarInfo("symbolic.png")
    symbolic.type, symbolic.linkname = tarfile.SYMTYPE, "a.png"
    folder = tarfile.TarInfo("folder.png")
    folder.type = tarfile.DIRTYPE
    members = [
        ("a.png", picture(0)),
        ("._a.png", b"what a Mac adds"),
        (".git/b.png", picture(1)),
        ("README", b"x"),
        ("c.heic", b"x"),
        ("c.cls", b"1"),
        ("torn.png", picture(2)[:40]),
        ("", link),
        ("", symbolic),
        ("", folder),
    ]
    found = load(tar(tmp_path / "s.tar", members))
    assert [(info.name, info.problem is None) for info in found.infos] == [
        ("s.tar/a", True),
        ("s.tar/linked", True),
        ("s.tar/torn", False),
    ]
    assert np.array_equal(levels(found, 1), coloured(0))
    assert found.passed_over == {".heic": 1, ".cls": 1, "without a suffix": 1}


def test_a_sparse_member_is_left_out(tmp_path: Path) -> None:
    # As GNU tar writes one of 1 kB, of which the first half is there.
    sparse = tarfile.TarInfo("a.png")
    sparse.size = 512
    header = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:410] = b"%011o\0%011o\0" % (0, 512)
    header[483:495] = b"%011o\0" % 1024
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    whole = tar(tmp_path / "w.tar", [("b.png", picture(0))]).read_bytes()
    (tmp_path / "s.tar").write_bytes(bytes(header) + b"x" * 512 + whole)
    found = load(tmp_path / "s.tar")
    assert [info.problem is None for info in found.infos] == [False, True]
    assert "sparse" in str(found.infos[0].problem)


def test_keys_that_come_again(tmp_path: Path) -> None:
    again = [*samples(1), *samples(1, first=1), *samples(1)]
    assert names_and_labels(tar(tmp_path / "s.tar", again)) == [
        ("s.tar/0000", "0"),
        ("s.tar/0000#2", "0"),
        ("s.tar/0001", "1"),
    ]
    by_kind = sorted(samples(2), key=lambda member: member[0][-3:])
    assert [label for _, label in names_and_labels(tar(tmp_path / "k.tar", by_kind))] == ["0", "1"]
    twice = tar(tmp_path / "t.tar", [("a.png", picture(0)), ("a.PNG", picture(1))])
    assert "sample 'a' of" in refusal(twice)
    assert "has two members .png" in refusal(twice)


def test_an_archive_that_is_not_whole(tmp_path: Path) -> None:
    whole = tar(tmp_path / "s.tar", samples(3)).read_bytes()
    with tarfile.open(tmp_path / "s.tar") as archive:
        second = archive.getmembers()[2]
    for size in (second.offset_data + 9, second.offset + 100, second.offset_data):
        (tmp_path / "s.tar").write_bytes(whole[:size])
        assert f"s.tar' is cut short at {size} bytes" in refusal(tmp_path / "s.tar")
    damaged = bytearray(whole)
    damaged[second.offset : second.offset + 512] = b"\x07" * 512
    (tmp_path / "s.tar").write_bytes(damaged)
    assert f"s.tar' is damaged at byte {second.offset}" in refusal(tmp_path / "s.tar")
    backwards = bytearray(whole[:1024])
    backwards[124:136], backwards[148:156] = b"\xff" * 11 + b"\x00", b" " * 8
    backwards[148:156] = b"%06o\0 " % sum(backwards[:512])
    (tmp_path / "s.tar").write_bytes(backwards)
    assert "cannot be read as a tar archive: a file of -256 bytes" in refusal(tmp_path / "s.tar")
    (tmp_path / "s.tar").write_bytes(b"no archive" * 100)
    assert "cannot be read as a tar archive" in refusal(tmp_path / "s.tar")
    # Some writers end an archive with its last file.
    with tarfile.open(tar(tmp_path / "s.tar", samples(1))) as archive:
        last = archive.getmembers()[-1]
    (tmp_path / "s.tar").write_bytes(whole[: last.offset_data + 512])
    assert len(names_and_labels(tmp_path / "s.tar")) == 1


def test_archives_of_nothing(tmp_path: Path) -> None:
    assert "no images (.jpg, .png" in refusal(tar(tmp_path / "s.tar", []))
    assert "only 1 .txt" in refusal(tar(tmp_path / "s.tar", [("a.txt", b"x")]))
    (tmp_path / "s.tar").write_bytes(b"")
    assert "cannot be read as a tar archive" in refusal(tmp_path / "s.tar")
    tar(tmp_path / "s.tar", [])
    tar(tmp_path / "t.tar", samples(1))
    assert len(names_and_labels(tmp_path / "?.tar", labels="cls")) == 1


def test_a_compressed_archive_is_refused_with_what_to_do(tmp_path: Path) -> None:
    data = tar(tmp_path / "s.tar", samples(1)).read_bytes()
    for name in ("s.tar", "s.tar.gz", "s.tgz"):
        (tmp_path / name).write_bytes(gzip.compress(data))
        assert "is compressed, so that no image in it" in refusal(tmp_path / name)
        assert "unpack it with gunzip" in refusal(tmp_path / name)


def test_no_image_is_read_by_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = [
        member for n in range(4) for member in ((f"{n}.png", b"x" * 10**6), (f"{n}.cls", b"1"))
    ]
    source = tar(tmp_path / "s.tar", large)
    read = 0

    def counted(path: Path, mode: str) -> io.BufferedReader:
        class Counted(io.FileIO):
            def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
                nonlocal read
                size = super().readinto(buffer)
                read += size
                return size

        return io.BufferedReader(Counted(str(path), mode))

    monkeypatch.setattr(Path, "open", counted)
    assert len(names_and_labels(source)) == 4
    assert 0 < read < 10**6


def test_what_reads_a_shard_travels_and_is_small(tmp_path: Path) -> None:
    listing = open_source(spec_of(tar(tmp_path / "s.tar", samples(50))).images).listing()
    first = listing.read(listing.entries[0])
    packed = pickle.dumps(listing.read)
    assert len(packed) < 50 * 24 + 1000
    assert pickle.loads(packed)(listing.entries[0]) == first == picture(0)


def test_a_shard_that_is_gone_is_no_fault_of_its_images(tmp_path: Path) -> None:
    source = tar(tmp_path / "s.tar", samples(2))
    listing = open_source(spec_of(source).images).listing()
    source.unlink()
    with pytest.raises(InfrastructureError, match=r"s.tar' was listed and cannot be opened now"):
        listing.read(listing.entries[0])
    source.write_bytes(b"")
    with pytest.raises(OSError, match="has become shorter"):
        pickle.loads(pickle.dumps(listing.read))(listing.entries[0])


def test_a_shard_written_anew_has_another_stamp(tmp_path: Path) -> None:
    source = tar(tmp_path / "s.tar", samples(2))
    stamp = open_source(spec_of(source).images).stamp
    assert open_source(spec_of(source).images).stamp == stamp
    tar(source, samples(50))
    assert open_source(spec_of(source).images).stamp != stamp
