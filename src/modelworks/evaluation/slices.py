"""Quality on declared parts of the rows: each category, or each quarter of a number's range."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.errors import TaskError
from modelworks.core.signature import MISSING_DATETIME
from modelworks.evaluation.intervals import estimate
from modelworks.evaluation.metrics import Metric
from modelworks.evaluation.predictions import Booleans, Integers, Predictions

SLICE_ROWS = 100
"""Below this many rows a slice's quality counts as unknown."""

NAMED_VALUES = 12
"""Values of one column that get a slice of their own; the rest, and values under one percent, are pooled."""

NUMBER_BINS = 4

_MICROSECONDS_A_DAY = 86_400_000_000


def value_groups(
    labels: npt.NDArray[Any], most: int = NAMED_VALUES, bins: int = NUMBER_BINS
) -> tuple[Integers, list[str]]:
    """Return the group of each row and the groups' names.

    Args:
        labels: Numbers (NaN is missing), int64 microseconds (missing mark of ``core.signature``), or texts.
        most: Most categories with a group of their own.
        bins: Quantile bins for numbers with more values than that.
    """
    if labels.dtype.kind == "f" or (labels.dtype.kind in "iu" and labels.dtype.itemsize == 8):
        return _number_groups(labels, most, bins)
    texts = [str(value) for value in labels.tolist()]
    counts = Counter(texts)
    named = [value for value, count in counts.most_common(most) if count >= 0.01 * len(texts)]
    group_of = {value: index for index, value in enumerate(named)}
    group = np.fromiter((group_of.get(value, len(named)) for value in texts), np.int64, len(texts))
    names = [value or "(missing)" for value in named]
    return group, [*names, "(other)"] if len(named) < len(counts) else names


def _number_groups(labels: npt.NDArray[Any], most: int, bins: int) -> tuple[Integers, list[str]]:
    missing = np.isnan(labels) if labels.dtype.kind == "f" else labels == MISSING_DATETIME
    known = labels[~missing]
    show = (
        _date if labels.dtype.kind != "f" and np.abs(known).max(initial=0) > _MICROSECONDS_A_DAY else _number
    )
    values = np.unique(known)
    if len(values) <= min(most, 2 * bins):
        group = np.searchsorted(values, labels)
        names = [show(value) for value in values]
    else:
        edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1]))
        group = np.searchsorted(edges, labels, side="right")
        ends = [show(edge) for edge in edges]
        names = [f"below {ends[0]}"]
        names += [f"{low} to {high}" for low, high in itertools.pairwise(ends)]
        names += [f"{ends[-1]} and above"]
    if missing.any():
        group = np.where(missing, len(names), group)
        names = [*names, "(missing)"]
    return np.asarray(group, dtype=np.int64), names


def _number(value: Any) -> str:
    return f"{value:.4g}"


def _date(value: Any) -> str:
    return str(np.datetime64(int(value), "us"))[:10]


def declared_slices(
    predictions: Predictions,
    metric: Metric,
    slices: Mapping[str, npt.NDArray[Any]],
    tail: float,
) -> list[dict[str, Any]]:
    """Return the metric on each slice of each declared column.

    Args:
        predictions: All judged rows.
        metric: Metric to measure.
        slices: Column -> one value per row.
        tail: One-sided error of the gate limits at this look.

    Returns:
        Records ``{slice, column, group, n, status, value, low, high, gate_low, gate_high, chance, reason}``.
        ``status`` is ``measured``, or ``unknown`` under 100 rows or where the metric is not defined; then the
        values may be ``None``.

    Raises:
        TaskError: A column has not one value per row.
    """
    found = []
    for column, labels in slices.items():
        labels = np.asarray(labels)
        if len(labels) != predictions.rows:
            raise TaskError(
                f"Slice column '{column}' has {len(labels)} values for {predictions.rows} rows.",
                code="MW1285",
            )
        group, names = value_groups(labels)
        for index, name in enumerate(names):
            member = np.asarray(group == index)
            if member.any():
                found.append(_measure(predictions, metric, column, name, member, tail))
    return found


def _measure(
    predictions: Predictions, metric: Metric, column: str, name: str, member: Booleans, tail: float
) -> dict[str, Any]:
    part = predictions.take(member)
    record: dict[str, Any] = {
        "slice": f"{column} = {name}",
        "column": column,
        "group": name,
        "n": part.rows,
        "status": "unknown",
        "value": None,
        "low": None,
        "high": None,
        "gate_low": None,
        "gate_high": None,
        "chance": None,
        "reason": "",
    }
    chance = metric.build(predictions.uninformed().take(member)).value()
    record["chance"] = chance if np.isfinite(chance) else None
    statistic = metric.build(part)
    if not np.isfinite(statistic.value()):
        record["reason"] = f"{metric.name} is not defined on these {part.rows} rows"
        return record
    # No resampling here: dozens of slices would cost more than the model's own judgement.
    found = estimate([(statistic, metric)], np.random.default_rng(0), resample=False)[0]
    record.update(
        value=found.value,
        low=found.low(0.025),
        high=found.high(0.025),
        gate_low=found.low(tail),
        gate_high=found.high(tail),
    )
    if part.rows >= SLICE_ROWS:
        record["status"] = "measured"
    else:
        record["reason"] = f"{part.rows} rows; {SLICE_ROWS} are needed"
    return record
