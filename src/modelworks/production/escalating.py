"""After the head of one task: more than a head where the gate, the task and its budget ask for it."""

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
    from modelworks.data.samples.training import TrainingSamples

CHECKPOINT = "training.safetensors"


def escalate_task(
    files: Mapping[str, Path], embedded: Mapping[str, Path], task: Task, kept: Path, folder: Path
) -> dict[str, Any]:
    """Train a network of its own for a task if its policy says so, and take it if it does better than the head.

    Args:
        files: ``table`` (what ``ingest`` wrote) and, of the task, ``fit``, ``rows``, ``folds`` and ``head`` (see
            ``heads.fit_line``).
        embedded: Backbone name -> what ``embed`` wrote for it.
        task: The task with its gate.
        kept: Folder in which training leaves its checkpoint.
        folder: Gets ``fit.json`` (the record with what came of it) and, where the network is taken, ``model.onnx``.

    Returns:
        ``chosen`` (``head`` or ``network``), ``tried``, ``why``, ``hint``, ``parts``.
    """
    from modelworks.algorithms.deep.escalation import escalate
    from modelworks.algorithms.deep.policy import RECIPES, policy_of
    from modelworks.algorithms.plugins import estimator
    from modelworks.core.estimator import FittedModel

    parts: dict[str, float] = {}
    budget = Budget(task.limits.budget_s)
    with timed(parts, "escalate"):
        record = json.loads(files["fit"].read_text(encoding="utf-8"))
        policy = policy_of(replace(task, metric=record["metric"]), str(kept / CHECKPOINT))
        head = FittedModel(
            onnx=files["head"].read_bytes(),
            signature=Signature.from_json(record["model"]["signature"]),
            diagnostics=record["model"]["diagnostics"],
        )
        model = escalate(head, _samples(files, embedded, task, record), policy, budget, task.seed)
    outcome = model.diagnostics["escalation"]
    if outcome["chosen"] == "network":
        (folder / MODEL).write_bytes(model.onnx)
        card = estimator(RECIPES[task.modality])().card
        record["recipe"] = {"name": card.name, "version": card.version}
    record["model"] = {"signature": model.signature.to_json(), "diagnostics": model.diagnostics}
    record["parts"] = {**record["parts"], **parts}
    (folder / FIT).write_text(json.dumps(finite(record)), encoding="utf-8")
    return dict(
        finite({**{name: outcome[name] for name in ("chosen", "tried", "why", "hint")}, "parts": parts})
    )


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
