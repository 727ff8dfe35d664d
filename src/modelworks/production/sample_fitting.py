"""Fitting one task over samples with a recipe of its own, from payload to answers: visual anomalies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.budget import Budget
from modelworks.core.digest import digest_bytes
from modelworks.core.task import Task, TaskKind
from modelworks.production.embedding import lots_of
from modelworks.production.fitting import FIT, MODEL, finite, timed
from modelworks.production.heads import SEALED, TRAINS, UNUSED, configured

if TYPE_CHECKING:
    from modelworks.data.samples.training import TrainingSamples

ROWS = "rows.npy"
CONSTANT, REFERENCE = "constant.onnx", "reference.onnx"
NORMAL = 0


def learns_normal(task: Task) -> bool:
    """Say whether a task is fitted by a recipe of its own, on normal images only."""
    return task.modality == "image" and task.kind is TaskKind.ANOMALY


def fit_samples(
    table_folder: Path, task: Task, payload: str, drawn: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Fit the recipe and its baselines on the normal images that are not sealed.

    Args:
        table_folder: What ``ingest`` wrote.
        task: An anomaly task over images.
        payload: Column of the images.
        drawn: See ``embedding.sample_part``.
        folder: Gets ``model.onnx``, ``fit.json``, ``rows.npy`` (as ``heads.fit_line`` writes it; anomalous samples
            that are not sealed are unused), ``constant.onnx`` and ``reference.onnx`` (graphs from payload to answers).

    Returns:
        ``kind``, ``test`` (digest of the sealed samples), ``rows``, ``members``, ``parts``.

    Raises:
        TaskError: The target names no normal class, or too few normal images.
    """
    import numpy as np

    from modelworks.algorithms.plugins import estimator, recipe_for
    from modelworks.data import open_table
    from modelworks.data.samples.guarding import guard_samples
    from modelworks.data.samples.normal import sample_target
    from modelworks.data.samples.parting import part_samples, sample_keys
    from modelworks.data.samples.payload import payload_values
    from modelworks.data.samples.training import TrainingSamples
    from modelworks.evaluation import default_metric

    kind = TaskKind.ANOMALY
    parts: dict[str, float] = {}
    with timed(parts, "part"):
        table, schema = open_table(table_folder)
        target = sample_target(table, schema, task, kind)
        keys = sample_keys(table_folder, table, payload)
        lots = lots_of(table_folder, table, schema, payload, drawn)
        split = part_samples(lots, target, task.split.test_share, task.seed)
        findings = guard_samples(table, schema, keys, target, split, {*task.targets, *task.exclude, payload})
        ours = np.flatnonzero(target.values[split.train] == NORMAL)
        rows = np.full(table.num_rows, UNUSED, np.int8)
        rows[split.train[ours]], rows[split.test] = TRAINS, SEALED
        train = TrainingSamples(
            payload=payload_values(table, payload, split.train[ours]),
            column=payload,
            modality=task.modality,
            kind=kind,
            target=target.values[split.train[ours]],
            classes=target.classes,
            weight=None,
            folds=split.folds[ours].astype(np.int8),
        )
    with timed(parts, "fit"):
        recipe = configured(estimator(recipe_for(task.modality, kind)), task)
        model = recipe.fit(train, None, Budget(task.limits.budget_s), task.seed)
    with timed(parts, "baselines"):
        _write_baselines(train, task.seed, folder)
    (folder / MODEL).write_bytes(model.onnx)
    np.save(folder / ROWS, rows, allow_pickle=False)
    counted = np.bincount(target.values[split.train], minlength=2)
    record = {
        "kind": str(kind),
        "metric": task.metric or default_metric(kind, (counted / counted.sum()).tolist()),
        "reason": "set by the user",
        "features": [payload],
        "classes": list(target.classes),
        "split": {"method": split.method, "unlabelled": split.unlabelled},
        "findings": findings,
        "recipe": {"name": recipe.card.name, "version": recipe.card.version},
        "model": {"signature": model.signature.to_json(), "diagnostics": model.diagnostics},
        "baselines": {"constant": {}, "reference": {}},
        "parts": parts,
    }
    (folder / FIT).write_text(json.dumps(finite(record)), encoding="utf-8")
    value = {
        "kind": str(kind),
        "test": digest_bytes(np.sort(keys[split.test]).astype("<u8").tobytes()),
        "rows": {"train": len(ours), "test": len(split.test)},
        "members": model.diagnostics.get("members", []),
        "parts": parts,
    }
    return dict(finite(value))


def _write_baselines(train: TrainingSamples, seed: int, folder: Path) -> None:
    from modelworks.algorithms.images.anomaly import ImageAnomaly
    from modelworks.algorithms.images.baselines import constant_score, nearest_normal
    from modelworks.compute.payloads import image_pixels

    images = [image_pixels(value, row) for row, value in enumerate(train.payload)]
    (folder / CONSTANT).write_bytes(constant_score())
    (folder / REFERENCE).write_bytes(nearest_normal(images, ImageAnomaly().false_alarms, seed))
