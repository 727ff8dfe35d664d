"""Points for plots of streams and forecasts: timelines with alarms, score histograms, horizons with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelworks.core.task import TaskKind
from modelworks.evaluation.curves import plots
from modelworks.evaluation.forecast_metrics import known_values
from modelworks.evaluation.nab import group_rows
from modelworks.evaluation.predictions import Floats, Integers, Predictions

TIMELINES = 6
TIMELINE_POINTS = 400
FORECASTS = 6
HISTOGRAM_BARS = 30


def anomaly_plots(predictions: Predictions) -> dict[str, Any]:
    """Return ``timelines`` (series in which most happens first) and ``score_histogram``.

    A timeline holds at most 400 points; each stands for a stretch of rows by its highest score, and says whether an
    anomaly or an alarm lies in the stretch.
    """
    scores = predictions.scores
    low, high = float(scores.min()), float(np.quantile(scores, 0.999))
    edges = np.linspace(low, max(high, low + 1e-9), HISTOGRAM_BARS + 1)
    shown = np.clip(scores, edges[0], edges[-1])
    histogram = {
        "edges": edges.tolist(),
        "normal": np.histogram(shown[~predictions.hits], edges)[0].tolist(),
        "anomalous": np.histogram(shown[predictions.hits], edges)[0].tolist(),
    }
    if predictions.group is None:
        return {"score_histogram": histogram}
    groups = group_rows(predictions.group)
    order = sorted(range(len(groups)), key=lambda index: -int(predictions.hits[groups[index]].sum()))
    return {
        "score_histogram": histogram,
        "timelines": [_timeline(predictions, index, groups[index]) for index in order[:TIMELINES]],
    }


def _timeline(predictions: Predictions, series: int, rows: Integers) -> dict[str, Any]:
    assert predictions.label is not None
    parts = [part for part in np.array_split(rows, min(TIMELINE_POINTS, len(rows))) if len(part)]
    return {
        "series": series,
        "rows": len(rows),
        "position": [int(np.searchsorted(rows, part[0])) for part in parts],
        "score": [float(predictions.scores[part].max()) for part in parts],
        "anomaly": [bool(predictions.hits[part].any()) for part in parts],
        "alarm": [bool((predictions.label[part] == predictions.positive).any()) for part in parts],
    }


def forecast_plots(predictions: Predictions) -> dict[str, Any]:
    """Return ``by_step`` (errors and coverage per step of the horizon) and ``forecasts`` (a few origins in full)."""
    assert predictions.prediction is not None
    rows = np.unique(np.linspace(0, predictions.rows - 1, FORECASTS).astype(np.int64))
    return {"by_step": _by_step(predictions), "forecasts": [_forecast(predictions, row) for row in rows]}


def _by_step(predictions: Predictions) -> list[dict[str, Any]]:
    assert predictions.prediction is not None
    known = known_values(predictions)
    error = np.where(known, np.abs(predictions.prediction - predictions.truth), 0.0)
    covered: Floats | None = None
    if predictions.quantiles is not None:
        low = predictions.quantiles[:, :, int(np.argmin(predictions.levels))]
        high = predictions.quantiles[:, :, int(np.argmax(predictions.levels))]
        covered = np.where(known, (predictions.truth >= low) & (predictions.truth <= high), 0.0)
    steps = []
    for step in range(known.shape[1]):
        count = int(known[:, step].sum())
        record: dict[str, Any] = {"step": step + 1, "n": count, "mae": None, "coverage": None}
        if count:
            record["mae"] = float(error[:, step].sum() / count)
            record["coverage"] = None if covered is None else float(covered[:, step].sum() / count)
        steps.append(record)
    return steps


def _forecast(predictions: Predictions, row: int) -> dict[str, Any]:
    assert predictions.prediction is not None
    record: dict[str, Any] = {
        "row": int(row),
        "series": None if predictions.group is None else int(predictions.group[row]),
        "truth": [float(value) if np.isfinite(value) else None for value in predictions.truth[row]],
        "prediction": predictions.prediction[row].tolist(),
        "levels": list(predictions.levels),
    }
    if predictions.quantiles is not None:
        record["quantiles"] = predictions.quantiles[row].T.tolist()
    return record


def series_plots(predictions: Predictions, rng: np.random.Generator) -> dict[str, Any]:
    """Return the plots of an anomaly or forecast task; nothing in them is drawn at random."""
    if predictions.kind is TaskKind.FORECAST:
        return forecast_plots(predictions)
    return {**plots(predictions, rng), **anomaly_plots(predictions)}
