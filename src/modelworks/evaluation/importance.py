"""Which raw columns a model leans on: permutation importance through the shipped graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.task import TaskKind
from modelworks.evaluation.intervals import estimate
from modelworks.evaluation.metrics import Metric, default_metric, find_metric
from modelworks.evaluation.predictions import Floats, Predictions, read_outputs
from modelworks.evaluation.statistic import Difference

Columns = Mapping[str, npt.NDArray[Any]]
Predict = Callable[[dict[str, npt.NDArray[Any]]], Mapping[str, npt.NDArray[Any]]]
"""From columns to the outputs of the shipped graph on the same rows."""

METHOD = "permutation importance"

FEWEST_ROWS = 100
MOST_REPEATS = 5


def importance(
    predict: Predict,
    columns: Columns,
    truth: npt.NDArray[Any],
    kind: TaskKind,
    metric: str | None = None,
    seed: int = 0,
    *,
    classes: Sequence[str] = (),
    positive: int | str | None = None,
    most_rows: int = 500,
    most_predictions: int = 8000,
) -> list[dict[str, Any]]:
    """Return how much worse the metric becomes when one column's values are shuffled.

    A column is shuffled as a whole before the graph sees it, so everything the graph derives from it goes together
    (Breiman, 2001; Fisher, Rudin and Dominici, JMLR 20, 2019). Columns that say the same share their importance:
    shuffling one leaves the other.

    Args:
        predict: The shipped graph.
        columns: Raw columns of judged rows.
        truth: As in ``evaluate``.
        kind, metric, classes, positive: As in ``evaluate``.
        seed: Seed of rows and shuffles.
        most_rows: Rows used, drawn at random.
        most_predictions: Bound on rows handed to ``predict`` in all. Where it allows less than 100 rows a column, half
            of it finds the columns that move the answers at all, and only these are measured.

    Returns:
        Records ``{column, value, low, high, error, n, repeats, share, method, metric}``, most important first:
        ``value`` is the loss of the metric (above zero: the column helps), ``error`` its standard error, ``share``
        its part of the sum of all.
    """
    rng = np.random.default_rng(seed)
    chosen = find_metric(metric or default_metric(kind), kind)
    truth = np.asarray(truth)
    names = list(columns)
    if len(names) > most_predictions // FEWEST_ROWS:
        names = _screened(predict, columns, names, len(truth), most_predictions, rng)
        most_predictions //= 2
    each = most_predictions // max(len(names), 1)
    rows = min(len(truth), most_rows, max(FEWEST_ROWS, each))
    repeats = int(np.clip(each // rows, 1, MOST_REPEATS))
    picked = np.sort(rng.choice(len(truth), rows, replace=False))
    base = {name: np.asarray(values)[picked] for name, values in columns.items()}

    def read(outputs: Mapping[str, npt.NDArray[Any]]) -> Predictions:
        return read_outputs(kind, outputs, truth[picked], classes, positive=positive)

    intact = read(predict(dict(base)))
    records = []
    for name in names:
        shuffled = [read(predict({**base, name: rng.permutation(base[name])})) for _ in range(repeats)]
        records.append(_record(chosen, name, intact, shuffled))
    total = sum(max(record["value"], 0.0) for record in records)
    for record in records:
        record["share"] = max(record["value"], 0.0) / total if total > 0 else 0.0
    return sorted(records, key=lambda record: -record["value"])


def _screened(
    predict: Predict,
    columns: Columns,
    names: list[str],
    available: int,
    most_predictions: int,
    rng: np.random.Generator,
) -> list[str]:
    """Return the columns whose shuffling moves the answers most, found on few rows with half the predictions."""
    rows = int(np.clip(most_predictions // (2 * len(names)), 2, available))
    picked = rng.choice(available, rows, replace=False)
    base = {name: np.asarray(values)[picked] for name, values in columns.items()}
    intact = answers_of(predict(dict(base)))
    moved = [
        float(np.abs(answers_of(predict({**base, name: np.roll(base[name], 1)})) - intact).mean())
        for name in names
    ]
    kept = sorted(np.argsort(moved)[::-1][: most_predictions // (2 * FEWEST_ROWS)].tolist())
    return [names[index] for index in kept]


def answers_of(outputs: Mapping[str, npt.NDArray[Any]]) -> Floats:
    """Return probabilities or predictions as float64 [rows, answers]."""
    found = np.asarray(
        outputs["prediction" if "prediction" in outputs else "probabilities"], dtype=np.float64
    )
    return found.reshape(len(found), -1)


def _record(metric: Metric, name: str, intact: Predictions, shuffled: list[Predictions]) -> dict[str, Any]:
    statistic = metric.build(intact)
    sign = 1.0 if metric.higher_is_better else -1.0
    drops, errors = [], []
    for other in shuffled:
        found = estimate(
            [(Difference(statistic, metric.build(other)), None)], np.random.default_rng(0), resample=False
        )[0]
        drops.append(sign * found.value)
        errors.append((found.high(0.025) - found.low(0.025)) / (2 * 1.96))
    value = float(np.mean(drops))
    spread = float(np.var(drops, ddof=1)) / len(drops) if len(drops) > 1 else 0.0
    error = float(np.sqrt(np.mean(np.square(errors)) + spread))
    return {
        "column": name,
        "value": value,
        "low": value - 1.96 * error,
        "high": value + 1.96 * error,
        "error": error,
        "n": intact.rows,
        "repeats": len(shuffled),
        "method": METHOD,
        "metric": metric.name,
    }
