"""Points for plots: ROC and precision-recall curves, the table of thresholds, and residuals of a regression."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelworks.core.task import TaskKind
from modelworks.evaluation.label_metrics import confusion_matrix
from modelworks.evaluation.predictions import Floats, Integers, Predictions
from modelworks.evaluation.regression_metrics import errors

CURVE_POINTS = 100
SCATTER_POINTS = 400
HISTOGRAM_BARS = 30
MOST_CONFUSED = 50


def plots(predictions: Predictions, rng: np.random.Generator) -> dict[str, Any]:
    """Return what a report draws for this kind of task, as plain JSON.

    Returns:
        binary: ``confusion``, ``curves`` (``roc`` and ``pr``, each ``{x, y}``), ``thresholds``. multiclass:
        ``confusion`` (for more than 50 classes the most frequent mistakes). regression: ``scatter``, ``residuals``.
    """
    if predictions.kind is TaskKind.REGRESSION:
        return _residuals(predictions, rng)
    if predictions.kind is TaskKind.MULTILABEL:
        return {}
    shown: dict[str, Any] = {"confusion": _confusion(predictions)}
    if predictions.kind in (TaskKind.BINARY, TaskKind.ANOMALY):
        shown.update(_binary_curves(predictions))
    return shown


def _confusion(predictions: Predictions) -> dict[str, Any]:
    """Return rows by true class and columns by named class, or the largest mistakes where classes are many."""
    matrix = confusion_matrix(predictions)
    names = predictions.classes
    if len(names) <= MOST_CONFUSED:
        return {"labels": list(names), "counts": matrix.tolist()}
    wrong = matrix * (1 - np.eye(len(names)))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSED]
    truth, named = np.unravel_index(order, wrong.shape)
    return {
        "labels": list(names),
        "most_confused": [
            {"true": names[t], "named": names[m], "count": float(wrong[t, m])}
            for t, m in zip(truth, named, strict=True)
            if wrong[t, m] > 0
        ],
    }


def _binary_curves(predictions: Predictions) -> dict[str, Any]:
    order = np.argsort(-predictions.scores, kind="stable")
    scores, hits = predictions.scores[order], predictions.hits[order]
    weight = predictions.row_weight[order]
    true, false = np.cumsum(weight * hits), np.cumsum(weight * ~hits)
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    true, false, scores = true[last], false[last], scores[last]
    positives, negatives = true[-1], false[-1]
    if positives <= 0 or negatives <= 0:
        return {}
    recall, alarms, precision = true / positives, false / negatives, true / (true + false)
    return {
        "curves": {
            "roc": _thinned(np.append(0.0, alarms), np.append(0.0, recall)),
            "pr": _thinned(recall, precision),
        },
        # The thresholds 0.05 to 0.95 are those of probabilities; an anomaly score has a scale of its own.
        "thresholds": []
        if predictions.probabilities is None
        else _thresholds(scores, recall, alarms, precision, (true + false) / weight.sum()),
    }


def _thresholds(
    scores: Floats, recall: Floats, alarms: Floats, precision: Floats, share: Floats
) -> list[dict[str, float]]:
    """Return what would happen at thresholds 0.05, 0.10, ..., 0.95."""
    rows = []
    for threshold in np.arange(1, 20) / 20:
        upto = int(np.searchsorted(-scores, -threshold, side="right")) - 1
        if upto < 0:
            break
        rows.append(
            {
                "threshold": float(threshold),
                "precision": float(precision[upto]),
                "recall": float(recall[upto]),
                "false_positive_rate": float(alarms[upto]),
                "flagged": float(share[upto]),
            }
        )
    return rows


def _thinned(x: Floats, y: Floats) -> dict[str, list[float]]:
    """Return at most ``CURVE_POINTS`` points, evenly along the curve's length, ends included."""
    if len(x) > CURVE_POINTS:
        length = np.cumsum(np.abs(np.diff(x, prepend=x[0])) + np.abs(np.diff(y, prepend=y[0])))
        wanted = np.linspace(0.0, length[-1], CURVE_POINTS)
        keep = np.unique(np.append(np.searchsorted(length, wanted), len(x) - 1).clip(0, len(x) - 1))
        x, y = x[keep], y[keep]
    return {"x": x.tolist(), "y": y.tolist()}


def _residuals(predictions: Predictions, rng: np.random.Generator) -> dict[str, Any]:
    assert predictions.prediction is not None
    residual = errors(predictions)
    low, high = np.quantile(residual, [0.005, 0.995])
    counts, edges = np.histogram(np.clip(residual, low, high), bins=HISTOGRAM_BARS)
    chosen = np.arange(predictions.rows)
    if predictions.rows > SCATTER_POINTS:
        chosen = np.sort(rng.choice(predictions.rows, SCATTER_POINTS, replace=False))
    return {
        "scatter": {
            "truth": predictions.truth[chosen].tolist(),
            "predicted": predictions.prediction[chosen].tolist(),
        },
        "residuals": {
            "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
            "by_decile": _deciles(predictions, residual),
        },
    }


def _deciles(predictions: Predictions, residual: Floats) -> list[dict[str, float]]:
    """Return bias and spread of the error in ten groups of rows by what was predicted."""
    assert predictions.prediction is not None
    order = np.argsort(predictions.prediction, kind="stable")
    groups: list[Integers] = [part for part in np.array_split(order, 10) if len(part)]
    return [
        {
            "predicted_low": float(predictions.prediction[part[0]]),
            "predicted_high": float(predictions.prediction[part[-1]]),
            "mean_error": float(residual[part].mean()),
            "mean_absolute_error": float(np.abs(residual[part]).mean()),
            "n": len(part),
        }
        for part in groups
    ]
