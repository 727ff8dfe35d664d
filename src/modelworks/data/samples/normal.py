"""Which samples are normal: the target of an anomaly task, read from a column of names."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from modelworks.core.errors import TaskError, close_matches
from modelworks.core.schema import Schema
from modelworks.core.task import Task, TaskKind
from modelworks.data.target import Target, read_target
from modelworks.data.typed import codes_and_levels

CLASSES = ("normal", "anomalous")
_NORMAL = frozenset(
    {"normal", "good", "ok", "okay", "free", "healthy", "fine", "pass", "passed", "none", "no", "negative"}
) | {"0", "false", "clean", "intact", "nominal"}


def sample_target(
    table: pa.Table, schema: Schema, task: Task, kind: TaskKind, classes: Sequence[str] | None = None
) -> Target:
    """Return the target of a task over samples; for an anomaly task 0 for normal and 1 for everything else.

    Args:
        table, schema: The ingested table.
        task: The task; ``options: {normal: NAME}`` says which class is normal, ``positive`` which one is not.
        kind: Kind of the task.
        classes: Class order to use (a model's).

    Raises:
        TaskError: The target does not fit the kind, or nothing says which class is normal.
    """
    if kind is not TaskKind.ANOMALY:
        return read_target(table, schema, task.target, kind, classes)
    name = task.targets[0]
    _ = schema[name]
    codes, levels = codes_and_levels(table.column(name))
    normal = normal_class(task, [levels[code] for code in np.unique(codes[codes >= 0])])
    values = np.where(codes < 0, -1, (codes != levels.index(normal)).astype(np.int64))
    if not (values == 1).any():
        raise TaskError(
            f"'{name}' names no sample that is not '{normal}'; without one nobody can say what a model finds.",
            code="MW1252",
            where=name,
            hint="add a few anomalous samples; the model is judged on them and learns nothing from them",
        )
    return Target(TaskKind.ANOMALY, values, CLASSES, values >= 0)


def normal_class(task: Task, levels: Sequence[str]) -> str:
    """Return the class that is normal: as named, else the one whose name says so.

    Raises:
        TaskError: Nothing says so, or several do.
    """
    named = task.options.get("normal")
    if named is not None:
        if str(named) in levels:
            return str(named)
        raise TaskError(
            f"'{task.targets[0]}' has no class '{named}'.{close_matches(str(named), levels)}",
            code="MW1251",
            where=task.targets[0],
            hint="classes: " + ", ".join(sorted(levels)[:20]),
        )
    if task.positive in levels and len(levels) == 2:
        return next(level for level in levels if level != task.positive)
    found = [level for level in levels if set(re.split(r"[^a-z0-9]+", level.lower())) & _NORMAL]
    if len(found) == 1:
        return found[0]
    raise TaskError(
        f"Nothing says which class of '{task.targets[0]}' is normal.",
        code="MW1251",
        where=task.targets[0],
        hint="options: {normal: NAME} with one of: " + ", ".join(sorted(levels)[:20]),
    )
