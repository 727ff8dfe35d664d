"""A task as plain data and back: the form in which steps, runs and packages carry it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from modelworks.core.task import Bound, Limits, SplitPolicy, Task, TaskKind

_TUPLES = ("slices", "exclude", "quantiles")


def task_to_json(task: Task) -> dict[str, Any]:
    """Return a task as plain JSON data."""
    data = asdict(task)
    data["target"] = task.target if isinstance(task.target, str) else list(task.target)
    data["kind"] = task.kind.value if task.kind is not None else None
    data["gate"] = [asdict(bound) for bound in task.gate]
    for name in _TUPLES:
        data[name] = list(data[name])
    return data


def task_from_json(data: Mapping[str, Any]) -> Task:
    """Rebuild a task from ``task_to_json``."""
    values: dict[str, Any] = dict(data)
    target = values["target"]
    values["target"] = target if isinstance(target, str) else tuple(target)
    values["kind"] = TaskKind(values["kind"]) if values.get("kind") else None
    values["gate"] = tuple(Bound(**bound) for bound in values.get("gate", ()))
    values["limits"] = Limits(**values.get("limits", {}))
    values["split"] = SplitPolicy(**values.get("split", {}))
    for name in _TUPLES:
        values[name] = tuple(values.get(name, ()))
    return Task(**values)


def fitting_part(task: Task) -> dict[str, Any]:
    """Return what of a task the fit depends on: a new gate, name, slice or report setting refits nothing."""
    data = task_to_json(task)
    for name in ("name", "data", "gate", "slices", "explain"):
        del data[name]
    del data["limits"]["memory_mb"]
    del data["split"]["test_data"]
    return data
