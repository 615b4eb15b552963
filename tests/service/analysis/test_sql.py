"""SQL over the tables of an atlas, and nothing beside them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pyarrow as pa
import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.service.analysis import sql as sql_module
from circuit_atlas.service.commands.cli import cli
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.reader import Reader
from tests.patience import START_S

pytest.importorskip("duckdb")


def test_tables_are_joined_over_all_layers(atlas):
    rows = atlas.sql(
        "SELECT u.layer, u.name, f.pearson FROM Units u JOIN faithfulness f USING (layer, unit) "
        "WHERE criterion = 'actgrad' AND split = 'held_out' AND level = 0 ORDER BY ALL"
    ).to_pylist()
    expected = [
        {"layer": layer, "name": atlas.reader.layer(layer).unit(row["unit"]).name,
         "pearson": row["pearson"]}
        for layer in atlas.layers
        for row in atlas.layer(layer).faithfulness().to_pylist()
        if (row["criterion"], row["split"], row["level"]) == ("actgrad", "held_out", 0)
    ]  # fmt: skip
    assert rows == sorted(expected, key=lambda row: (row["layer"], row["name"]))
    assert len(rows) == 6


@pytest.mark.parametrize(
    "name", ["responses", "faithfulness", "subfeatures", "groups", "selectivity"]
)
def test_each_stored_table_has_layer_and_unit_first(atlas, name):
    table = atlas.sql(f"SELECT * FROM {name}")
    whole = [(layer, atlas.reader.table(layer, name)) for layer in atlas.layers]
    assert table.column_names == ["layer", *whole[0][1].column_names]
    expected = [{"layer": layer, **row} for layer, rows in whole for row in rows.to_pylist()]
    assert table.to_pylist() == expected
    assert expected


def test_images_layers_and_units(atlas):
    assert atlas.sql("FROM images").to_pylist() == atlas.images().to_pylist()
    assert atlas.sql("FROM layers").to_pylist() == atlas.status().to_pylist()
    failed = atlas.sql("SELECT name, error FROM units WHERE state = 'failed'")
    assert failed.to_pylist() == [
        {"name": "4", "error": "non_finite: NaN in its response to image 1"}
    ]


def test_numbers_come_as_whole_numbers_and_floats(atlas):
    row = atlas.sql(
        "SELECT sum(reachable_kernels) AS kernels, 1.5 AS half, "
        "sum(reachable_kernels) * 1e30::DECIMAL(38, 0) AS huge "
        "FROM units WHERE layer = 'conv3' AND unit = 0"
    ).to_pylist()[0]
    assert row == {"kernels": 44, "half": 1.5, "huge": 4.4e31}
    assert isinstance(row["kernels"], int)


def test_only_the_tables_that_a_query_names_are_read(atlas, monkeypatch):
    asked = []
    read = Reader.table

    def table(reader: Reader, layer: str, name: str) -> pa.Table:
        asked.append(name)
        return read(reader, layer, name)

    monkeypatch.setattr(Reader, "table", table)
    atlas.sql("SELECT count(*) FROM subfeatures")
    assert set(asked) == {"subfeatures"}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FROM unitz", "there is no table 'unitz': did you mean 'units'"),
        ("SELECT * FROM 'units.parquet'", "Cannot access file|there is no table"),
        ("SELECT kernel FROM units", "^SQL: Binder Error: .*kernel"),
        ("SELEC 1", "^SQL: Parser Error: syntax error at or near .SELEC.$"),
        ("", "give a single SELECT"),
        ("SELECT 1; SELECT 2", "give a single SELECT"),
        ("CREATE TABLE x (a INT)", "give a single SELECT"),
        ("SET memory_limit = '9GB'", "give a single SELECT"),
        ("INSTALL httpfs", "give a single SELECT"),
        ("ATTACH '{file}.db' AS x", "give a single SELECT"),
        ("COPY units TO '{file}.csv'", "give a single SELECT"),
        ("SELECT * FROM read_text('{file}')", "file system operations are disabled"),
        ("SELECT * FROM read_csv('{file}')", "file system operations are disabled"),
        ("SELECT * FROM sniff_csv('{file}')", "file system operations are disabled"),
        ("SELECT * FROM '{file}'", "Cannot access file|there is no table"),
        ("SELECT * FROM glob('/*')", "file system operations are disabled"),
        ("SELECT * FROM read_csv('http://127.0.0.1:9/x')", "^SQL: "),
        ("SELECT getenv('HOME')", "getenv does not exist"),
        (None, "a query is a text, not a NoneType"),
    ],
)
def test_what_is_no_question_to_the_atlas_is_one_line(atlas, tmp_path, query, message):
    file = tmp_path / "secret.csv"
    file.write_text("a\n1\n")
    asked = query and query.format(file=file)
    with pytest.raises(QueryError, match=message) as caught:
        atlas.sql(asked)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_a_query_that_takes_too_much_memory_ends(atlas, monkeypatch):
    monkeypatch.setitem(sql_module._CONFIG, "memory_limit", "30MB")
    with pytest.raises(QueryError, match=r"^SQL: Out of Memory Error: [^\n]*: ask for less"):
        atlas.sql("SELECT list(range) FROM range(100000000)")


def test_an_answer_that_is_too_large_ends(atlas, monkeypatch):
    monkeypatch.setattr(sql_module, "MOST_BYTES", 2**20)
    with pytest.raises(QueryError, match="the answer has more than 1 MiB: count or average"):
        atlas.sql("SELECT * FROM range(10000000000)")
    assert len(atlas.sql("SELECT * FROM range(100000)")) == 100_000


def test_the_tables_can_be_asked_for(atlas):
    names = sorted(sql_module.VIEWS)
    assert atlas.sql("SHOW TABLES")["name"].to_pylist() == names
    asked = "SELECT table_name FROM information_schema.tables ORDER BY ALL"
    assert atlas.sql(asked)["table_name"].to_pylist() == names


@pytest.mark.parametrize("after_s", [0, 1])
def test_ctrl_c_stops_a_query(location, after_s):
    """Before the query works, where DuckDB hears nothing yet, and while it does."""
    code = (
        "import os, signal, sys, threading, time\n"
        "from circuit_atlas.service.analysis import sql\n"
        "from circuit_atlas.service.commands.cli import main\n"
        "stop = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
        "whole = sql._bounded\n"
        "def asked(result):\n"
        f"    threading.Timer({after_s}, stop).start()\n"
        f"    time.sleep({1 - after_s})\n"
        "    return whole(result)\n"
        "sql._bounded = asked\n"
        "query = 'SELECT count(*) FROM range(1000000000000) WHERE hash(range) % 7 = 1'\n"
        "sys.exit(main(['sql', sys.argv[1], query]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, location],
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "\ncircuit-atlas: stopped\n"


def test_variables_of_the_caller_are_no_tables(atlas):
    secret = atlas.images()
    with pytest.raises(QueryError, match="there is no table 'secret'"):
        atlas.sql("SELECT * FROM secret")
    assert secret.num_rows


def test_without_duckdb_it_says_what_to_install(atlas, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(QueryError, match=r"SQL needs the package 'duckdb'.*circuit-atlas\[ana"):
        atlas.sql("FROM units")


def test_an_atlas_without_layers_says_so(tmp_path, write):
    write(tmp_path / "atlas")
    for folder in ("layers", "plans"):
        shutil.rmtree(tmp_path / "atlas" / folder)
    opened = Atlas.open(tmp_path / "atlas")
    with pytest.raises(QueryError, match="has no layers yet"):
        opened.sql("FROM units")
    assert opened.sql("FROM layers").num_rows == 0


def test_every_table_is_named_where_people_read_of_them():
    for text in (Atlas.sql.__doc__, cli.commands["sql"].help):
        words = set(re.findall(r"\w+", text))
        assert sql_module.VIEWS.keys() <= words
