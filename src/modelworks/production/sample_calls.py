"""The step calls of a task over samples: embed its table once per backbone, fit its line's heads, judge its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelworks.core.schema import Schema
from modelworks.core.task import Task
from modelworks.production.embedding import sample_part
from modelworks.production.streams import is_stream
from modelworks.production.task_data import fitting_part
from modelworks.production.work import Work
from modelworks.workflow.call import Artifact, Handle, Input


def payload_of(schema: Schema, task: Task) -> str:
    """Return the column of a task's samples.

    Raises:
        TaskError: No column, or more than one, holds such samples.
    """
    from modelworks.data.samples.payload import payload_column

    barred = {*task.targets, *task.exclude}
    wanted = task.options.get("payload")
    return payload_column(schema, task.modality, barred, str(wanted) if wanted is not None else None)


def backbones_of(task: Task) -> tuple[str, ...]:
    """Return the backbones that are compared for a task: those it names under ``backbone``, or the usual ones."""
    from modelworks.algorithms.plugins import backbone_choices

    named = task.options.get("backbone")
    if named is None:
        return backbone_choices(task.modality)
    return tuple(str(name) for name in named) if isinstance(named, list) else (str(named),)


def embed_params(work: Work, name: str) -> dict[str, Any]:
    """Return the parameters of ``embed`` for one backbone."""
    value = work.table.result()
    settings = (work.task.options.get("backbone_settings") or {}).get(name, {})
    return {
        "payload": payload_of(Schema.from_json(value["schema"]), work.task),
        "backbone": name,
        "settings": settings,
        "drawn": sample_part(work.task, value["sealed_from"]),
    }


def heads_call(work: Work, reference: str) -> tuple[dict[str, Input], dict[str, Any]]:
    """Return inputs and parameters of ``heads`` for the whole line; equal for all of its tasks."""
    usable = [name for name, handle in work.embeds.items() if handle.ok and name != reference]
    inputs: dict[str, Input] = {
        "table": work.table.all_outputs(),
        "reference": work.embeds[reference].all_outputs(),
        **{f"embed.{name}": work.embeds[name].all_outputs() for name in usable},
    }
    shared = fitting_part(work.task)
    del shared["target"]
    first = embed_params(work, reference)
    params = {
        "task": shared,
        "targets": [
            task.target if isinstance(task.target, str) else list(task.target) for task in work.peers
        ],
        "backbones": usable,
        "payload": first["payload"],
        "drawn": first["drawn"],
    }
    return inputs, params


def judge_inputs(
    work: Work, fit: Handle, found: Mapping[str, Any], reference: str, key: Path
) -> dict[str, Input]:
    """Return the inputs of ``judge_sample``: the files of this task alone, so that another task changes nothing."""
    index = work.place
    inputs: dict[str, Input] = {
        "table": work.table.all_outputs(),
        "record": fit.output(f"fit-{index}.json"),
        "rows": fit.output(f"rows-{index}.npy"),
        "head": fit.output(f"head-{index}.onnx"),
        "constant": fit.output(f"constant-{index}.onnx"),
        "embedded": work.embeds[found["backbone"]].all_outputs(),
        "key": key,
    }
    if "reference" in found["baselines"]:
        inputs["reference"] = fit.output(f"reference-{index}.onnx")
        inputs["reference_embedded"] = work.embeds[reference].all_outputs()
    if work.champion:
        inputs["champion"] = Artifact(work.champion, tree=True)
    return inputs


def of_samples(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks over samples among the tasks of a line."""
    return [task for task in tasks if task.modality != "table" and not is_stream(task)]
