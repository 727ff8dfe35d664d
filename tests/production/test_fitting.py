"""What a fit decides before it fits: the metric, the name of the sealed rows, and what is written down."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from modelworks.core.schema import Schema
from modelworks.core.task import Task
from modelworks.data import ReadOptions, ingest, open_table
from modelworks.production.fitting import fit_task, load_record
from modelworks.production.judging import judge_task
from modelworks.production.reading import SEALED_FROM, read_table

ROWS = 600


@pytest.fixture
def table_folder(tmp_path: Path) -> Path:
    """A table whose rare class follows ``x``: 4 % say yes."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=ROWS)
    shown = x + 0.3 * generator.normal(size=ROWS)
    labels = np.where(shown > np.quantile(shown, 0.96), "yes", "no")
    table = pa.table({"x": x, "z": generator.normal(size=ROWS), "y": labels})
    ingest(table, tmp_path / "table", ReadOptions(), isolate=False)
    return tmp_path / "table"


def fitted(table_folder: Path, folder: Path, **settings: object) -> dict[str, object]:
    folder.mkdir()
    return fit_task(table_folder, Task(name="t", data="t", target="y", **settings), (), None, folder)


def test_few_positives_are_judged_by_average_precision_end_to_end(table_folder: Path, tmp_path: Path) -> None:
    fitted(table_folder, tmp_path / "fit", explain=False)
    assert load_record(tmp_path / "fit")["metric"] == "average_precision"
    task = Task(name="t", data="t", target="y", explain=False)
    judged = judge_task(table_folder, tmp_path / "fit", None, task, 1, tmp_path)
    assert judged.findings["evaluation"]["metric"] == "average_precision"
    assert judged.findings["measured"]["parity"]["passed"]


def test_the_named_positive_class_and_the_named_metric_count(table_folder: Path, tmp_path: Path) -> None:
    fitted(table_folder, tmp_path / "other", positive="no")
    assert load_record(tmp_path / "other")["metric"] == "roc_auc"
    fitted(table_folder, tmp_path / "named", metric="mcc")
    assert load_record(tmp_path / "named")["metric"] == "mcc"


def test_sealed_rows_are_named_by_their_content(table_folder: Path, tmp_path: Path) -> None:
    table, _ = open_table(table_folder)
    first = fitted(table_folder, tmp_path / "first")["test"]
    ingest(table.select(["z", "y", "x"]), tmp_path / "moved", ReadOptions(), isolate=False)
    assert fitted(tmp_path / "moved", tmp_path / "second")["test"] == first
    changed = table.set_column(0, "x", pa.array(np.asarray(table.column("x")) + 1.0))
    ingest(changed, tmp_path / "changed", ReadOptions(), isolate=False)
    assert fitted(tmp_path / "changed", tmp_path / "third")["test"] != first


def test_a_ready_made_test_table_is_read_in_the_training_tables_terms(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(
        "a,b,y\n" + "".join(f"{i},u{i % 3},{'no' if i % 2 else 'yes'}\n" for i in range(60))
    )
    (tmp_path / "test.csv").write_text(
        "y,b,a\n" + "".join(f"{'NO.' if i % 2 else 'yes'},u1,{i}.5\n" for i in range(20))
    )
    report = read_table(tmp_path / "train.csv", tmp_path / "test.csv", {}, tmp_path / "both", isolate=False)
    table, schema = open_table(tmp_path / "both")
    assert isinstance(schema, Schema)
    assert report[SEALED_FROM] == 60
    assert report["rows"] == table.num_rows == schema.rows == 80
    assert table.column("a")[60].as_py() == 0.5
    assert set(table.column("y").to_pylist()) == {"no", "yes"}
    assert any("NO." in note for note in report["warnings"])
    assert json.loads((tmp_path / "both" / "ingest.json").read_text()) == report
