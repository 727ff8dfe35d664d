"""The step calls of a task over samples: embed its table once per backbone, fit its line's heads, judge its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelworks.algorithms.deep.policy import OPTIONS, RECIPES, policy_of
from modelworks.core.schema import Schema
from modelworks.core.task import Task
from modelworks.production.embedding import sample_part
from modelworks.production.encoders import card_of, encoder_inputs, named_backbones
from modelworks.production.escalating import HEAD, has_rival
from modelworks.production.fitting import FIT, MODEL
from modelworks.production.look_forecast import Look, look_of
from modelworks.production.order import Line
from modelworks.production.sample_fitting import CONSTANT, REFERENCE, ROWS, learns_normal
from modelworks.production.streams import is_stream
from modelworks.production.task_data import fitting_part, task_to_json
from modelworks.production.work import Work
from modelworks.workflow.call import Artifact, Handle, Input

PARTS = {"fit": "json", "rows": "npy", "folds": "npy", "head": "onnx"}
"""Files that ``heads`` writes for each task and ``escalate`` reads, with their endings."""


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

    return named_backbones(task.options) or backbone_choices(task.modality)


def as_read(task: Task, series: Mapping[str, Any]) -> Task:
    """Return a task on series with what their reading suggests, unless it says otherwise.

    Windows of one series stay on one side of the split; long signals are looked at by more encoders.

    Args:
        task: A task of any kind.
        series: ``values`` and ``channels`` of the table's series and the column ``windows_of`` that tells apart what
            windows were cut from; empty where there are none.
    """
    from modelworks.algorithms.plugins import backbone_choices

    if task.modality != "series" or not series or is_stream(task):
        return task
    split, key = task.split, series.get("windows_of")
    if key and split.kind == "auto" and not split.group and not split.time:
        task = replace(task, split=replace(split, group=str(key)))
    if "backbone" in task.options:
        return task
    names = backbone_choices(task.modality, series["values"], series["channels"])
    if names == backbone_choices(task.modality):
        return task
    return replace(task, options={**task.options, "backbone": list(names)})


def embed_call(line: Line, table: Handle, task: Task, name: str) -> tuple[dict[str, Input], dict[str, Any]]:
    """Return inputs and parameters of ``embed`` for one backbone."""
    inputs: dict[str, Input] = {"table": table.all_outputs(), **encoder_inputs(line, name)}
    return inputs, _embed_params(table, task, name)


def look_taken(work: Work, name: str, cpu_s: float) -> Look:
    """Return what a backbone looked at, and what it took."""
    value = work.table.result()
    rows = Schema.from_json(value["schema"]).rows
    values = value["report"].get("series", {}).get("values", 0)
    card = card_of(work.planned.line, name, work.task)
    look = look_of(card, rows, work.task.split.test_share, value["report"]["bytes"], values)
    return replace(look, cpu_s=cpu_s)


def _embed_params(table: Handle, task: Task, name: str) -> dict[str, Any]:
    value = table.result()
    settings = (task.options.get("backbone_settings") or {}).get(name, {})
    return {
        "payload": payload_of(Schema.from_json(value["schema"]), task),
        "backbone": name,
        "settings": settings,
        "drawn": sample_part(task, value["sealed_from"]),
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
    shared["options"] = {name: value for name, value in shared["options"].items() if name not in OPTIONS}
    first = _embed_params(work.table, work.task, reference)
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


def may_escalate(task: Task) -> bool:
    """Say whether more than a head may be tried for a task: it has a gate that a head can miss, or always asks.

    Raises:
        TaskError: An option has a value that there is not.
    """
    policy = policy_of(task)
    wanted = policy.mode == "always" or (policy.mode == "auto" and bool(policy.gate))
    return wanted and task.modality in RECIPES


def wants_more(work: Work, fit: Handle) -> bool:
    """Say whether a fitted head is to be asked whether it is enough."""
    if not work.peers or "error" in fit.value["tasks"][work.place]:
        return False
    return may_escalate(work.task) or has_rival(work.task, fit.value["tasks"][work.place]["kind"])


def escalate_call(work: Work, fit: Handle) -> tuple[dict[str, Input], dict[str, Any]]:
    """Return inputs and parameters of ``escalate`` for one task of a line."""
    index = work.place
    backbones = [name for name, handle in work.embeds.items() if handle.ok]
    inputs: dict[str, Input] = {
        "table": work.table.all_outputs(),
        **{name: fit.output(f"{name}-{index}.{end}") for name, end in PARTS.items()},
        **{f"embed.{name}": work.embeds[name].all_outputs() for name in backbones},
    }
    gate = task_to_json(work.task)["gate"]
    return inputs, {"task": {**fitting_part(work.task), "gate": gate}, "backbones": backbones}


def judge_inputs(
    work: Work, fit: Handle, found: Mapping[str, Any], reference: str, key: Path
) -> dict[str, Input]:
    """Return the inputs of ``judge_sample``: the files of this task alone, so that another task changes nothing."""
    index = work.place
    inputs: dict[str, Input] = {
        "table": work.table.all_outputs(),
        "record": fit.output(f"fit-{index}.json"),
        "rows": fit.output(f"rows-{index}.npy"),
        "constant": fit.output(f"constant-{index}.onnx"),
        "embedded": work.embeds[found["backbone"]].all_outputs(),
        "key": key,
    }
    if work.escalated is not None:
        inputs["record"] = work.escalated.output(FIT)
    if is_own(work):
        assert work.escalated is not None
        inputs["model"] = work.escalated.output(MODEL)
    else:
        inputs["head"] = fit.output(f"head-{index}.onnx")
    if "reference" in found["baselines"]:
        inputs["reference"] = fit.output(f"reference-{index}.onnx")
        inputs["reference_embedded"] = work.embeds[reference].all_outputs()
    if work.champion:
        inputs["champion"] = Artifact(work.champion, tree=True)
    return inputs


def is_own(work: Work) -> bool:
    """Say whether a model of its own took the place of the head."""
    return work.escalated is not None and work.escalated.value["chosen"] != HEAD


def model_of(work: Work, fit: Handle) -> str:
    """Return the digest of what is judged: the model of its own, or the head."""
    if is_own(work):
        assert work.escalated is not None
        return work.escalated.outputs[MODEL][0]
    return fit.outputs[f"head-{work.place}.onnx"][0]


def fit_params(work: Work) -> dict[str, Any]:
    """Return the parameters of ``fit_sample``."""
    value = work.table.result()
    return {
        "task": fitting_part(work.task),
        "payload": payload_of(Schema.from_json(value["schema"]), work.task),
        "drawn": sample_part(work.task, value["sealed_from"]),
    }


def own_judge_inputs(work: Work, fit: Handle, key: Path) -> dict[str, Input]:
    """Return the inputs of ``judge_sample`` for a task that ``fit_sample`` fitted."""
    inputs: dict[str, Input] = {
        "table": work.table.all_outputs(),
        "record": fit.output(FIT),
        "rows": fit.output(ROWS),
        "model": fit.output(MODEL),
        "constant": fit.output(CONSTANT),
        "reference": fit.output(REFERENCE),
        "key": key,
    }
    if work.champion:
        inputs["champion"] = Artifact(work.champion, tree=True)
    return inputs


def of_samples(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks of a line that are heads on shared embeddings."""
    return [
        task for task in tasks if task.modality != "table" and not is_stream(task) and not learns_normal(task)
    ]
