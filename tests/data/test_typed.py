"""Typed arrays and the tensors they go into agree with what a caller may send row by row."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.compute.feeds import pack_columns, pack_rows
from modelworks.core.errors import TaskError
from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.core.signature import MISSING_DATETIME, Signature
from modelworks.core.task import SplitPolicy, Task, TaskKind
from modelworks.data import feature_names, input_tensors, tensor_of, training_table, typed_columns
from modelworks.data.kinds import infer_schema

COUNT = 40
_some = st.none() | st.sampled_from(["red", "green", "Straße", "a b"])
_rows = st.lists(
    st.fixed_dictionaries(
        {
            "size": st.none() | st.floats(-1e6, 1e6, width=32),
            "pieces": st.none() | st.integers(-5, 5),
            "colour": _some,
            "flag": st.none() | st.booleans(),
            "word": st.none() | st.sampled_from(["No", "Yes"]),
            "when": st.none() | st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1)),
        }
    ),
    min_size=3,
    max_size=20,
)
_LAYOUT = pa.schema(
    [
        ("size", pa.float64()), ("pieces", pa.int64()), ("colour", pa.dictionary(pa.int32(), pa.string())),
        ("flag", pa.bool_()), ("word", pa.dictionary(pa.int32(), pa.string())), ("when", pa.timestamp("us")),
    ]
)  # fmt: skip
_SCHEMA = Schema(
    (
        Column(name="size", kind=ColumnKind.NUMBER),
        Column(name="pieces", kind=ColumnKind.INTEGER_CATEGORY, levels=tuple(str(n) for n in range(-5, 6))),
        Column(name="colour", kind=ColumnKind.CATEGORY),
        Column(name="flag", kind=ColumnKind.BOOLEAN, levels=("false", "true")),
        Column(name="word", kind=ColumnKind.BOOLEAN, levels=("No", "Yes")),
        Column(name="when", kind=ColumnKind.DATETIME),
    )
)


@settings(max_examples=60, deadline=None)
@given(_rows)
def test_columns_of_a_table_and_rows_of_a_caller_pack_alike(rows: list[dict[str, object]]) -> None:
    """What training saw is what serving feeds, for every kind and for missing cells."""
    table = pa.Table.from_pylist(rows, schema=_LAYOUT)
    signature = Signature(inputs=input_tensors(_SCHEMA, _SCHEMA.names), outputs=())
    from_columns = pack_columns(signature, typed_columns(table, _SCHEMA, _SCHEMA.names), len(rows))
    sent = [{**row, "when": row["when"].isoformat() if row["when"] else None} for row in rows]
    from_rows = pack_rows(signature, sent)
    assert set(from_columns) == set(from_rows) == {"numbers", "strings", "datetimes"}
    for name, packed in from_rows.items():
        assert packed.dtype == from_columns[name].dtype
        np.testing.assert_array_equal(packed, from_columns[name])


def test_tensor_of_each_kind() -> None:
    def place(kind: ColumnKind, *levels: str) -> str:
        return tensor_of(Column(name="x", kind=kind, levels=levels or None))

    assert place(ColumnKind.NUMBER) == "numbers"
    assert place(ColumnKind.BOOLEAN, "0", "1") == place(ColumnKind.BOOLEAN, "false", "true") == "numbers"
    assert place(ColumnKind.BOOLEAN, "no", "yes") == "strings"
    assert place(ColumnKind.INTEGER_CATEGORY, "1", "2") == "numbers"
    assert place(ColumnKind.INTEGER_CATEGORY, "1", str(2**24 + 1)) == "strings"
    assert place(ColumnKind.INTEGER_CATEGORY, "01", "02") == "strings"
    assert place(ColumnKind.INTEGER_CATEGORY) == "strings"
    assert place(ColumnKind.ORDERED, "low", "high") == place(ColumnKind.TEXT) == "strings"
    assert place(ColumnKind.DATETIME) == "datetimes"


def test_numbers_beyond_single_precision_are_missing() -> None:
    table = pa.table({"x": [1.0, 1e300, float("nan"), None, 2.0**24 + 1]})
    schema = Schema((Column(name="x", kind=ColumnKind.NUMBER),))
    values = typed_columns(table, schema, ["x"])["x"]
    assert values.dtype == np.float32
    assert np.isnan(values).tolist() == [False, True, True, True, False]


def test_overridden_kinds_read_other_storage() -> None:
    """A kind the user sets decides the tensor, whatever the column is stored as."""
    table = pa.table(
        {
            "number": pa.array(["1", "2.5", None, "x"]).dictionary_encode(),
            "text": pa.array([1, 2, None, 3]),
            "moment": pa.array(["2024-01-31", None, "junk", "2024-02-01"]).dictionary_encode(),
        }
    )
    schema = Schema(
        (
            Column(name="number", kind=ColumnKind.NUMBER),
            Column(name="text", kind=ColumnKind.CATEGORY),
            Column(name="moment", kind=ColumnKind.DATETIME),
        )
    )
    typed = typed_columns(table, schema, schema.names)
    np.testing.assert_array_equal(typed["number"], np.array([1, 2.5, np.nan, np.nan], np.float32))
    assert typed["text"].tolist() == ["1", "2", "", "3"]
    assert typed["moment"].tolist() == [
        1706659200 * 10**6,
        MISSING_DATETIME,
        MISSING_DATETIME,
        1706745600 * 10**6,
    ]


def _table() -> pa.Table:
    return pa.table(
        {
            "id": list(range(COUNT)),
            "x": [index / 3 for index in range(COUNT)],
            "kind": ["a", "b"] * (COUNT // 2),
            "who": [f"p{index % 8}" for index in range(COUNT)],
            "w": [float(index % 3) for index in range(COUNT)],
            "y": [index % 2 for index in range(COUNT)],
        }
    )


def test_training_table_holds_features_target_and_weights() -> None:
    table = _table()
    schema = infer_schema(table)
    policy = SplitPolicy(group="who")
    task = Task(name="t", data="d", target="y", weight="w", exclude=("kind",), split=policy)
    assert feature_names(schema, task) == ("x",)
    train = np.arange(5, 30)
    made = training_table(table, schema, task, train, np.zeros(25, np.int8))
    assert made.kind is TaskKind.BINARY
    assert made.classes == ("0", "1")
    assert made.rows == 25
    np.testing.assert_array_equal(made.target, train % 2)
    np.testing.assert_allclose(made.columns["x"], train / 3, rtol=1e-6)
    np.testing.assert_array_equal(made.weight, (train % 3).astype(np.float32))
    some = made.take(np.array([0, 2]))
    assert some.rows == 2
    assert some.target.tolist() == [1, 1]
    assert some.schema == made.schema


def test_bad_weights_and_no_features_are_errors() -> None:
    table = _table().append_column("bad", pa.array([-1.0] + [1.0] * (COUNT - 1)))
    schema = infer_schema(table)
    rows, folds = np.arange(COUNT), np.zeros(COUNT, np.int8)
    with pytest.raises(TaskError, match=r"1 of 40 weights"):
        training_table(table, schema, Task(name="t", data="d", target="y", weight="bad"), rows, folds)
    with pytest.raises(TaskError, match="no column is left"):
        training_table(
            table,
            schema,
            Task(name="t", data="d", target="y", exclude=("x", "kind", "w", "bad")),
            rows,
            folds,
            ["who"],
        )
