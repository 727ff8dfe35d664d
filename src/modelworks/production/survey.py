"""The look at a table before fitting: which kind of task each column makes, the split, what the guard bars."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.errors import TaskError
from modelworks.core.schema import SAMPLE_KINDS, ColumnKind, Schema
from modelworks.core.task import Task, TaskKind

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from modelworks.data import Split

COUNTED_CLASSES = 1000


@dataclass(frozen=True, kw_only=True)
class Survey:
    """One task on one table, parted and guarded.

    Attributes:
        task: The task with its kind decided.
        reason: Why this kind.
        split: Training rows with folds, sealed test rows.
        findings: What the guard found.
        exclude: Columns the guard bars.
    """

    task: Task
    reason: str
    split: Split
    findings: list[dict[str, Any]]
    exclude: tuple[str, ...]


def target_facts(table: pa.Table, schema: Schema) -> dict[str, dict[str, Any]]:
    """Return for every column that can be a target: ``kind, reason, counts`` (rows per class), ``rows``.

    For a column that cannot be one: ``error``. Read once per table, so that a plan over many targets is free.
    """
    import numpy as np

    from modelworks.data import infer_task_kind, read_target

    found: dict[str, dict[str, Any]] = {}
    for column in schema.columns:
        if column.kind in {ColumnKind.TEXT, ColumnKind.CONSTANT, *SAMPLE_KINDS}:
            continue
        try:
            kind, reason = infer_task_kind(table, schema, column.name)
            target = read_target(table, schema, column.name, kind)
        except TaskError as error:
            found[column.name] = {"error": error.to_json()}
            continue
        counts: list[int] = []
        if kind is not TaskKind.REGRESSION:
            codes = target.values[target.present]
            counts = np.bincount(codes, minlength=len(target.classes)).tolist()[:COUNTED_CLASSES]
        found[column.name] = {
            "kind": kind.value,
            "reason": reason,
            "counts": counts,
            "rows": int(target.present.sum()),
        }
    return found


def survey(table: pa.Table, schema: Schema, task: Task, sealed_from: int | None = None) -> Survey:
    """Decide the kind, part the rows and let the guard look.

    Args:
        table, schema: The whole table.
        task: The task.
        sealed_from: First row of a ready-made test part.

    Raises:
        TaskError: The target cannot be learned, or the split cannot be made.
    """
    import numpy as np

    from modelworks.data import guard, infer_task_kind, split

    reason = "set by the user"
    if task.kind is None:
        kind, reason = infer_task_kind(table, schema, task.target)
        task = replace(task, kind=kind)
    if task.kind is None:
        raise AssertionError("the kind was just decided")
    sealed = None if sealed_from is None else np.arange(sealed_from, table.num_rows)
    parts = split(table, schema, task.targets, task.kind, task.split, task.seed, sealed)
    findings = guard(table, schema, task.target, parts, task.kind)
    exclude = tuple(
        dict.fromkeys(item["column"] for item in findings if item.get("exclude") and item["column"])
    )
    return Survey(task=task, reason=reason, split=parts, findings=findings, exclude=exclude)


def save_split(split: Split, folder: Path) -> None:
    """Write the rows of both parts, and the folds, to ``folder``."""
    import numpy as np

    for name in ("train", "test", "folds"):
        np.save(folder / f"{name}.npy", getattr(split, name), allow_pickle=False)


def load_rows(folder: Path, name: str) -> npt.NDArray[np.int64]:
    """Return the row numbers of one part that ``save_split`` wrote."""
    import numpy as np

    rows: npt.NDArray[np.int64] = np.load(folder / f"{name}.npy", allow_pickle=False)
    return rows
