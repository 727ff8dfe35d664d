"""Fault F16: a corpus of poison tables. Each ends in a table with its bad rows set aside, or in a plain error."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from modelworks.core.errors import DataError, LimitError, TaskError
from modelworks.core.task import SplitPolicy
from modelworks.data import guard, infer_task_kind, ingest, open_table, profile, split

GOOD = "".join(f"{index},{index / 7:.3f},{'ab'[index % 2]}\n" for index in range(80))


def _parquet(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    pyarrow.parquet.write_table(table, stream)
    return stream.getvalue()


TABLES = {
    "nan-and-infinity.csv": "n,x,y\n" + GOOD + "1,NaN,a\n2,inf,b\n3,-inf,a\n4,1e999,b\n",
    "one-row.csv": "n,x,y\n1,2.5,a\n",
    "one-column.csv": "x\n" + "".join(f"{index}.5\n" for index in range(30)),
    "duplicate-names.csv": "x,x,x\n" + GOOD,
    "no-names.csv": ",,\n" + GOOD,
    "ragged.csv": "n,x,y\n" + GOOD + "1\n1,2\n1,2,3,4\n,,\n",
    "mixed-line-ends.csv": "n,x,y\r\n" + GOOD.replace("\n", "\r\n", 20).replace("\n", "\r\n", 5),
    "old-mac.csv": ("n,x,y\n" + GOOD).replace("\n", "\r"),
    "no-end-of-line.csv": "n,x,y\n" + GOOD.rstrip(),
    "quotes-everywhere.csv": 'n,x,y\n1,"2,"a"\n' + GOOD + '"3,4,b\n',
    "empty-columns.csv": "n,x,y,z,w\n" + GOOD.replace("\n", ",,\n"),
    "long-cell.csv": "n,x,y\n" + GOOD + "1,2," + "z" * 100_000 + "\n",
    "numbers-too-large.csv": "n,x,y\n" + GOOD + "99999999999999999999999,1e400,a\n",
    "odd-names.csv": '"a\nb","<script>",\u202ename\n' + GOOD,
    "formula.csv": "n,x,y\n" + GOOD + "=cmd|'/c calc'!A1,2,a\n",
    "mixed-encodings.csv": ("n,x,y\n" + GOOD).encode() + "1,2,ä\n".encode() * 3 + "1,2,ä\n".encode("latin-1"),
    "null-bytes.csv": ("n,x,y\n" + GOOD).encode() + b"1,2,a\x00b\n",
    "deep-but-allowed.jsonl": "".join(json.dumps({"a": {"b": {"c": index}}}) + "\n" for index in range(30)),
    "keys-change.jsonl": "".join(
        json.dumps({f"k{index % 7}": index, "y": index % 2}) + "\n" for index in range(60)
    ),
    "types-change.jsonl": "".join(
        json.dumps({"x": [1, "a", None, 2.5, True, [1]][index % 6]}) + "\n" for index in range(60)
    ),
    "all-missing.parquet": _parquet(pa.table({"x": pa.nulls(20), "y": pa.nulls(20, pa.float64())})),
    "nan.parquet": _parquet(pa.table({"x": [float("nan"), float("inf"), 1.0, 2.0] * 9})),
}

REFUSED = {
    "empty.csv": (b"", "MW1120"),
    "empty.parquet": (b"", "MW1120"),
    "header-only.csv": (b"n,x,y\n", "MW1131"),
    "no-rows.parquet": (_parquet(pa.table({"x": pa.array([], pa.float64())})), "MW1131"),
    "cut.parquet": (_parquet(pa.table({"x": list(range(1000))}))[:-20], "MW1122"),
    "cut.csv.gz": (gzip.compress(GOOD.encode())[:-20], "MW1122"),
    "columns.csv": (
        b",".join(b"c%d" % n for n in range(100_000)) + b"\n" + b",".join([b"1"] * 100_000),
        "MW2011",
    ),
    "deep.json": (b"[" * 50_000 + b"]" * 50_000, "MW2015"),
    "noise.bin": (bytes((index * 7919) % 256 for index in range(5000)), "MW1124"),
}


@pytest.mark.parametrize("name", TABLES)
def test_poison_tables_are_read_and_every_bad_row_is_counted(name: str, tmp_path: Path) -> None:
    content = TABLES[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    report = ingest(tmp_path / name, tmp_path / "out", isolate=False)
    table, schema = open_table(tmp_path / "out")
    table.validate(full=True)
    quarantine = pyarrow.parquet.read_table(tmp_path / "out" / "quarantine.parquet")
    assert quarantine.num_rows == report["quarantined"] == sum(report["quarantine_reasons"].values())
    assert all(reason for reason in quarantine.column("_reason").to_pylist())
    for column in table.columns:
        if pa.types.is_floating(column.type):
            assert all(cell is None or abs(cell) < float("inf") for cell in column.to_pylist())
    json.dumps(profile(table, schema), allow_nan=False)
    target = schema.names[-1]
    try:
        kind, _ = infer_task_kind(table, schema, target)
        guard(table, schema, target, split(table, schema, target, kind, SplitPolicy(), 0), kind)
    except TaskError as error:
        assert error.error_code.startswith("MW12")


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("isolate", [False, True])
def test_hopeless_files_are_refused_with_a_code(name: str, isolate: bool, tmp_path: Path) -> None:
    content, code = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises((DataError, LimitError)) as caught:
        ingest(tmp_path / name, tmp_path / "out", isolate=isolate)
    assert caught.value.error_code == code
    assert str(tmp_path) not in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_rows_lost_are_rows_accounted_for(tmp_path: Path) -> None:
    """Lines in = rows out + rows set aside, for a text damaged in every fiftieth line."""
    lines = [f'{index},"text {index}",{index % 9}.5' for index in range(2000)]
    damaged = 0
    for index in range(25, 2000, 50):
        lines[index] = ["1,2", '7,"open,1', "1,2,3,4", "only"][index // 50 % 4]
        damaged += 1
    (tmp_path / "t.csv").write_text("n,text,x\n" + "\n".join(lines) + "\n")
    report = ingest(tmp_path / "t.csv", tmp_path / "out", isolate=False)
    literal = report["detected"]["lines_with_plain_quotes"]
    assert report["rows"] + report["quarantined"] == 2000
    assert report["quarantined"] + literal == damaged
