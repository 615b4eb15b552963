"""The map of a unit whose output is small or large is as exact as another's."""

from __future__ import annotations

from dataclasses import replace

import httpx
import numpy as np
import pytest

from circuit_atlas.service.web.app import create_app
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.writer import Writer
from tests.service.stores import served


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-7, 1.0, 1e9])
def test_a_map_keeps_its_digits(tmp_path, write, record, size):
    write(tmp_path)
    (tmp_path / "layers" / "conv3" / "commits" / "0.json").unlink()
    one = record("conv3", 0)
    maps = (one.response_maps * size).astype(np.float32)
    reader = Reader(tmp_path)
    Writer(reader.objects, reader.header, reader.layer("conv3")).commit(
        replace(one, response_maps=maps)
    )
    with served(create_app(tmp_path)) as address:
        path = f"{address}/api/v1/layers/conv3/units/0/response-map/0"  # of rank 1
        found = httpx.get(path).json()
    # float32 has seven digits, and so has what is sent of the largest.
    np.testing.assert_allclose(found["values"], maps[1], rtol=0, atol=1e-6 * np.abs(maps[1]).max())
    assert found["maximum"] == maps[1].max()
