"""Pictures in an object store, and at web addresses."""

from __future__ import annotations

import io
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from obstore.store import ObjectStore, from_url

from circuit_atlas.jobs.images import object_files
from circuit_atlas.jobs.images.object_files import open_bucket
from circuit_atlas.jobs.images.preparation import Preparation
from circuit_atlas.jobs.images.sources import open_source
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.storage_schema import patience
from circuit_atlas.storage_schema.errors import ImageError, InfrastructureError
from circuit_atlas.storage_schema.patience import READERS_S, Outage, outages_told
from tests.jobs.images.pictures import coloured, load, refusal, spec_of
from tests.jobs.images.tars import levels, picture, samples, tar
from tests.jobs.images.web_files import WebFiles, web_files
from tests.service.stores import object_store
from tests.storage_schema.answering import answering, redirecting, saying

Put = Callable[[str, bytes], None]
SMALL = PreprocessingSpec(resize=(8, 8))


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with (
        object_store(tmp_path_factory.mktemp("s3") / "log") as environment,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        yield from_url("s3://bucket")


@pytest.fixture
def put(bucket: ObjectStore) -> Put:
    return lambda key, data: void(obstore.put(bucket, key, data))


def npy_bytes() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros((3, 1, 2, 2), np.uint8))
    return stream.getvalue()


def void(value: object) -> None:
    del value


@pytest.fixture
def web() -> Iterator[WebFiles]:
    with web_files({}) as served:
        yield served


def parquet_bytes(first: int, count: int) -> bytes:
    stream = io.BytesIO()
    images = pa.array([picture(seed) for seed in range(first, first + count)], pa.binary())
    labels = pa.array([f"class {seed % 2}" for seed in range(first, first + count)])
    pq.write_table(pa.table({"image": images, "label": labels}), stream, row_group_size=2)
    return stream.getvalue()


def test_a_prefix_of_images(put: Put) -> None:
    names = ("cat/a b#1.png", "cat/ö%20x?.png", "dog/{z}.png")
    for seed, name in enumerate(names):
        put(f"photos/{name}", picture(seed))
    put("photos/notes.txt", b"x")
    put("photos/.hidden/x.png", picture(0))
    put("photos-2/x.png", picture(0))
    for source in ("s3://bucket/photos", "s3://bucket/photos/"):
        found = load(source)
        assert [(info.name, info.label) for info in found.infos] == [
            (name, name[:3]) for name in names
        ]
        for seed in range(3):
            assert np.array_equal(levels(found, seed), coloured(seed))
        assert found.passed_over == {".txt": 1}


def test_shards_of_a_prefix_a_range_and_a_glob(put: Put, tmp_path: Path) -> None:
    for shard in range(3):
        path = tar(tmp_path / "s.tar", samples(2, first=2 * shard))
        put(f"tars/part/s-{shard}.tar", path.read_bytes())
        put(f"tables/t-{shard}.parquet", parquet_bytes(3 * shard, 3))
    put("tars/part/deeper/s-9.tar", b"")
    for source in ("s-{0..2}.tar", "s-*.tar"):
        found = load(f"s3://bucket/tars/part/{source}")
        assert [info.name for info in found.infos] == [f"s-{n // 2}.tar/{n:04d}" for n in range(6)]
        assert [info.label for info in found.infos] == ["0", "1", "2"] * 2
        assert all(np.array_equal(levels(found, n), coloured(n)) for n in range(6))
    for source in ("s3://bucket/tables", "s3://bucket/tables/t-{0..2}.parquet"):
        found = load(source)
        assert [info.label for info in found.infos] == [f"class {n % 2}" for n in range(9)]
        assert all(np.array_equal(levels(found, n), coloured(n)) for n in range(9))
    one = load("s3://bucket/tables/t-1.parquet")
    assert np.array_equal(levels(one, 0), coloured(3))
    assert "names 2 files and 1 are not there, the first 'tables/t-3.parquet'" in refusal(
        "s3://bucket/tables/t-{2,3}.parquet"
    )


