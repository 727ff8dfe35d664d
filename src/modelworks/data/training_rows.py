"""The table an algorithm sees: typed feature columns, target, weights and folds of the training rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelworks.core.errors import TaskError
from modelworks.core.schema import FEATURE_KINDS, Schema
from modelworks.core.task import Task, TaskKind
from modelworks.data.target import infer_task_kind, read_target
from modelworks.data.typed import as_doubles, typed_columns


@dataclass(frozen=True)
class TrainingTable:
    """Training rows of one task.

    Attributes:
        columns: Feature name -> typed array (see ``typed_columns``).
        schema: The feature columns only.
        target: int64 class codes | float64 | uint8 [rows, labels] with 255 for a missing label.
        classes: Class or label names in code order; empty for regression.
        weight: float32 row weights, or ``None``.
        folds: int8 fold number of each row.
        kind: Kind of task.
    """

    columns: dict[str, npt.NDArray[Any]]
    schema: Schema
    target: npt.NDArray[Any]
    classes: tuple[str, ...]
    weight: npt.NDArray[np.float32] | None
    folds: npt.NDArray[np.int8]
    kind: TaskKind

    @property
    def rows(self) -> int:
        """Number of training rows."""
        return len(self.folds)

    def take(self, rows: npt.NDArray[Any]) -> TrainingTable:
        """Return some rows (indices or a mask) as a table of its own."""
        return TrainingTable(
            columns={name: values[rows] for name, values in self.columns.items()},
            schema=self.schema,
            target=self.target[rows],
            classes=self.classes,
            weight=None if self.weight is None else self.weight[rows],
            folds=self.folds[rows],
            kind=self.kind,
        )


def feature_names(schema: Schema, task: Task, exclude: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the columns a model of ``task`` may read, in table order.

    Identifiers, constants, targets, the weight and the group column are never features.
    """
    barred = {*task.targets, *task.exclude, *exclude, task.weight, task.split.group}
    return tuple(
        column.name for column in schema.columns if column.kind in FEATURE_KINDS and column.name not in barred
    )


def training_table(
    table: pa.Table,
    schema: Schema,
    task: Task,
    train: npt.NDArray[np.int64],
    folds: npt.NDArray[np.int8],
    exclude: Iterable[str] = (),
) -> TrainingTable:
    """Build the training table of a task.

    Args:
        table, schema: The whole ingested table.
        task: The task; ``task.kind`` ``None`` lets the data decide.
        train: int64 row numbers of the training part; all have a target.
        folds: int8 fold number of each row of ``train``.
        exclude: Columns the guard bars.

    Raises:
        TaskError: No feature is left, or the weights cannot be used.
    """
    kind = task.kind or infer_task_kind(table, schema, task.target)[0]
    target = read_target(table, schema, task.target, kind)
    names = feature_names(schema, task, exclude)
    if not names:
        raise TaskError(
            f"Task '{task.name}': no column is left to learn from.", code="MW1215", hint="mw data show FILE"
        )
    whole = len(train) == table.num_rows and bool(np.array_equal(train, np.arange(len(train))))
    part = table.select(list(names))
    part = part if whole else part.take(pa.array(train))
    return TrainingTable(
        columns=typed_columns(part, schema, names),
        schema=Schema(columns=tuple(schema[name] for name in names), rows=len(train)),
        target=target.values[train],
        classes=target.classes,
        weight=_weights(table, task, train),
        folds=folds,
        kind=kind,
    )


def _weights(table: pa.Table, task: Task, train: npt.NDArray[np.int64]) -> npt.NDArray[np.float32] | None:
    if task.weight is None:
        return None
    values = as_doubles(table.column(task.weight))[train].astype(np.float32)
    bad = int(np.sum(~(values >= 0)))
    if bad or not values.any():
        raise TaskError(
            f"Weight column '{task.weight}': {bad} of {len(values)} weights are missing or negative, "
            "or all are zero.",
            code="MW1216",
            where=task.weight,
            hint="fill the weights, or leave the weight out",
        )
    return values
