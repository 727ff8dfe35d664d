"""Targets: the kind of task from the data, classes in natural order, rows without an answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from modelworks.core.errors import TaskError
from modelworks.core.task import TaskKind
from modelworks.data import infer_task_kind, read_target
from modelworks.data.kinds import infer_schema


def _with(cells: list[object]) -> tuple[pa.Table, object]:
    table = pa.table({"y": pa.array(cells)})
    return table, infer_schema(table)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["no", "yes"] * 20, TaskKind.BINARY),
        ([1, 2] * 20, TaskKind.BINARY),
        (["a", "b", "c"] * 20, TaskKind.MULTICLASS),
        ([1, 2, 3, 4] * 20, TaskKind.MULTICLASS),
        (list(range(26)) * 20, TaskKind.MULTICLASS),
        ([index / 7 for index in range(90)], TaskKind.REGRESSION),
        ([index % 57 for index in range(400)], TaskKind.REGRESSION),
        (
            [3] * 20 + [4] * 163 + [5] * 1457 + [6] * 2198 + [7] * 880 + [8] * 175 + [9] * 5,
            TaskKind.REGRESSION,
        ),
        (
            [1] * 45586 + [2] * 50 + [3] * 171 + [4] * 8903 + [5] * 3267 + [6] * 10 + [7] * 13,
            TaskKind.MULTICLASS,
        ),
    ],
)
def test_kind_of_task(cells: list[object], kind: TaskKind) -> None:
    table, schema = _with(cells)
    found, reason = infer_task_kind(table, schema, "y")
    assert found is kind
    assert reason


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        (["same"] * 30, "MW1210"),
        ([None] * 30, "MW1210"),
        ([f"a long and unique text number {index}" for index in range(100)], "MW1211"),
        ([f"x{index:05d}" for index in range(100)], "MW1211"),
    ],
)
def test_columns_that_cannot_be_targets(cells: list[object], code: str) -> None:
    table, schema = _with(cells)
    with pytest.raises(TaskError) as caught:
        infer_task_kind(table, schema, "y")
    assert caught.value.error_code == code


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["yes", "no", None] * 10, ("no", "yes")),
        ([True, False] * 10, ("false", "true")),
        ([10, 9, 100] * 10, ("9", "10", "100")),
        ([2.0, 1.0] * 10, ("1", "2")),
        (["High", "low", "medium"] * 10, ("low", "medium", "High")),
        (["spam", "ham"] * 10, ("ham", "spam")),
    ],
)
def test_classes_come_in_natural_order(cells: list[object], classes: tuple[str, ...]) -> None:
    table, schema = _with(cells)
    target = read_target(table, schema, "y", infer_task_kind(table, schema, "y")[0])
    assert target.classes == classes
    texts = [None if cell is None else str(cell) for cell in cells]
    for code, text in zip(target.values.tolist(), texts, strict=True):
        assert (code == -1) is (text is None)
        if text is not None:
            assert text.lower().removesuffix(".0") == classes[code].lower()


def test_classes_of_a_model_rule_and_unknown_ones_are_missing() -> None:
    table, schema = _with(["a", "b", "c", None])
    target = read_target(table, schema, "y", TaskKind.MULTICLASS, classes=("c", "a"))
    assert target.values.tolist() == [1, -1, 0, -1]
    assert target.present.tolist() == [True, False, True, False]


def test_several_yes_no_columns_are_labels() -> None:
    table = pa.table({"p": [0, 1, None, 1], "q": ["yes", None, None, "no"], "r": ["a", "b", "c", "d"]})
    schema = infer_schema(table)
    kind, _ = infer_task_kind(table, schema, ("p", "q"))
    assert kind is TaskKind.MULTILABEL
    target = read_target(table, schema, ("p", "q"), kind)
    assert target.values.tolist() == [[0, 1], [1, 255], [255, 255], [1, 0]]
    assert target.values.dtype == np.uint8
    assert target.present.tolist() == [True, True, False, True]
    with pytest.raises(TaskError, match="yes/no"):
        infer_task_kind(table, schema, ("p", "r"))


def test_a_number_target_needs_numbers_and_two_classes_two() -> None:
    table, schema = _with(["a", "b", "c"] * 10)
    with pytest.raises(TaskError, match="holds no number"):
        read_target(table, schema, "y", TaskKind.REGRESSION)
    with pytest.raises(TaskError, match="3 classes"):
        read_target(table, schema, "y", TaskKind.BINARY)


@pytest.mark.parametrize(
    ("file", "target", "kind", "classes"),
    [
        ("abalone/abalone.csv", "c8", TaskKind.REGRESSION, 0),
        ("letter/letter.tsv.gz", "target", TaskKind.MULTICLASS, 26),
        ("wine_quality_white/winequality-white.csv", "c11", TaskKind.REGRESSION, 0),
        ("nursery/nursery.tsv.gz", "target", TaskKind.MULTICLASS, 4),
        ("satimage/satimage.tsv.gz", "target", TaskKind.MULTICLASS, 6),
        ("auto_imports/auto_imports.csv", "c25", TaskKind.REGRESSION, 0),
        ("online_shoppers/online_shoppers_intention.csv.gz", "Revenue", TaskKind.BINARY, 2),
        ("nyc311_animals/311_Animals_short.csv.gz", "Descriptor", TaskKind.MULTICLASS, 32),
        ("california_housing/housing.csv.gz", "median_house_value", TaskKind.REGRESSION, 0),
    ],
)
def test_public_targets(
    read, shared_data: Path, file: str, target: str, kind: TaskKind, classes: int
) -> None:
    table, schema, _ = read(shared_data / file)
    found, _ = infer_task_kind(table, schema, target)
    assert found is kind
    assert len(read_target(table, schema, target, found).classes) == classes