def test_arrays(put: Put, bucket: ObjectStore) -> None:
    values = np.random.default_rng(0).normal(size=(7, 2, 5, 4)).astype(np.float32)
    stream = io.BytesIO()
    np.save(stream, values)
    put("arrays/x.npy", stream.getvalue())
    put("arrays/x.labels.txt", b"a\nb\n" * 3 + b"a\n")
    group = zarr.open_group(zarr.storage.ObjectStore(bucket), path="arrays/g.zarr", mode="w")
    group.create_array("images", data=values, chunks=(2, 2, 5, 4))
    group.create_array("labels", data=np.arange(7))
    for source, labels in (("x.npy", "abababa"), ("g.zarr", "0123456"), ("g.zarr/images", "")):
        listing = open_source(spec_of(f"s3://bucket/arrays/{source}").images).listing()
        assert [entry.label for entry in listing.entries] == (list(labels) or [None] * 7)
        for entry in listing.entries:
            row = np.load(io.BytesIO(listing.read(entry)))
            assert np.array_equal(row, values[entry.row])
    stream = io.BytesIO()
    np.save(stream, np.asfortranarray(values))
    put("arrays/f.npy", stream.getvalue())
    assert "Fortran's order" in refusal("s3://bucket/arrays/f.npy")
    put("arrays/cut.npy", stream.getvalue()[:-1])
    assert "cut" in refusal("s3://bucket/arrays/cut.npy")
    assert "no array at" in refusal("s3://bucket/arrays/none.npy")
    assert "no array at" in refusal("s3://bucket/arrays/none.zarr")


def test_what_is_not_there_is_said(put: Put) -> None:
    put("odd/a.zip", b"x")
    assert "no images at 's3://bucket/none': give" in refusal("s3://bucket/none")
    assert "no images at 's3://bucket/none-*.tar': give" in refusal("s3://bucket/none-*.tar")
    assert "is a file that is no .parquet file and no .tar" in refusal("s3://bucket/odd/a.zip")
    assert "only 1 .zip: give at least one" in refusal("s3://bucket/odd")
    assert "s3://no-such-bucket/x is missing" in refusal("s3://no-such-bucket/x")
    assert "cannot open nothing://x: " in refusal("nothing://x")


def test_the_stamp_tells_of_an_object_written_anew(put: Put) -> None:
    put("stamped/a.png", picture(0))
    source = spec_of("s3://bucket/stamped").images
    stamp = open_source(source).stamp
    assert open_source(source).stamp == stamp
    put("stamped/a.png", picture(1))
    assert len({stamp, open_source(source).stamp}) == 2


@pytest.mark.parametrize("kind", ["photos", "t.parquet", "s.tar", "x.npy", "x.zarr"])
def test_what_reads_travels(put: Put, bucket: ObjectStore, tmp_path: Path, kind: str) -> None:
    values = np.zeros((3, 1, 2, 2), np.uint8)
    stream = io.BytesIO()
    np.save(stream, values)
    put("travel/photos/a.png", picture(0))
    put("travel/t.parquet", parquet_bytes(0, 3))
    put("travel/s.tar", tar(tmp_path / "s.tar", samples(3)).read_bytes())
    put("travel/x.npy", stream.getvalue())
    store = zarr.storage.ObjectStore(bucket)
    zarr.create_array(store, name="travel/x.zarr", data=values, overwrite=True)
    listing = open_source(spec_of(f"s3://bucket/travel/{kind}").images).listing()
    first = listing.read(listing.entries[0])
    assert pickle.loads(pickle.dumps(listing.read))(listing.entries[0]) == first


def test_web_addresses(web: WebFiles, tmp_path: Path) -> None:
    for shard in range(2):
        path = tar(tmp_path / "s.tar", samples(2, first=2 * shard))
        web.files[f"/set/s-{shard}.tar"] = path.read_bytes()
    web.files["/t.parquet"] = parquet_bytes(0, 4)
    found = load(f"{web.url}/set/s-{{0..1}}.tar")
    assert [info.name for info in found.infos] == [f"s-{n // 2}.tar/{n:04d}" for n in range(4)]
    assert all(np.array_equal(levels(found, n), coloured(n)) for n in range(4))
    found = load(f"{web.url}/t.parquet")
    assert all(np.array_equal(levels(found, n), coloured(n)) for n in range(4))
    for source in (f"{web.url}/set", f"{web.url}/set/s-*.tar"):
        assert "cannot be listed: name each file" in refusal(source)
    web.ranges = False
    assert "its server sends whole files alone" in refusal(f"{web.url}/set/s-0.tar")
    assert "its server sends whole files alone" in refusal(f"{web.url}/t.parquet")


