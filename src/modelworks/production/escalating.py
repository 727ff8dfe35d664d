"""After the head of one task: what may take its place, a recipe beside the heads or a network of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.budget import Budget
from modelworks.core.signature import Signature
from modelworks.core.task import Task, TaskKind
from modelworks.production.embedding import load_backbone, load_embeddings
from modelworks.production.fitting import FIT, MODEL, finite, timed
from modelworks.production.heads import TRAINS

if TYPE_CHECKING:
    from modelworks.core.estimator import FittedModel
    from modelworks.data.samples.training import TrainingSamples

CHECKPOINT = "training.safetensors"
RIVALS = {"text": "text.linear"}
"""Recipes of their own, from payload to answers, that stand beside the heads of a modality."""

HEAD = "head"
_RIVAL_KINDS = frozenset({TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.MULTILABEL})


def has_rival(task: Task, kind: str) -> bool:
    """Say whether a recipe of its own is compared with the head of a task: not where backbone or head is named."""
    named = "backbone" in task.options or "head" in task.options
    return task.modality in RIVALS and TaskKind(kind) in _RIVAL_KINDS and not named


def escalate_task(
    files: Mapping[str, Path], embedded: Mapping[str, Path], task: Task, kept: Path, folder: Path
) -> dict[str, Any]:
    """Take what does better than the head of a task: a recipe that stands beside it, a network if its policy says so.

    Args:
        files: ``table`` (what ``ingest`` wrote) and, of the task, ``fit``, ``rows``, ``folds`` and ``head`` (see
            ``heads.fit_line``).
        embedded: Backbone name -> what ``embed`` wrote for it.
        task: The task with its gate.
        kept: Folder in which training leaves its checkpoint.
        folder: Gets ``fit.json`` (the record with what came of it) and, where the head is not taken, ``model.onnx``.

    Returns:
        ``chosen`` (``head``, ``rival`` or ``network``), ``tried``, ``why``, ``hint``, ``parts``.
    """
    from modelworks.algorithms.deep.policy import OPTIONS
    from modelworks.core.estimator import FittedModel

    parts: dict[str, float] = {}
    record = json.loads(files["fit"].read_text(encoding="utf-8"))
    train = _samples(files, embedded, task, record)
    head = FittedModel(
        onnx=files["head"].read_bytes(),
        signature=Signature.from_json(record["model"]["signature"]),
        diagnostics=record["model"]["diagnostics"],
    )
    found = {"chosen": HEAD, "tried": False, "why": "", "hint": ""}
    model, recipe = head, record["recipe"]
    if has_rival(task, record["kind"]):
        with timed(parts, "rival"):
            model, recipe, found = _rival(head, recipe, train, task)
    if task.gate or any(name in task.options for name in OPTIONS):
        with timed(parts, "escalate"):
            start = model if found["chosen"] == HEAD else head
            other, network, outcome = _network(start, train, replace(task, metric=record["metric"]), kept)
        if outcome["chosen"] != HEAD or found["chosen"] == HEAD:
            model, recipe, found = other, network or recipe, outcome
    if found["chosen"] != HEAD:
        (folder / MODEL).write_bytes(model.onnx)
    record["recipe"] = recipe
    record["model"] = {"signature": model.signature.to_json(), "diagnostics": model.diagnostics}
    record["parts"] = {**record["parts"], **parts}
    (folder / FIT).write_text(json.dumps(finite(record)), encoding="utf-8")
    return dict(
        finite({**{name: found[name] for name in ("chosen", "tried", "why", "hint")}, "parts": parts})
    )


def _rival(
    head: FittedModel, recipe: dict[str, Any], train: TrainingSamples, task: Task
) -> tuple[FittedModel, dict[str, Any], dict[str, Any]]:
    """Fit the recipe that stands beside the heads and take it if its held-out loss is lower."""
    from modelworks.algorithms.plugins import estimator
    from modelworks.core.errors import BudgetStopped, DataError, MissingExtra, TaskError

    found = {"chosen": HEAD, "tried": False, "why": "", "hint": ""}
    try:
        made = estimator(RIVALS[task.modality])()
        rival = made.fit(train, None, Budget(task.limits.budget_s), task.seed)
    except (MissingExtra, BudgetStopped, DataError, TaskError) as error:
        told = {**head.diagnostics, "rival": error.message}
        return (
            replace(head, diagnostics=told),
            recipe,
            {**found, "why": error.message, "hint": error.hint or ""},
        )
    ours, theirs = rival.diagnostics["oof_loss"], head.diagnostics.get("oof_loss")
    better = theirs is None or ours < theirs
    why = f"{made.card.name}: held-out loss {ours:.4g}; the head: {theirs if theirs is None else format(theirs, '.4g')}"
    members = [
        *(_left_out(item) if better else item for item in head.diagnostics.get("members", [])),
        *(
            {**(item if better else _left_out(item)), "name": made.card.name}
            for item in rival.diagnostics["members"]
        ),
    ]
    told = {**(rival if better else head).diagnostics, "members": members, "rival": why}
    if not better:
        return replace(head, diagnostics=told), recipe, {**found, "tried": True, "why": why}
    found = {"chosen": "rival", "tried": True, "why": why, "hint": ""}
    return replace(rival, diagnostics=told), {"name": made.card.name, "version": made.card.version}, found


def _left_out(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "kept": False, "weight": 0.0}


def _network(
    head: FittedModel, train: TrainingSamples, task: Task, kept: Path
) -> tuple[FittedModel, dict[str, Any] | None, dict[str, Any]]:
    """Ask whether a network of its own shall take the place of the head."""
    from modelworks.algorithms.deep.escalation import escalate
    from modelworks.algorithms.deep.policy import RECIPES, policy_of
    from modelworks.algorithms.plugins import estimator

    policy = policy_of(task, str(kept / CHECKPOINT))
    model = escalate(head, train, policy, Budget(task.limits.budget_s), task.seed)
    outcome = model.diagnostics["escalation"]
    if outcome["chosen"] == HEAD:
        return model, None, outcome
    card = estimator(RECIPES[task.modality])().card
    return model, {"name": card.name, "version": card.version}, outcome


def _samples(
    files: Mapping[str, Path], embedded: Mapping[str, Path], task: Task, record: dict[str, Any]
) -> TrainingSamples:
    """Return the training rows of the task with payloads, labels, folds and embeddings."""
    import numpy as np

    from modelworks.data import open_table, read_target
    from modelworks.data.samples.payload import payload_values
    from modelworks.data.samples.training import TrainingSamples

    table, schema = open_table(files["table"])
    payload, kind = record["features"][0], TaskKind(record["kind"])
    classes = tuple(record["classes"])
    rows = np.flatnonzero(np.load(files["rows"], allow_pickle=False) == TRAINS)
    return TrainingSamples(
        payload=payload_values(table, payload, rows),
        column=payload,
        modality=task.modality,
        kind=kind,
        target=read_target(table, schema, task.target, kind, classes or None).values[rows],
        classes=classes,
        weight=None,
        folds=np.load(files["folds"], allow_pickle=False),
        embeddings={name: load_embeddings(place)[rows] for name, place in embedded.items()},
        backbones={name: load_backbone(place) for name, place in embedded.items()},
    )
