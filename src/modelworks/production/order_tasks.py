"""From a line of an order to its tasks, once the columns of its table are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from modelworks.core.errors import TaskError, close_matches
from modelworks.core.schema import SAMPLE_KINDS, ColumnKind, Schema
from modelworks.core.task import SplitPolicy, Task, TaskKind
from modelworks.production.order import Line, check_settings
from modelworks.production.sources import safe_name
from modelworks.production.streams import STREAM_KINDS, all_values

ALL = "*"
NOT_TARGETS = frozenset(
    {ColumnKind.IDENTIFIER, ColumnKind.CONSTANT, ColumnKind.TEXT, ColumnKind.DATETIME, *SAMPLE_KINDS}
)
SAMPLE_LIMITS = {"latency_ms": 100.0, "size_mb": 200.0}
"""Limits of models that read images, texts or series, where an order sets none."""


def expand(line: Line, schema: Schema) -> list[Task]:
    """Return the tasks of a line, once the columns of its table are known.

    ``"*"`` becomes every column that is neither an identifier, a constant, free text nor a moment,
    and that the line does not use as weight, group or time.

    Raises:
        TaskError: A target is not in the table.
    """
    values = check_settings(line.settings)
    _known_columns(line, schema, values)
    values |= _of_samples(line, schema, values)
    if values.get("kind") is TaskKind.FORECAST and line.targets == (ALL,):
        return [Task(name=line.name, data=line.data, target=all_values(schema, values), **values)]
    if line.joint:
        for target in line.targets:
            _known(target, schema, line)
        values["kind"] = values.get("kind") or TaskKind.MULTILABEL
        return [Task(name=line.name, data=line.data, target=line.targets, **values)]
    targets = _targets(line, schema, values)
    task = Task(name=line.name, data=line.data, target=targets[0], **values)
    if len(targets) == 1 and ALL not in line.targets:
        return [task]
    names = _target_names(line.name, targets)
    return [replace(task, name=name, target=target) for name, target in zip(names, targets, strict=True)]


def _of_samples(line: Line, schema: Schema, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the modality, and the limits that suit it where the line sets none."""
    from modelworks.data.samples.payload import infer_modality

    barred = {*line.targets, *values["exclude"], values.get("weight"), values["split"].group}
    found = infer_modality(schema, (name for name in barred if name))[0]
    if values.get("kind") in STREAM_KINDS and found != "image":
        found = "series"
    modality = values.get("modality") or found
    if modality == "table":
        return {"modality": modality}
    given = line.settings.get("limits", {})
    wider = {name: value for name, value in SAMPLE_LIMITS.items() if name not in given}
    return {"modality": modality, "limits": replace(values["limits"], **wider)}


def _targets(line: Line, schema: Schema, values: Mapping[str, Any]) -> list[str]:
    if line.targets != (ALL,):
        for target in line.targets:
            _known(target, schema, line)
        return list(dict.fromkeys(line.targets))
    policy: SplitPolicy = values["split"]
    used = {values.get("weight"), policy.group, policy.time, *values["exclude"]}
    if values["modality"] != "table":
        used |= {"part", "file", "rate", line.settings.get("file_column")}
    found = [
        column.name
        for column in schema.columns
        if column.kind not in NOT_TARGETS and column.name not in used and column.distinct > 1
    ]
    if not found:
        raise TaskError(
            f"'{line.name}': no column of the table can be a target.",
            code="MW1209",
            where=line.where,
            hint=f"mw data show {line.data}",
        )
    return found


def _known_columns(line: Line, schema: Schema, values: Mapping[str, Any]) -> None:
    """Refuse a line that names a column which is not there, before anything is fitted."""
    policy: SplitPolicy = values["split"]
    named = (
        ("weight", (values.get("weight"),)),
        ("split.group", (policy.group,)),
        ("split.time", (policy.time,)),
        ("slices", values["slices"]),
        ("exclude", values["exclude"]),
    )
    for field_name, columns in named:
        for column in columns:
            if column is not None and column not in schema:
                raise TaskError(
                    f"'{line.name}': {field_name} names the column '{column}', which is not there."
                    f"{close_matches(column, schema.names)}",
                    code="MW1209",
                    where=line.where,
                    hint=f"mw data show {line.data}",
                )


def _known(target: str, schema: Schema, line: Line) -> None:
    if target not in schema:
        raise TaskError(
            f"'{line.name}': there is no column '{target}'.{close_matches(target, schema.names)}",
            code="MW1209",
            where=line.where,
            hint=f"mw data show {line.data}",
        )


def _target_names(stem: str, targets: Sequence[str]) -> list[str]:
    names: list[str] = []
    for index, target in enumerate(targets):
        name = f"{stem}-{safe_name(target)}"[:95]
        names.append(name if name not in names else f"{name}-{index}")
    return names
