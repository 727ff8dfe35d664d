"""Fitting a task on running series: the end of time is sealed, the recipe and its baselines see the rest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelworks.core.budget import Budget
from modelworks.core.digest import digest_bytes
from modelworks.core.task import Task, TaskKind
from modelworks.production.fitting import FIT, MODEL, baseline_file, finite, model_json, timed
from modelworks.production.streams import first_sealed, horizon_of, read_stream, without_label

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from modelworks.core.estimator import FittedModel
    from modelworks.data.samples.panel import Panel

FIRST = "first.npy"
CHECKED_WINDOWS = 16


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A model of running series with its baselines and the recipe that made them."""

    model: FittedModel
    baselines: dict[str, FittedModel]
    recipe: dict[str, Any]


def fit_stream(table_folder: Path, task: Task, folder: Path) -> dict[str, Any]:
    """Fit a model and its baselines on what lies before the sealed end of each series.

    Args:
        table_folder: What ``ingest`` wrote.
        task: The task; its kind is set.
        folder: Gets ``model.onnx``, ``baseline-*.onnx``, ``first.npy`` (first sealed value per series), ``fit.json``.

    Returns:
        ``kind``, ``test`` (digest of the sealed values), ``rows``, ``members``, ``parts``.

    Raises:
        TaskError: The columns, the options or the length of the series do not do.
        BudgetStopped: The budget ended before there was a model.
    """
    import numpy as np

    from modelworks.data import open_table
    from modelworks.evaluation import default_metric

    parts: dict[str, float] = {}
    kind = task.kind
    assert kind is not None
    with timed(parts, "read"):
        table, schema = open_table(table_folder)
        panel, columns = read_stream(table, schema, task)
        horizon = horizon_of(task, panel) if kind is TaskKind.FORECAST else 1
        first = first_sealed(panel, task.split.test_share, horizon)
        # An alarm per event stays silent for the rest of it: measures of single values would call that a miss.
        usual = "nab_score" if task.options.get("alarm") == "event" else default_metric(kind)
        metric = task.metric or usual
        np.save(folder / FIRST, first, allow_pickle=False)
    with timed(parts, "fit"):
        before = panel.until(first)
        if kind is TaskKind.FORECAST:
            fitted = _forecaster(before, task, metric, horizon)
        else:
            fitted = _detector(before, task, metric)
    (folder / MODEL).write_bytes(fitted.model.onnx)
    for name, baseline in fitted.baselines.items():
        (folder / baseline_file(name)).write_bytes(baseline.onnx)
    members = fitted.model.diagnostics.get("members", [])
    record = {
        "kind": str(kind),
        "metric": metric,
        "reason": f"{panel.frequency}, season {panel.season}; {columns.why}",
        "features": list(fitted.model.signature.columns),
        "classes": [],
        "split": {"method": "the end of time is sealed", "unlabelled": 0},
        "findings": [],
        "recipe": fitted.recipe,
        "model": model_json(fitted.model),
        "baselines": {name: model_json(baseline) for name, baseline in fitted.baselines.items()},
        "parts": parts,
    }
    (folder / FIT).write_text(json.dumps(finite(record)), encoding="utf-8")
    sealed = int((panel.lengths - first).sum())
    value = {
        "kind": str(kind),
        "test": _sealed_digest(panel, first),
        "rows": {"train": int(first.sum()), "test": sealed},
        "members": members,
        "parts": parts,
    }
    return dict(finite(value))


def _forecaster(before: Panel, task: Task, metric: str, horizon: int) -> Fitted:
    from modelworks.algorithms.plugins import estimator, recipe_for

    assert task.kind is not None
    given: dict[str, Any] = {"quantiles": task.quantiles} if task.quantiles else {}
    given |= {name: task.options[name] for name in ("window", "stretch") if name in task.options}
    recipe = estimator(recipe_for("series", task.kind))(horizon=horizon, metric=metric, **given)
    model, native = recipe.fit_native(before, Budget(task.limits.budget_s), task.seed)
    model.diagnostics["measured"] = {"parity": _parity(before, model, native)}
    return Fitted(
        model=model,
        baselines=recipe.baselines(before),
        recipe={"name": recipe.card.name, "version": recipe.card.version},
    )


def _detector(before: Panel, task: Task, metric: str) -> Fitted:
    """Fit on what is not labelled anomalous before the sealed end."""
    import numpy as np

    from modelworks.algorithms.plugins import estimator, recipe_for
    from modelworks.algorithms.series.anomaly import baselines
    from modelworks.algorithms.series.windows import cut
    from modelworks.compute.runtime import GraphSession
    from modelworks.core.signature import HISTORY

    assert task.kind is not None
    streams, labels = without_label(before)
    given = {
        name: task.options[name] for name in ("window", "alarm", "false_alarm_rate") if name in task.options
    }
    recipe = estimator(recipe_for("series", task.kind))(metric=metric, **given)
    normal = [item != 1 for item in labels]
    model, native = recipe.fit_native(streams, Budget(task.limits.budget_s), task.seed, normal)
    ends = [np.arange(max(1, size - CHECKED_WINDOWS), size + 1) for size in streams.lengths.tolist()]
    windows = cut(streams, native.length + native.memory, 1, ends)
    found = GraphSession(model.onnx).run({HISTORY: windows.history})
    wanted = native.predict(windows)
    gap = np.abs(found["score"] - wanted["score"]) / np.maximum(1.0, wanted["score"])
    model.diagnostics["measured"] = {"parity": float(gap.max())}
    return Fitted(
        model=model,
        baselines=baselines(len(streams.channels), native.length + native.memory),
        recipe={"name": recipe.card.name, "version": recipe.card.version},
    )


def _parity(before: Panel, model: FittedModel, native: Any) -> float:
    """Return the largest difference of graph and numpy model on the newest windows, in spreads of the target."""
    import numpy as np

    from modelworks.algorithms.series.windows import cut
    from modelworks.compute.feeds import pack_columns
    from modelworks.compute.runtime import GraphSession
    from modelworks.production.stream_judging import columns_of

    problem = native.problem
    origins = [np.array([max(1, length - problem.horizon)]) for length in before.lengths.tolist()]
    spare = [np.zeros(0, np.int64)] * max(0, len(origins) - CHECKED_WINDOWS)
    windows = cut(before, problem.length, problem.horizon, [*origins[:CHECKED_WINDOWS], *spare])
    feeds = pack_columns(model.signature, columns_of(windows), windows.rows)
    found = GraphSession(model.onnx).run(feeds)
    wanted = native.predict(windows)
    spread = max(float(np.nanstd(item[0])) for item in before.values) or 1.0
    return max(float(np.max(np.abs(found[name] - wanted[name]))) for name in wanted) / spread


def _sealed_digest(panel: Panel, first: npt.NDArray[np.int64]) -> str:
    """Return a name of the sealed values by what they hold."""
    import numpy as np

    ends = [item[0, start:] for item, start in zip(panel.values, first.tolist(), strict=True)]
    return digest_bytes(np.concatenate(ends).astype("<f8").tobytes())