def test_shards_are_read_by_large_ranges_in_their_order_and_by_small_ones_else(
    web: WebFiles, tmp_path: Path
) -> None:
    members = [(f"{n:02d}.{kind}", bytes([n]) * size) for n in range(60) for kind, size in KINDS]
    data = tar(tmp_path / "s.tar", members).read_bytes()
    web.files["/s.tar"] = data
    listing = open_source(spec_of(f"{web.url}/s.tar").images).listing()
    assert len(listing.entries) == 60
    assert sum(end - start for _, (start, end) in web.asked) < 1.2 * len(data)
    assert len(web.asked) < 8
    web.asked.clear()
    for entry in listing.entries:
        assert listing.read(entry) == bytes([entry.row]) * 300_000
    assert len(web.asked) < 8
    web.asked.clear()
    again = pickle.loads(pickle.dumps(listing.read))
    for entry in (listing.entries[50], listing.entries[20]):
        assert again(entry) == bytes([entry.row]) * 300_000
    assert sum(end - start for _, (start, end) in web.asked) < 800_000


KINDS = (("png", 300_000), ("cls", 1))


def test_large_members_are_skipped_by_listing(web: WebFiles, tmp_path: Path) -> None:
    members = [(f"{n}.{kind}", b"1" * size) for n in range(4) for kind, size in LARGE]
    web.files["/s.tar"] = tar(tmp_path / "s.tar", members).read_bytes()
    assert len(open_source(spec_of(f"{web.url}/s.tar").images).listing().entries) == 4
    assert sum(end - start for _, (start, end) in web.asked) < 20_000_000


LARGE = (("png", 12_000_000), ("cls", 1))


