"""What a model said beside what was true: checked arrays that every metric is computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.errors import ExecutionError, TaskError
from modelworks.core.task import TaskKind
from modelworks.evaluation.series_rows import SeriesRows, block_rows, stretches

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

MISSING_LABEL = 255
"""Value of a multilabel truth that nobody knows; such cells count in no metric."""

SMALLEST_PROBABILITY = float(np.finfo(np.float32).eps)
"""Graphs answer in FP32, so a probability of zero is known only to this precision."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Outputs of a graph on judged rows.

    Attributes:
        kind: Task kind.
        truth: Class codes int64 [rows]; float64 [rows] for regression; uint8 [rows, labels] for multilabel;
            1 = anomalous for anomalies; float64 [rows, horizon] for forecasts, NaN where nobody knows.
        probabilities: float64 [rows, classes or labels], rows of a classification sum to one.
        label: Predicted codes int64 [rows]; bool [rows, labels] for multilabel.
        prediction: float64 [rows], regression; [rows, horizon], forecast.
        quantiles: float64 [rows, levels], regression with intervals; [rows, horizon, levels], forecast.
        levels: Quantile levels.
        classes: Class or label names.
        positive: Index of the positive class of a binary task.
        weight: float64 [rows] or ``None``.
        score: float64 [rows], anomaly; higher is stranger.
        group: Series code of each row, int64 [rows], or ``None`` for rows that are independent.
        cluster: Code of each row's resampling unit (a series, or a stretch of time), or ``None``.
        scale: float64 [rows] or ``None``; see ``SeriesRows``.
    """

    kind: TaskKind
    truth: npt.NDArray[Any]
    probabilities: Floats | None = None
    label: npt.NDArray[Any] | None = None
    prediction: Floats | None = None
    quantiles: Floats | None = None
    levels: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    positive: int = 1
    weight: Floats | None = None
    score: Floats | None = None
    group: Integers | None = None
    cluster: Integers | None = None
    scale: Floats | None = None

    @property
    def rows(self) -> int:
        return len(self.truth)

    @property
    def scores(self) -> Floats:
        """Probability of the positive class, or the anomaly score."""
        if self.score is not None:
            return self.score
        assert self.probabilities is not None
        return self.probabilities[:, self.positive]

    @property
    def hits(self) -> Booleans:
        """Where the positive class is true, binary only."""
        return np.asarray(self.truth == self.positive)

    @property
    def row_weight(self) -> Floats:
        return np.ones(self.rows) if self.weight is None else self.weight

    def take(self, rows: npt.NDArray[Any]) -> Predictions:
        """Return the predictions of some rows (indexes or a mask)."""

        def part(array: npt.NDArray[Any] | None) -> Any:
            return None if array is None else array[rows]

        return replace(
            self,
            truth=self.truth[rows],
            probabilities=part(self.probabilities),
            label=part(self.label),
            prediction=part(self.prediction),
            quantiles=part(self.quantiles),
            weight=part(self.weight),
            score=part(self.score),
            group=part(self.group),
            cluster=part(self.cluster),
            scale=part(self.scale),
        )

    def uninformed(self) -> Predictions:
        """Return what the best constant answer would have said on these rows: the yardstick 'chance'."""
        weight = self.row_weight
        if self.kind is TaskKind.ANOMALY:
            return replace(self, score=np.zeros(self.rows), label=np.zeros(self.rows, dtype=np.int64))
        if self.kind is TaskKind.FORECAST:
            return _constant_forecast(self)
        if self.kind is TaskKind.REGRESSION:
            quantiles = None
            if self.quantiles is not None:
                quantiles = np.broadcast_to(np.quantile(self.truth, self.levels), self.quantiles.shape)
            mean = np.full(self.rows, np.average(self.truth, weights=weight))
            return replace(self, prediction=mean, quantiles=quantiles)
        if self.kind is TaskKind.MULTILABEL:
            known = self.truth != MISSING_LABEL
            cells = known * weight[:, None]
            share = (cells * (self.truth == 1)).sum(axis=0) / np.maximum(cells.sum(axis=0), 1e-300)
            return replace(
                self,
                probabilities=np.broadcast_to(share, self.truth.shape).astype(np.float64),
                label=np.broadcast_to(share >= 0.5, self.truth.shape),
            )
        share = np.bincount(self.truth, weights=weight, minlength=len(self.classes)) / weight.sum()
        return replace(
            self,
            probabilities=np.broadcast_to(share, (self.rows, len(share))),
            label=np.full(self.rows, int(share.argmax())),
        )


def _constant_forecast(predictions: Predictions) -> Predictions:
    known = predictions.truth[np.isfinite(predictions.truth)]
    mean = float(known.mean()) if len(known) else 0.0
    quantiles = None
    if predictions.quantiles is not None:
        levels = np.quantile(known, predictions.levels) if len(known) else np.zeros(len(predictions.levels))
        quantiles = np.broadcast_to(levels, predictions.quantiles.shape)
    return replace(predictions, prediction=np.full(predictions.truth.shape, mean), quantiles=quantiles)


def read_outputs(
    kind: TaskKind,
    outputs: Mapping[str, npt.NDArray[Any]],
    truth: npt.NDArray[Any],
    classes: Sequence[str],
    *,
    weight: npt.NDArray[Any] | None = None,
    positive: int | str | None = None,
    quantiles: Sequence[float] = (),
    series: SeriesRows | None = None,
) -> Predictions:
    """Check the outputs of a graph against the truth and bring both into one form.

    Args:
        kind: Task kind.
        outputs: Output name -> array, named as in ``core.signature.Signature``. ``label`` and ``labels``
            may be absent; the most probable class, or 0.5, decides then.
        truth: Class codes int64 [rows]; float [rows] for regression; uint8 [rows, labels] with 255 = unknown;
            0 or 1 (anomalous) [rows]; float [rows, horizon] for forecasts, NaN = unknown.
        classes: Class or label names along axis 1 of ``probabilities``.
        weight: Row weights, not negative.
        positive: Positive class of a binary task, as a name or an index; the second class by default.
        quantiles: Levels along the last axis of ``quantiles``.
        series: Which rows belong to one series (streams, forecasts); ``None`` for independent rows.

    Raises:
        ExecutionError: The graph answered with a wrong shape or with values that are not finite.
        TaskError: The positive class does not exist, the truth is empty or does not fit the kind.
    """
    truth = np.asarray(truth)
    if len(truth) == 0:
        raise TaskError("There are no rows to judge on.", code="MW1280", hint="raise split.test_share")
    if weight is not None:
        weight = np.asarray(weight, dtype=np.float64)
        if weight.shape != truth.shape[:1] or not np.all(weight >= 0) or not weight.sum() > 0:
            raise TaskError(
                "Row weights must be one number per row, none negative and not all zero.", code="MW1281"
            )
    names = tuple(str(name) for name in classes)
    if kind is TaskKind.REGRESSION:
        return _regression(outputs, truth, weight, tuple(quantiles))
    if kind is TaskKind.MULTILABEL:
        return _multilabel(outputs, truth, weight, names)
    if kind in (TaskKind.BINARY, TaskKind.MULTICLASS):
        return _classification(kind, outputs, truth, weight, names, positive)
    found = (_anomaly if kind is TaskKind.ANOMALY else _forecast)(outputs, truth, weight, tuple(quantiles))
    return found if series is None else _in_series(found, series)


def _finite(outputs: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...]) -> Floats:
    if name not in outputs:
        raise ExecutionError(f"The model has no output '{name}'.", code="MW5412")
    array = np.asarray(outputs[name], dtype=np.float64)
    if array.size == np.prod(shape):
        array = array.reshape(shape)
    if array.shape != shape:
        raise ExecutionError(
            f"Output '{name}' has shape {list(array.shape)}, expected {list(shape)}.", code="MW5412"
        )
    broken = ~np.isfinite(array)
    if broken.any():
        rows = int(broken.reshape(len(array), -1).any(axis=1).sum())
        raise ExecutionError(
            f"Output '{name}' is not finite on {rows} of {len(array)} judged rows.", code="MW5413"
        )
    return array


def _classification(
    kind: TaskKind,
    outputs: Mapping[str, npt.NDArray[Any]],
    truth: npt.NDArray[Any],
    weight: Floats | None,
    classes: tuple[str, ...],
    positive: int | str | None,
) -> Predictions:
    codes = truth.astype(np.int64)
    if codes.ndim != 1 or codes.min() < 0 or codes.max() >= len(classes):
        raise TaskError(
            f"Truth codes run from {codes.min()} to {codes.max()}; there are {len(classes)} classes.",
            code="MW1283",
        )
    probabilities = _finite(outputs, "probabilities", (len(codes), len(classes)))
    if probabilities.min() < -1e-4 or probabilities.max() > 1 + 1e-4:
        raise ExecutionError("Output 'probabilities' leaves the range 0 to 1.", code="MW5403")
    probabilities = np.clip(probabilities, 0.0, 1.0)
    total = probabilities.sum(axis=1, keepdims=True)
    probabilities /= np.where(total > 0, total, 1.0)
    index = 1
    if isinstance(positive, str):
        if positive not in classes:
            raise TaskError(
                f"There is no class '{positive}'.",
                code="MW1284",
                hint="classes: " + ", ".join(classes[:20]),
            )
        index = classes.index(positive)
    elif positive is not None:
        index = positive
    return Predictions(
        kind=kind,
        truth=codes,
        probabilities=probabilities,
        label=_label_codes(outputs.get("label"), probabilities, classes),
        classes=classes,
        positive=index,
        weight=weight,
    )


def _label_codes(label: npt.NDArray[Any] | None, probabilities: Floats, classes: tuple[str, ...]) -> Integers:
    if label is None:
        return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)
    label = np.asarray(label).reshape(-1)
    if label.dtype.kind in "iu":
        return label.astype(np.int64)
    values, inverse = np.unique(label.astype(str), return_inverse=True)
    code_of = {name: code for code, name in enumerate(classes)}
    unknown = [str(value) for value in values if str(value) not in code_of]
    if unknown:
        raise ExecutionError(
            f"Output 'label' holds '{unknown[0]}', which is no class of the task.", code="MW5404"
        )
    return np.asarray([code_of[str(value)] for value in values], dtype=np.int64)[inverse]


def _multilabel(
    outputs: Mapping[str, npt.NDArray[Any]],
    truth: npt.NDArray[Any],
    weight: Floats | None,
    classes: tuple[str, ...],
) -> Predictions:
    if truth.ndim != 2 or not np.isin(truth, (0, 1, MISSING_LABEL)).all():
        raise TaskError("A multilabel truth is [rows, labels] of 0, 1 and 255 (unknown).", code="MW1283")
    probabilities = np.clip(_finite(outputs, "probabilities", truth.shape), 0.0, 1.0)
    labels = outputs.get("labels")
    return Predictions(
        kind=TaskKind.MULTILABEL,
        truth=truth.astype(np.uint8),
        probabilities=probabilities,
        label=probabilities >= 0.5 if labels is None else np.asarray(labels, dtype=bool),
        classes=classes,
        weight=weight,
    )


def _regression(
    outputs: Mapping[str, npt.NDArray[Any]],
    truth: npt.NDArray[Any],
    weight: Floats | None,
    levels: tuple[float, ...],
) -> Predictions:
    values = truth.astype(np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise TaskError("A regression truth is one finite number per row.", code="MW1283")
    quantiles = None
    if levels and "quantiles" in outputs:
        quantiles = _finite(outputs, "quantiles", (len(values), len(levels)))
    return Predictions(
        kind=TaskKind.REGRESSION,
        truth=values,
        prediction=_finite(outputs, "prediction", values.shape),
        quantiles=quantiles,
        levels=levels if quantiles is not None else (),
        weight=weight,
    )


def _anomaly(
    outputs: Mapping[str, npt.NDArray[Any]],
    truth: npt.NDArray[Any],
    weight: Floats | None,
    levels: tuple[float, ...],
) -> Predictions:
    if truth.ndim != 1 or not np.isin(truth, (0, 1)).all():
        raise TaskError("The truth of an anomaly task is 0 or 1 (anomalous) per row.", code="MW1283")
    anomalous = _finite(outputs, "anomalous", truth.shape)
    return Predictions(
        kind=TaskKind.ANOMALY,
        truth=truth.astype(np.int64),
        score=_finite(outputs, "score", truth.shape),
        label=(anomalous > 0).astype(np.int64),
        classes=("normal", "anomalous"),
        weight=weight,
    )


def _forecast(
    outputs: Mapping[str, npt.NDArray[Any]],
    truth: npt.NDArray[Any],
    weight: Floats | None,
    levels: tuple[float, ...],
) -> Predictions:
    values = truth.astype(np.float64)
    if values.ndim != 2 or np.isinf(values).any():
        raise TaskError("The truth of a forecast is [rows, horizon], NaN where unknown.", code="MW1283")
    if not np.isfinite(values).any():
        raise TaskError("No value of the judged horizons is known.", code="MW1280")
    quantiles = None
    if levels and "quantiles" in outputs:
        quantiles = _finite(outputs, "quantiles", (*values.shape, len(levels)))
    return Predictions(
        kind=TaskKind.FORECAST,
        truth=values,
        prediction=_finite(outputs, "prediction", values.shape),
        quantiles=quantiles,
        levels=levels if quantiles is not None else (),
        weight=weight,
    )


def _in_series(predictions: Predictions, series: SeriesRows) -> Predictions:
    """Add the series of each row and its resampling unit."""
    if len(series.group) != predictions.rows:
        raise TaskError(
            f"There are {len(series.group)} series marks for {predictions.rows} rows.", code="MW1281"
        )
    _, group = np.unique(series.group, return_inverse=True)
    scale = None if series.scale is None else np.asarray(series.scale, dtype=np.float64)
    block = series.block or block_rows(predictions.truth, group)
    return replace(predictions, group=group, cluster=stretches(group, block), scale=scale)
