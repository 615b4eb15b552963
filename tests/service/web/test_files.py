"""A file holds every row, however many fit on a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from circuit_atlas.service.web.app import create_app
from circuit_atlas.storage_schema import network
from circuit_atlas.storage_schema.header import LayerIndex, UnitInfo
from circuit_atlas.storage_schema.kernels import KernelIndex
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.template import Plan, create
from circuit_atlas.storage_schema.writer import Writer
from tests.service.conftest import CONV1, make_header, make_images, make_network, make_record
from tests.service.stores import served

UNITS = 250
PATHS = [
    "images/2/units",
    "images/2/units?layer=conv1",
    "layers/conv1/units",
    "layers/conv1/uses?convolution=conv1",
]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server of an atlas whose one layer has 250 units: directions over its eight channels."""
    folder: Path = tmp_path_factory.mktemp("many") / "atlas"
    channels = CONV1.out_channels
    units = tuple(
        UnitInfo(n, str(n), None, ())
        if n < channels
        else UnitInfo(n, f"d{n}", tuple(float(n % channels == at) for at in range(channels)), ())
        for n in range(UNITS)
    )
    layer = LayerIndex("conv1", channels, 8, 8, KernelIndex((CONV1,)), units)
    header = replace(make_header(), criteria=("actgrad",))
    objects = open_store(folder, create=True)
    plan = Plan((("conv1", tuple(range(UNITS))),))
    create(objects, header, [layer], plan=plan, **make_images(objects))
    network.store(objects, layer, partial(make_network, layer))
    writer = Writer(objects, header, layer)
    for unit in range(UNITS):
        writer.commit(make_record(header, layer, unit))
    with (
        served(create_app(folder)) as address,
        httpx.Client(base_url=f"{address}/api/v1/", timeout=60) as client,
    ):
        yield client


def ask(client: httpx.Client, path: str, form: str) -> httpx.Response:
    """A file."""
    found = client.get(f"{path}{'&' if '?' in path else '?'}format={form}")
    assert found.status_code == 200, found.text
    return found


@pytest.mark.parametrize("path", PATHS)
def test_a_file_has_a_row_for_each_of_250_units(many, path):
    rows = list(csv.DictReader(io.StringIO(ask(many, path, "csv").text)))
    assert len({row["unit"] for row in rows}) == len(rows) == UNITS
    table = pq.read_table(io.BytesIO(ask(many, path, "parquet").content))
    assert [str(unit) for unit in table["unit"].to_pylist()] == [row["unit"] for row in rows]
    some = {"offset": 240, "limit": 100, "format": "csv"}
    part = many.get(path, params={**httpx.URL(path).params, **some}).text.splitlines()
    assert len(part) == 1 + 10


def test_a_file_of_similar_units_has_all_the_others(many):
    text = ask(many, "layers/conv1/units/0/similar", "csv").text
    units = [int(row["unit"]) for row in csv.DictReader(io.StringIO(text))]
    assert sorted(units) == list(range(1, UNITS))


def test_the_rows_of_pages_together_are_those_of_the_file(many):
    rows = list(csv.DictReader(io.StringIO(ask(many, "images/2/units", "csv").text)))
    pages = [many.get("images/2/units", params={"offset": o, "limit": 1000}) for o in (0, 200)]
    assert [len(page.json()["rows"]) for page in pages] == [200, 50]
    together = [row for page in pages for row in page.json()["rows"]]
    assert [row["name"] for row in together] == [row["name"] for row in rows]
    assert together[0]["rank"] == int(rows[0]["rank"])
