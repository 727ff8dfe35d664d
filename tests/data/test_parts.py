"""Training, sealed and fold rows: complete, apart, even, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.core.errors import DataError, TaskError
from modelworks.core.schema import Schema
from modelworks.core.task import SplitPolicy, TaskKind
from modelworks.data import Split, join_test_table, sealed_digest, split
from modelworks.data.folds import blocked_folds, grouped_folds
from modelworks.data.kinds import infer_schema
from modelworks.data.parts import random_part
from modelworks.data.rowkeys import row_keys


def _split(table: pa.Table, task: TaskKind = TaskKind.BINARY, seed: int = 0, **policy: object) -> Split:
    return split(table, infer_schema(table), "y", task, SplitPolicy(**policy), seed)


def _table(rows: int, seed: int = 0) -> pa.Table:
    generator = np.random.default_rng(seed)
    return pa.table(
        {
            "x": generator.normal(size=rows),
            "who": [f"p{index}" for index in generator.integers(0, max(3, rows // 10), rows)],
            "day": pa.array(generator.integers(0, 400, rows) * 86_400_000_000, pa.timestamp("us")),
            "y": generator.integers(0, 2, rows),
        }
    )


def _complete(made: Split, rows: int) -> None:
    both = np.concatenate([made.train, made.test])
    assert np.array_equal(np.sort(both), np.arange(rows))
    assert len(made.folds) == len(made.train)
    assert made.folds.dtype == np.int8
    assert made.folds.min() == 0


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(10, 400),
    share=st.floats(0.05, 0.5),
    kind=st.sampled_from(["random", "group", "time"]),
    seed=st.integers(0, 5),
)
def test_parts_are_complete_apart_and_repeatable(rows: int, share: float, kind: str, seed: int) -> None:
    table = _table(rows, seed)
    policy = {"kind": kind, "test_share": share, "group": "who", "time": "day"}
    made, again = _split(table, seed=seed, **policy), _split(table, seed=seed, **policy)
    _complete(made, rows)
    assert 0 < len(made.test) < rows
    assert np.array_equal(made.test, again.test)
    assert np.array_equal(made.folds, again.folds)
    assert made.policy == kind
    if kind == "group":
        who = np.array(table.column("who").to_pylist())
        assert not set(who[made.train]) & set(who[made.test])
        for fold in np.unique(made.folds):
            inside = set(who[made.train][made.folds == fold])
            assert not inside & set(who[made.train][made.folds != fold])
    if kind == "time":
        days = table.column("day").cast(pa.int64()).to_numpy()
        assert days[made.train].max() < days[made.test].min()


def test_random_parts_are_stratified_and_differ_by_seed() -> None:
    rows = 1000
    table = pa.table({"x": np.arange(rows) * 0.37, "y": [0] * 950 + [1] * 50})
    made = _split(table)
    answers = np.array(table.column("y").to_pylist())
    assert answers[made.test].sum() == 10
    assert len(made.test) == 200
    for fold in range(5):
        assert answers[made.train][made.folds == fold].sum() == 8
        assert np.count_nonzero(made.folds == fold) == 160
    assert not np.array_equal(made.test, _split(table, seed=1).test)
    assert "stratified by class" in made.method
    assert "20% sealed" in made.method


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 30), min_size=2, max_size=6), st.floats(0.05, 0.5), st.integers(0, 9))
def test_every_class_is_on_both_sides(sizes: list[int], share: float, seed: int) -> None:
    strata = np.repeat(np.arange(len(sizes)), sizes)
    chosen = random_part(strata, np.arange(len(strata)), share, np.random.default_rng(seed))
    for stratum, size in enumerate(sizes):
        sealed = int(chosen[strata == stratum].sum())
        assert 1 <= sealed < size
        assert abs(sealed - share * size) <= 1


def test_duplicates_stay_on_one_side_unless_repetition_is_the_nature_of_the_data() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=300)
    x = np.concatenate([values, values[:100], [7.0] * 60])
    table = pa.table({"x": x, "y": generator.integers(0, 2, len(x))})
    made = _split(table)
    assert made.duplicates == 100
    repeated = set(values[:100])
    assert not repeated & set(x[made.train]) & set(x[made.test])
    often = x == 7.0
    assert 3 <= often[made.test].sum() <= 25
    natural = pa.table({"x": generator.integers(0, 5, 500) * 1.5, "y": generator.integers(0, 2, 500)})
    assert _split(natural).duplicates == 0


def test_rows_without_an_answer_are_set_aside() -> None:
    table = pa.table({"x": np.arange(100) * 0.7, "y": [None, 0, 1, 0, 1] * 20})
    made = _split(table)
    assert made.unlabelled == 20
    assert len(made.train) + len(made.test) == 80
    assert not set(made.train.tolist()) & set(range(0, 100, 5))
    assert "20 rows without a target" in made.method


def test_regression_parts_hold_all_values() -> None:
    generator = np.random.default_rng(0)
    values = generator.lognormal(size=2000)
    made = _split(pa.table({"x": generator.normal(size=2000), "y": values}), TaskKind.REGRESSION)
    gap = np.quantile(values[made.train], [0.1, 0.5, 0.9]) - np.quantile(values[made.test], [0.1, 0.5, 0.9])
    assert np.abs(gap).max() < 0.15
    assert "by value" in made.method


def test_impossible_policies_are_errors() -> None:
    table = _table(50)
    with pytest.raises(TaskError, match="needs a time column"):
        _split(table, kind="time")
    with pytest.raises(DataError, match="no column 'whom'"):
        split(table, infer_schema(table), "y", TaskKind.BINARY, SplitPolicy(group="whom"), 0)
    few = table.append_column("one", pa.array(["a", "b"] * 25))
    with pytest.raises(TaskError, match="2 groups"):
        split(few, infer_schema(few), "y", TaskKind.BINARY, SplitPolicy(group="one"), 0)
    with pytest.raises(TaskError, match="not a time"):
        split(few, infer_schema(few), "y", TaskKind.BINARY, SplitPolicy(time="who"), 0)
    with pytest.raises(TaskError, match="Only 2 rows"):
        _split(table.slice(0, 2), TaskKind.REGRESSION)


def test_tiny_tables_get_fewer_folds() -> None:
    table = pa.table({"x": np.arange(12) * 0.7, "y": [0, 1] * 6})
    made = _split(table)
    assert set(made.folds) == {0, 1}
    assert len(made.test) == 2


def test_ready_made_test_table() -> None:
    train = pa.table(
        {"x": [0.5, 1.5, 2.5, None] * 10, "k": ["Low", "High"] * 20, "y": ["<=50K", ">50K"] * 20}
    )
    test = pa.table(
        {
            "y": ["<=50K.", ">50K.", "<=50K."],
            "x": ["1.25", "oops", None],
            "k": ["low", "High ", "new"],
            "z": [1, 2, 3],
        }
    )
    schema = infer_schema(train)
    joined = join_test_table(train, schema, test)
    assert joined.table.num_rows == 43
    assert joined.table.column("y").to_pylist()[40:] == ["<=50K", ">50K", "<=50K"]
    assert joined.table.column("x").to_pylist()[40:] == [1.25, None, None]
    assert joined.table.column("k").to_pylist()[40:] == ["Low", "High", "new"]
    assert joined.schema["x"].missing == 12
    assert len(joined.notes) == 3
    made = split(joined.table, joined.schema, "y", TaskKind.BINARY, SplitPolicy(), 0, joined.sealed)
    assert made.test.tolist() == [40, 41, 42]
    assert made.policy == "ready"
    with pytest.raises(DataError, match="no column 'k'"):
        join_test_table(train, schema, test.drop_columns(["k"]))
    with pytest.raises(TaskError, match="test table has no row"):
        split(joined.table, joined.schema, "y", TaskKind.BINARY, SplitPolicy(), 0, np.array([], np.int64))


def test_sealed_digest_names_content_not_places() -> None:
    table = _table(60)
    schema = infer_schema(table)
    rows = np.arange(10, 30)
    name = sealed_digest(table, schema, rows)
    moved = table.take(pa.array(np.arange(60)[::-1]))
    assert sealed_digest(moved, schema, np.sort(59 - rows)) == name
    shuffled = table.select(["y", "x", "day", "who"])
    assert sealed_digest(shuffled, Schema(tuple(schema[n] for n in shuffled.column_names)), rows) == name
    assert sealed_digest(table, schema, rows[:-1]) != name


@given(
    st.lists(st.tuples(st.floats(allow_nan=False, width=32), st.sampled_from("abc")), min_size=2, max_size=30)
)
def test_row_keys_are_equal_exactly_for_equal_rows(rows: list[tuple[float, str]]) -> None:
    table = pa.table({"x": [row[0] for row in rows], "k": [row[1] for row in rows]})
    keys = row_keys(table, infer_schema(table), ["x", "k"])
    for first in range(len(rows)):
        for second in range(first):
            assert (keys[first] == keys[second]) == (rows[first] == rows[second])


def test_grouped_folds_are_even_and_blocks_follow_time() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(80), generator.integers(1, 30, 80))
    strata = (generator.random(len(groups)) < 0.2).astype(np.int64)
    folds = grouped_folds(strata, groups, 5, generator)
    sizes = np.bincount(folds)
    assert sizes.max() / sizes.min() < 1.3
    shares = np.array([strata[folds == fold].mean() for fold in range(5)])
    assert np.ptp(shares) < 0.1
    moments = generator.integers(0, 50, 200).astype(float)
    blocks = blocked_folds(moments, 4)
    order = np.argsort(moments, kind="stable")
    assert np.all(np.diff(blocks[order]) >= 0)
    assert all(len(set(blocks[moments == moment])) == 1 for moment in np.unique(moments))
