"""Judging rows once: every measure with its interval, calibration, confusion, curves and slices, as plain JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.task import TaskKind
from modelworks.core.verdict import Measure
from modelworks.evaluation.calibration import calibration
from modelworks.evaluation.curves import plots
from modelworks.evaluation.found_slices import found_slices
from modelworks.evaluation.intervals import estimate
from modelworks.evaluation.metrics import METRICS, Metric, default_metric, find_metric, usual_metrics
from modelworks.evaluation.multilabel_metrics import known_cells
from modelworks.evaluation.multiplicity import tail_of_look
from modelworks.evaluation.predictions import Predictions, read_outputs
from modelworks.evaluation.series_plots import series_plots
from modelworks.evaluation.series_rows import SeriesRows
from modelworks.evaluation.slices import declared_slices

LEVEL = 0.95


def evaluate(
    kind: TaskKind,
    outputs: Mapping[str, npt.NDArray[Any]],
    truth: npt.NDArray[Any],
    classes: Sequence[str] = (),
    *,
    metric: str | None = None,
    also: Sequence[str] = (),
    slices: Mapping[str, npt.NDArray[Any]] | None = None,
    columns: Mapping[str, npt.NDArray[Any]] | None = None,
    weight: npt.NDArray[Any] | None = None,
    positive: int | str | None = None,
    quantiles: Sequence[float] = (),
    series: SeriesRows | None = None,
    look: int = 1,
    seed: int = 0,
) -> dict[str, Any]:
    """Judge a graph's outputs on rows it has never seen.

    Args:
        kind: Task kind.
        outputs: Output name -> array, as the shipped graph gave them.
        truth: Class codes int64 [rows]; float64 [rows] for regression; uint8 [rows, labels], 255 = unknown;
            0 or 1 (anomalous) [rows]; float64 [rows, horizon] for forecasts, NaN = unknown.
        classes: Class or label names.
        metric: Primary metric; the default of the kind if ``None`` (see ``default_metric``).
        also: Further metrics to measure, e.g. those of the gate.
        slices: Declared slice column -> one value per row.
        columns: Feature columns in which weak slices are searched; none if ``None``.
        weight: Row weights.
        positive: Positive class of a binary task.
        quantiles: Levels of the ``quantiles`` output.
        series: Which rows belong to one series; intervals then resample series or stretches of time.
        look: How often this sealed test set has been looked at, this time included; sets the gate limits.
        seed: Seed of the resamples.

    Returns:
        ``kind, metric, rows, classes, positive, look, gate_level``; ``measures`` (``core.verdict.Measure``
        as JSON, primary first), ``gate_limits`` (name -> [low, high] at ``gate_level``), ``undefined`` (name -> why),
        ``chance`` (name -> value of the best constant answer), ``calibration``, what ``curves.plots`` returns,
        ``slices``, ``found_slices``, ``labels`` (multilabel: a record each), ``class_rows`` (rows per class),
        ``units`` (independent stretches that were resampled; ``None`` for independent rows).

    Raises:
        ExecutionError: The outputs are not usable (shape, not finite).
        TaskError: A metric, slice, class or weight is not usable.
    """
    predictions = read_outputs(
        kind, outputs, truth, classes, weight=weight, positive=positive, quantiles=quantiles, series=series
    )
    primary = find_metric(metric or default_metric(kind), kind)
    chosen = {item.name: item for item in (primary, *usual_metrics(predictions))}
    chosen.update({item.name: item for item in (find_metric(name, kind) for name in also)})
    tail = tail_of_look(look)
    rng = np.random.default_rng(seed)
    measured = _measures(predictions, list(chosen.values()), tail, rng)
    shown = predictions.kind in (TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.ANOMALY)
    drawn = series_plots if kind in (TaskKind.ANOMALY, TaskKind.FORECAST) else plots
    return {
        "kind": kind.value,
        "metric": primary.name,
        "higher_is_better": primary.higher_is_better,
        "rows": predictions.rows,
        "weighted": weight is not None,
        "classes": list(predictions.classes),
        "positive": predictions.classes[predictions.positive] if kind is TaskKind.BINARY else None,
        "class_rows": np.bincount(predictions.truth, minlength=len(predictions.classes)).tolist()
        if shown
        else [],
        "units": None if predictions.cluster is None else len(np.unique(predictions.cluster)),
        "look": look,
        "gate_level": 1 - 2 * tail,
        **measured,
        "calibration": calibration(predictions),
        **drawn(predictions, rng),
        "labels": _labels(predictions) if kind is TaskKind.MULTILABEL else [],
        "slices": declared_slices(predictions, primary, slices or {}, tail),
        "found_slices": found_slices(predictions, columns or {}),
    }


def _measures(
    predictions: Predictions, metrics: Sequence[Metric], tail: float, rng: np.random.Generator
) -> dict[str, Any]:
    uninformed = predictions.uninformed()
    built: list[tuple[Any, Metric]] = []
    undefined: dict[str, str] = {}
    chance: dict[str, float] = {}
    for metric in metrics:
        if metric.quantiles and predictions.quantiles is None:
            undefined[metric.name] = "the model predicts no quantiles"
            continue
        if metric.ordered and predictions.group is None:
            undefined[metric.name] = "the rows are not those of a series in order of time"
            continue
        statistic = metric.build(predictions)
        if not math.isfinite(statistic.value()):
            undefined[metric.name] = _why_undefined(metric, predictions)
            continue
        built.append((statistic, metric))
        blind = metric.build(uninformed).value()
        if math.isfinite(blind):
            chance[metric.name] = blind
    measures: list[dict[str, Any]] = []
    limits: dict[str, list[float]] = {}
    for (_, metric), found in zip(built, estimate(built, rng), strict=True):
        measure = Measure(
            name=metric.name,
            value=found.value,
            low=found.low((1 - LEVEL) / 2),
            high=found.high((1 - LEVEL) / 2),
            n=predictions.rows,
            method=found.method,
            level=LEVEL,
            higher_is_better=metric.higher_is_better,
        )
        measures.append(measure.to_json())
        limits[metric.name] = [found.low(tail), found.high(tail)]
    return {"measures": measures, "gate_limits": limits, "undefined": undefined, "chance": chance}


def _why_undefined(metric: Metric, predictions: Predictions) -> str:
    if predictions.kind is TaskKind.REGRESSION:
        reasons = {
            "mape": "a truth is zero; smape is defined there",
            "rmsle": "a truth or prediction is below zero",
            "r2": "all truths are equal",
        }
        return reasons.get(metric.name, "the value is not finite")
    if predictions.kind is TaskKind.FORECAST:
        return "no series has a seasonal naive error" if metric.name == "mase" else "the value is not finite"
    if predictions.kind is TaskKind.MULTILABEL:
        return "no label has both values among the known cells"
    present = np.unique(predictions.truth)
    if len(present) == 1:
        return f"all judged rows are of class '{predictions.classes[int(present[0])]}'"
    return (
        "the model never names the positive class" if metric.name == "precision" else "no row counts for it"
    )


def _labels(predictions: Predictions) -> list[dict[str, Any]]:
    """Return each label's own quality on the rows where it is known."""
    assert predictions.probabilities is not None and predictions.label is not None
    known = known_cells(predictions)
    records = []
    for index, name in enumerate(predictions.classes):
        rows = known[:, index]
        record: dict[str, Any] = {"label": name, "n": int(rows.sum())}
        record["positives"] = int((predictions.truth[rows, index] == 1).sum())
        for metric in ("roc_auc", "f1", "accuracy"):
            value = math.nan
            if rows.any():
                given = predictions.probabilities[rows, index]
                single = Predictions(
                    kind=TaskKind.BINARY,
                    truth=(predictions.truth[rows, index] == 1).astype(np.int64),
                    probabilities=np.stack([1 - given, given], axis=1),
                    label=predictions.label[rows, index].astype(np.int64),
                    classes=("no", "yes"),
                    weight=None if predictions.weight is None else predictions.weight[rows],
                )
                value = METRICS[TaskKind.BINARY][metric].build(single).value()
            record[metric] = value if math.isfinite(value) else None
        records.append(record)
    return records
