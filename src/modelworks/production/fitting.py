"""Fitting one task: the survey, the training table, the recipe and the baselines, written as plain files."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.budget import Budget
from modelworks.core.signature import Signature
from modelworks.core.task import TaskKind

if TYPE_CHECKING:
    from modelworks.core.estimator import FittedModel
    from modelworks.core.task import Task
    from modelworks.data import TrainingTable
    from modelworks.data.samples.training import TrainingSamples

MODEL = "model.onnx"
FIT = "fit.json"


def fit_task(
    table_folder: Path, task: Task, order: tuple[str, ...], sealed_from: int | None, folder: Path
) -> dict[str, Any]:
    """Fit a model and its baselines on the training rows of a task.

    Args:
        table_folder: What ``ingest`` wrote.
        task: The task; its kind may be open.
        order: Members that memory advises, or empty.
        sealed_from: First row of a ready-made test part.
        folder: Gets ``model.onnx``, ``baseline-*.onnx``, ``train.npy``, ``test.npy``, ``folds.npy``, ``fit.json``.

    Returns:
        What the plan goes on with: ``kind``, ``test`` (digest of the sealed rows), ``rows``, ``members``, ``parts``.

    Raises:
        TaskError: The target cannot be learned.
        BudgetStopped: The budget ended before there was a model.
    """
    from modelworks.algorithms.tables.baselines import fit_baselines
    from modelworks.algorithms.tables.recipe import TableRecipe
    from modelworks.data import open_table, sealed_digest, training_table
    from modelworks.evaluation import default_metric
    from modelworks.production.survey import save_split, survey

    parts: dict[str, float] = {}
    with timed(parts, "survey"):
        table, schema = open_table(table_folder)
        seen = survey(table, schema, task, sealed_from)
        task = seen.task
        save_split(seen.split, folder)
        test = sealed_digest(table, schema, seen.split.test)
        train = training_table(table, schema, task, seen.split.train, seen.split.folds, seen.exclude)
        metric = task.metric or default_metric(train.kind, class_shares(train, task.positive))
    with timed(parts, "fit"):
        recipe = TableRecipe(limits=task.limits, metric=metric, quantiles=task.quantiles, order=order)
        model = recipe.fit(train, None, Budget(task.limits.budget_s), task.seed)
    with timed(parts, "baselines"):
        baselines = fit_baselines(train, Budget(task.limits.budget_s), task.seed)

    (folder / MODEL).write_bytes(model.onnx)
    for name, baseline in baselines.items():
        (folder / baseline_file(name)).write_bytes(baseline.onnx)
    record = {
        "kind": str(task.kind),
        "metric": metric,
        "reason": seen.reason,
        "features": list(train.schema.names),
        "classes": list(train.classes),
        "split": {"method": seen.split.method, "unlabelled": seen.split.unlabelled},
        "findings": seen.findings,
        "recipe": {"name": recipe.card.name, "version": recipe.card.version},
        "model": model_json(model),
        "baselines": {name: model_json(baseline) for name, baseline in baselines.items()},
        "parts": parts,
    }
    (folder / FIT).write_text(json.dumps(finite(record)), encoding="utf-8")
    value = {
        "kind": str(task.kind),
        "test": test,
        "rows": {"train": len(seen.split.train), "test": len(seen.split.test)},
        "members": model.diagnostics.get("members", []),
        "parts": parts,
    }
    return dict(finite(value))


def class_shares(train: TrainingTable | TrainingSamples, positive: str | None) -> list[float]:
    """Return the share of each class among the training rows, the positive one last; empty without classes."""
    import numpy as np

    if train.kind not in {TaskKind.BINARY, TaskKind.MULTICLASS}:
        return []
    counts = np.bincount(train.target, minlength=len(train.classes))
    order = sorted(range(len(counts)), key=lambda code: train.classes[code] == positive)
    return [float(counts[code] / counts.sum()) for code in order]


@contextmanager
def timed(parts: dict[str, float], name: str) -> Iterator[None]:
    """Note the CPU-seconds of a block under ``name``."""
    start = time.process_time()
    try:
        yield
    finally:
        parts[name] = time.process_time() - start


def baseline_file(name: str) -> str:
    """Return the file of a baseline's graph."""
    return f"baseline-{name}.onnx"


def load_model(folder: Path, record: dict[str, Any], baseline: str = "") -> FittedModel:
    """Return the model, or a baseline, that ``fit_task`` wrote to ``folder``."""
    from modelworks.core.estimator import FittedModel

    data = record["baselines"][baseline] if baseline else record["model"]
    return FittedModel(
        onnx=(folder / (baseline_file(baseline) if baseline else MODEL)).read_bytes(),
        signature=Signature.from_json(data["signature"]),
        diagnostics=data["diagnostics"],
    )


def load_record(folder: Path) -> dict[str, Any]:
    """Return ``fit.json``."""
    record: dict[str, Any] = json.loads((folder / FIT).read_text(encoding="utf-8"))
    return record


def model_json(model: FittedModel) -> dict[str, Any]:
    """Return what ``fit.json`` keeps of a model beside its graph."""
    diagnostics = {key: value for key, value in model.diagnostics.items() if key != "oof"}
    return {"signature": model.signature.to_json(), "diagnostics": diagnostics}


def finite(value: Any) -> Any:
    """Return plain data in which every number that is not finite is ``None`` and NumPy scalars are Python's."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item() if getattr(value, "ndim", 0) == 0 else value.tolist()
        return finite(value)
    if isinstance(value, float) and value - value != 0:
        return None
    return value