def test_an_image_is_left_out_where_it_alone_is_refused(
    put: Put, bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        put(f"partly/{name}.png", picture(ord(name)))
    read = object_files.obstore.get

    def refusing(store: ObjectStore, key: str) -> object:
        if key == "partly/a.png":
            obstore.delete(bucket, key)
        return read(store, key)

    monkeypatch.setattr(object_files.obstore, "get", refusing)
    found = load("s3://bucket/partly")
    assert [info.problem for info in found.infos] == [
        "s3://bucket/partly/a.png is missing",
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (403, PermissionError, "/x is not permitted"),
        (404, FileNotFoundError, "/x is missing"),
        (401, InfrastructureError, "does not take the credentials"),
        (503, InfrastructureError, "run again when the store answers"),
    ],
)
def test_the_fault_of_one_object_is_told_from_that_of_the_store(
    web: WebFiles, status: int, error: type[Exception], says: str
) -> None:
    bucket, _ = open_bucket(f"{web.url}/x", patience_s=0)
    web.status["/x"] = status
    with pytest.raises(error, match=says) as caught:
        bucket.read("x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["s.tar", "t.parquet", "x.npy"])
def test_an_outage_is_no_fault_of_an_image(kind: str, tmp_path: Path) -> None:
    files = {
        "/s.tar": tar(tmp_path / "s.tar", samples(2)).read_bytes(),
        "/t.parquet": parquet_bytes(0, 2),
        "/x.npy": npy_bytes(),
    }
    with web_files(files) as served:
        source = spec_of(f"{served.url}/{kind}").images
        listing = open_source(source, patience_s=0).listing()
        elsewhere = pickle.loads(pickle.dumps(listing.read))
        del served.files[f"/{kind}"]
        with pytest.raises(InfrastructureError, match="was listed and cannot be opened now"):
            pickle.loads(pickle.dumps(elsewhere))(listing.entries[0])
    with pytest.raises(InfrastructureError, match="no answer") as caught:
        elsewhere(listing.entries[0])
    assert "\n" not in str(caught.value)
    with pytest.raises(InfrastructureError):
        open_source(source, patience_s=0)


@pytest.mark.parametrize("kind", ["x", "t.parquet"])
def test_a_store_that_is_out_for_a_while_is_waited_for(
    web: WebFiles, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Outage] = []
    monkeypatch.setattr(patience, "_QUIET_S", 0.0)
    bucket, _ = open_bucket(f"{web.url}/{kind}")
    web.files[f"/{kind}"] = b"what it is"
    web.status[f"/{kind}"] = 503
    with outages_told(told.append):
        back = threading.Timer(1.0, web.status.clear)
        back.start()
        assert bucket.read(kind) == b"what it is"
        back.join()
    assert [outage.ended_s is None for outage in told] == [True, False]
    assert f"{web.url}/{kind}" in str(told[0])


def test_a_store_that_stays_out_is_given_up(web: WebFiles) -> None:
    bucket, _ = open_bucket(f"{web.url}/x", patience_s=0.3)
    web.status["/x"] = 503
    with pytest.raises(InfrastructureError, match=r"cannot read .*/x: 503.*, for \d s since"):
        bucket.read("x")


def test_images_are_waited_for_as_long_as_the_spec_says(web: WebFiles, tmp_path: Path) -> None:
    web.files["/s.tar"] = tar(tmp_path / "s.tar", samples(2)).read_bytes()
    web.files["/x.npy"] = npy_bytes()
    for name in ("s.tar", "x.npy"):
        asked = spec_of(f"{web.url}/{name}")
        asked = asked.model_copy(
            update={"run": asked.run.model_copy(update={"store_patience_s": 0.2})}
        )
        listing = Preparation(asked, SMALL).listing
        elsewhere = pickle.loads(pickle.dumps(listing.read))
        web.status[f"/{name}"] = 503
        for ask in (
            partial(Preparation, asked, SMALL),
            partial(elsewhere, listing.entries[0]),
        ):
            began_s = time.monotonic()
            with pytest.raises(InfrastructureError, match=r"503 .*, for 0 s since"):
                ask()
            assert time.monotonic() - began_s < READERS_S / 2


def test_a_password_in_an_address_is_no_part_of_messages(web: WebFiles) -> None:
    bucket, _ = open_bucket(web.url.replace("//", "//me:secret@"))
    with pytest.raises(FileNotFoundError) as caught:
        bucket.read("x")
    assert str(caught.value) == f"{web.url}/x is missing"
    own = web.url.replace("//", "//me:secret@")
    web.files["/odd.zip"] = b"x"
    for source in ("odd.zip", "none.tar", "{a,b}.tar", "x.npy", "x.zarr", "folder"):
        said = refusal(f"{own}/{source}")
        assert web.url in said
        assert "secret" not in said
    with pytest.raises(ImageError, match="cannot open http://host:port/x: it cannot be read"):
        open_bucket("http://me:secret@host:port/x")


def test_images_are_read_where_their_server_sends_on_to(web: WebFiles, tmp_path: Path) -> None:
    web.files["/s.tar"] = tar(tmp_path / "s.tar", samples(2)).read_bytes()
    with answering(redirecting(f"{web.url}/s.tar")) as address:
        found = load(f"{address}/anywhere.tar")
        assert all(np.array_equal(levels(found, n), coloured(n)) for n in range(2))


def test_an_error_that_seems_endless_is_one() -> None:
    long = saying(("Content-Length", 10**13), body=b"x" * 1000, status=500)
    with answering(long) as address:
        bucket, _ = open_bucket(f"{address}/x", patience_s=0)
        with pytest.raises(InfrastructureError, match="500 Internal Server Error"):
            bucket.read("x")
    with answering(saying(("Content-Length", 10**13), body=b"x" * 1000)) as address:
        bucket, _ = open_bucket(f"{address}/x", patience_s=0)
        with pytest.raises(OSError, match="has 10,000,000,000,000 bytes, more than are read of"):
            bucket.read("x")


def test_an_unknown_store_is_an_error_of_the_images() -> None:
    with pytest.raises(ImageError, match=r"cannot open s3://: it names no bucket"):
        open_bucket("s3://")
