"""The target of a task: which kind of answer, which classes in which order, which rows have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelworks.core.errors import TaskError
from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.core.task import TaskKind
from modelworks.data.typed import as_doubles, codes_and_levels

MISSING_LABEL = 255
MAX_CLASSES = 1000
_YES = frozenset({"1", "true", "yes", "y", "t", "on", "1.0"})
_NO = frozenset({"0", "false", "no", "n", "f", "off", "0.0", "-1"})


@dataclass(frozen=True)
class Target:
    """The target of every row of a table.

    Attributes:
        kind: Kind of answer.
        values: int64 class codes (-1 = missing) | float64 (NaN = missing)
            | uint8 [rows, labels] (255 = missing).
        classes: Class or label names, in code order.
        present: Rows that have a target (for several labels: at least one).
        notes: What was noticed while reading it.
    """

    kind: TaskKind
    values: npt.NDArray[Any]
    classes: tuple[str, ...]
    present: npt.NDArray[np.bool_]
    notes: tuple[str, ...] = ()


def infer_task_kind(table: pa.Table, schema: Schema, target: str | Sequence[str]) -> tuple[TaskKind, str]:
    """Decide the kind of task from its target column or columns, and say why.

    Raises:
        DataError: There is no such column.
        TaskError: The column cannot be a target (constant, free text, identifier).
    """
    names = (target,) if isinstance(target, str) else tuple(target)
    if len(names) > 1:
        for name in names:
            _label_codes(table, schema[name])
        return TaskKind.MULTILABEL, f"{len(names)} yes/no columns are predicted together"
    return _kind_of_one(table, schema[names[0]])


def _kind_of_one(table: pa.Table, column: Column) -> tuple[TaskKind, str]:
    name, distinct = column.name, column.distinct
    if distinct < 2:
        raise TaskError(
            f"Target '{name}' has only {distinct} distinct value(s); there is nothing to learn.",
            code="MW1210",
            where=name,
            hint="choose another target column (mw data show FILE)",
        )
    if distinct == 2:
        return TaskKind.BINARY, "the target has two values"
    if column.kind in (ColumnKind.NUMBER, ColumnKind.DATETIME, ColumnKind.IDENTIFIER):
        if not _is_numeric(table, name):
            raise _not_a_target(column)
        return _numeric_kind(table, column)
    if column.kind is ColumnKind.INTEGER_CATEGORY:
        return _numeric_kind(table, column)
    rows = max(1, table.num_rows - column.missing)
    if distinct > MAX_CLASSES or (distinct > 20 and distinct > rows / 2):
        raise _not_a_target(column)
    return TaskKind.MULTICLASS, f"the target has {distinct} classes"


def _is_numeric(table: pa.Table, name: str) -> bool:
    kind = table.schema.field(name).type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _not_a_target(column: Column) -> TaskError:
    return TaskError(
        f"Target '{column.name}' looks like {column.kind.value} with {column.distinct} distinct values; "
        "it can be neither counted as classes nor measured as a number.",
        code="MW1211",
        where=column.name,
        hint="choose another target, or set its kind with --kind",
    )


def _numeric_kind(table: pa.Table, column: Column) -> tuple[TaskKind, str]:
    values = as_doubles(table.column(column.name))
    values = values[np.isfinite(values)]
    if np.any(values != np.round(values)):
        return TaskKind.REGRESSION, "the target is a measured number"
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) > 30:
        return TaskKind.REGRESSION, f"the target is a number with {len(levels)} values"
    if _bell_shaped(levels, counts):
        return TaskKind.REGRESSION, f"the target is a score on a scale of {len(levels)} steps"
    return TaskKind.MULTICLASS, f"the target has {len(levels)} whole-number classes"


def _bell_shaped(levels: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]) -> bool:
    """Say whether consecutive whole numbers rise to one peak and fall again, as scores and counts do."""
    if len(levels) < 6 or np.any(np.diff(levels) > 2) or counts.max() < 3 * max(1, counts.min()):
        return False
    tolerance = 2 * np.sqrt(counts.max()) + 0.02 * counts.max()
    peak = int(counts.argmax())
    steps = np.diff(counts)
    rises = np.all(steps[:peak] >= -tolerance)
    falls = np.all(steps[peak:] <= tolerance)
    return bool(rises and falls and 0 < peak < len(levels) - 1)


def read_target(
    table: pa.Table,
    schema: Schema,
    target: str | Sequence[str],
    kind: TaskKind,
    classes: Sequence[str] | None = None,
) -> Target:
    """Read the target of every row.

    Args:
        table: The table.
        schema: Its schema.
        target: Target column or columns.
        kind: Kind of task.
        classes: Class order to use (a model's); rows with any other class count as missing.

    Raises:
        TaskError: The column does not fit the kind.
    """
    names = (target,) if isinstance(target, str) else tuple(target)
    if kind is TaskKind.MULTILABEL:
        labels = np.stack([_label_codes(table, schema[name]) for name in names], axis=1)
        present = (labels != MISSING_LABEL).any(axis=1)
        return Target(kind, labels, names, present)
    if kind is TaskKind.REGRESSION:
        return _read_number(table, schema[names[0]])
    return _read_classes(table, schema[names[0]], kind, classes)


def _read_number(table: pa.Table, column: Column) -> Target:
    values = as_doubles(table.column(column.name))
    values[~np.isfinite(values)] = np.nan
    present = ~np.isnan(values)
    if not present.any():
        raise TaskError(
            f"Target '{column.name}' holds no number.",
            code="MW1212",
            where=column.name,
            hint="--kind multiclass",
        )
    return Target(TaskKind.REGRESSION, values, (), present)


def _read_classes(table: pa.Table, column: Column, kind: TaskKind, classes: Sequence[str] | None) -> Target:
    codes, levels = codes_and_levels(table.column(column.name))
    used = np.zeros(len(levels) + 1, dtype=bool)
    used[codes] = True
    order = (
        list(classes)
        if classes is not None
        else order_classes(column, [level for level, seen in zip(levels, used[:-1], strict=True) if seen])
    )
    if classes is None and kind is TaskKind.BINARY and len(order) != 2:
        raise TaskError(
            f"Target '{column.name}' has {len(order)} classes, a binary task needs two.",
            code="MW1213",
            where=column.name,
            hint="--kind multiclass",
        )
    position = {level: index for index, level in enumerate(order)}
    lookup = np.array([position.get(level, -1) for level in levels] + [-1], dtype=np.int64)
    values = lookup[codes]
    return Target(kind, values, tuple(order), values >= 0)


def order_classes(column: Column, levels: Sequence[str]) -> list[str]:
    """Return classes in natural order: known levels, numbers by size, no before yes, else by name."""
    if column.levels is not None and set(levels) <= set(column.levels):
        return [level for level in column.levels if level in set(levels)]
    try:
        return sorted(levels, key=float)
    except ValueError:
        pass
    if len(levels) == 2:
        first, second = levels
        if first.lower() in _YES or second.lower() in _NO:
            return [second, first]
        if first.lower() in _NO or second.lower() in _YES:
            return [first, second]
    return sorted(levels)


def _label_codes(table: pa.Table, column: Column) -> npt.NDArray[np.uint8]:
    codes, levels = codes_and_levels(table.column(column.name))
    lookup = np.full(len(levels) + 1, MISSING_LABEL, dtype=np.uint8)
    for index, level in enumerate(levels):
        word = level.lower()
        if word not in _YES and word not in _NO:
            raise TaskError(
                f"Target '{column.name}' holds '{level[:40]}'; several targets must be yes/no columns.",
                code="MW1214",
                where=column.name,
                hint="order one task per target: targets: [...]",
            )
        lookup[index] = word in _YES
    return lookup[codes]
