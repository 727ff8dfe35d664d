"""Two models on the same rows: the paired difference of a metric, its limits, and who is better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.task import TaskKind
from modelworks.evaluation import beta, normal
from modelworks.evaluation.clusters import unclustered
from modelworks.evaluation.intervals import Estimate, estimate, p_value
from modelworks.evaluation.metrics import Metric, default_metric, find_metric
from modelworks.evaluation.multiplicity import tail_of_look
from modelworks.evaluation.predictions import Predictions, read_outputs
from modelworks.evaluation.ranking import random_order
from modelworks.evaluation.series_rows import SeriesRows
from modelworks.evaluation.slices import SLICE_ROWS, value_groups
from modelworks.evaluation.statistic import Difference, ShareStatistic, Statistic

ABSOLUTE_MARGIN = 0.01
"""How much worse still counts as 'not worse', for metrics on a fixed scale: one point."""

RELATIVE_MARGIN = 0.02
"""The same for losses without a fixed scale, as a share of the other model's loss."""


@dataclass(frozen=True)
class PairedShares:
    """Difference of two shares over the same rows, from the rows on which only one model is right.

    Limits by Bonett and Price (Journal of Educational and Behavioral Statistics 37, 2012), the p-value exact (McNemar).

    Attributes:
        gained: Rows only the first model has right.
        lost: Rows only the second model has right.
        rows: All rows that count.
    """

    gained: int
    lost: int
    rows: int
    method: str = "mcnemar"

    @property
    def value(self) -> float:
        return (self.gained - self.lost) / self.rows

    @cached_property
    def error(self) -> float:
        first, second = (self.gained + 1) / (self.rows + 2), (self.lost + 1) / (self.rows + 2)
        return math.sqrt((first + second - (first - second) ** 2) / (self.rows + 2))

    @property
    def middle(self) -> float:
        return (self.gained - self.lost) / (self.rows + 2)

    def low(self, tail: float) -> float:
        return max(-1.0, self.middle + normal.quantile(tail) * self.error)

    def high(self, tail: float) -> float:
        return min(1.0, self.middle - normal.quantile(tail) * self.error)

    def exact_p(self) -> float:
        """Return the one-sided probability of so many gains among the rows that differ."""
        differ = self.gained + self.lost
        if self.gained == 0:
            return 1.0
        return beta.cumulative(0.5, self.gained, differ - self.gained + 1)


@dataclass(frozen=True)
class AgainstGuessing:
    """A ranking against a model that ranks nothing: its own limits, less what a random order reaches on average."""

    ranking: Estimate
    guessing: float

    @property
    def value(self) -> float:
        return self.ranking.value - self.guessing

    @property
    def method(self) -> str:
        return self.ranking.method

    def low(self, tail: float) -> float:
        return self.ranking.low(tail) - self.guessing

    def high(self, tail: float) -> float:
        return self.ranking.high(tail) - self.guessing


def compare(
    kind: TaskKind,
    outputs_a: Mapping[str, npt.NDArray[Any]],
    outputs_b: Mapping[str, npt.NDArray[Any]],
    truth: npt.NDArray[Any],
    classes: Sequence[str] = (),
    *,
    metric: str | None = None,
    slices: Mapping[str, npt.NDArray[Any]] | None = None,
    weight: npt.NDArray[Any] | None = None,
    positive: int | str | None = None,
    quantiles: Sequence[float] = (),
    series: SeriesRows | None = None,
    margin: float | None = None,
    look: int = 1,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare model ``a`` with model ``b`` (a baseline, a champion) on the same rows.

    Args:
        kind: Task kind.
        outputs_a, outputs_b: Outputs of either graph on the same rows.
        truth, classes, metric, weight, positive, quantiles, series, look, seed: As in ``evaluate``.
        slices: Declared slice column -> one value per row; each slice is compared too.
        margin: How much worse ``a`` may be and still count as not worse; by default 0.01 on fixed scales and 2 % of
            ``b``'s value for losses without one.

    Returns:
        ``metric, n, look, gate_level, value, other``; ``difference`` with ``low, high`` (95 %) and ``gate_low,
        gate_high``, all oriented so that above zero ``a`` is better; ``p_value`` (one-sided, ``a`` is better),
        ``better`` and ``worse`` (shown at the look's error), ``margin``, ``not_worse`` (by more than the margin),
        ``method``, ``constant`` (``b`` gives every row one answer), ``undefined`` (a reason, or empty), ``slices``.

    Raises:
        ExecutionError, TaskError: As in ``evaluate``.
    """
    chosen = find_metric(metric or default_metric(kind), kind)
    first, second = (
        read_outputs(
            kind,
            outputs,
            truth,
            classes,
            weight=weight,
            positive=positive,
            quantiles=quantiles,
            series=series,
        )
        for outputs in (outputs_a, outputs_b)
    )
    tail = tail_of_look(look)
    record = _compare(chosen, first, second, tail, margin, np.random.default_rng(seed))
    record.update(look=look, gate_level=1 - 2 * tail, constant=is_constant(second))
    record["slices"] = _slices(chosen, first, second, slices or {}, tail, record["margin"])
    return record


def default_margin(metric: str, higher_is_better: bool, other: float) -> float:
    """Return how much worse than ``other`` still counts as not worse."""
    if metric == "nab_score":
        return 100 * ABSOLUTE_MARGIN
    fixed = higher_is_better or metric == "ece"
    return ABSOLUTE_MARGIN if fixed else RELATIVE_MARGIN * abs(other)


def is_constant(predictions: Predictions) -> bool:
    """Say whether a model gives every row one answer."""
    answers = predictions.prediction if predictions.probabilities is None else predictions.probabilities
    answers = predictions.score if answers is None else answers
    assert answers is not None
    return bool(np.ptp(answers, axis=0).max() <= 1e-6 * max(1.0, float(np.abs(answers).max())))


def _compare(
    metric: Metric,
    first: Predictions,
    second: Predictions,
    tail: float,
    margin: float | None,
    rng: np.random.Generator | None,
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "n": first.rows,
        "undefined": "",
        "margin": margin,
    }
    names = ("value", "other", "difference", "low", "high", "gate_low", "gate_high", "p_value")
    record.update(dict.fromkeys(names), better=False, worse=False, not_worse=False, method="none")
    if metric.quantiles and (first.quantiles is None or second.quantiles is None):
        record["undefined"] = "one of the models predicts no quantiles"
        return record
    if metric.ordered and first.group is None:
        record["undefined"] = "the rows are not those of a series in order of time"
        return record
    pair = metric.build(first), metric.build(second)
    values = pair[0].value(), pair[1].value()
    if not all(map(math.isfinite, values)):
        record["undefined"] = f"{metric.name} is not defined on these {first.rows} rows"
        return record
    if margin is None:
        margin = default_margin(metric.name, metric.higher_is_better, values[1])
    found = _estimate(metric, pair, is_constant(second), rng)
    p = found.exact_p() if isinstance(found, PairedShares) else p_value(found, 0.0)
    record.update(
        value=values[0],
        other=values[1],
        difference=found.value,
        low=found.low(0.025),
        high=found.high(0.025),
        gate_low=found.low(tail),
        gate_high=found.high(tail),
        p_value=p,
        better=p <= tail and found.value > 0,
        worse=found.high(tail) < 0,
        margin=margin,
        not_worse=found.low(tail) >= -margin,
        method=found.method,
    )
    return record


def _estimate(
    metric: Metric, pair: tuple[Statistic, Statistic], constant: bool, rng: np.random.Generator | None
) -> Estimate:
    """Return the estimate of how much better the first statistic is."""
    if not metric.higher_is_better:
        pair = pair[1], pair[0]
    one, two = pair
    guessing = random_order(unclustered(one)) if constant else None
    if guessing is not None:
        ranking = estimate([(one, metric)], rng or np.random.default_rng(0), resample=rng is not None)[0]
        return AgainstGuessing(ranking, guessing)
    if isinstance(one, ShareStatistic) and isinstance(two, ShareStatistic) and _same_trials(one, two):
        return PairedShares(
            gained=int((one.hits & ~two.hits).sum()),
            lost=int((two.hits & ~one.hits).sum()),
            rows=int(one.trials.sum()),
        )
    resample = rng is not None
    difference = Difference(one, two)
    return estimate([(difference, None)], rng or np.random.default_rng(0), resample=resample)[0]


def _same_trials(one: ShareStatistic, two: ShareStatistic) -> bool:
    plain = one.weight is None and one.curve == "share"
    return plain and bool(np.array_equal(one.trials, two.trials))


def _slices(
    metric: Metric,
    first: Predictions,
    second: Predictions,
    slices: Mapping[str, npt.NDArray[Any]],
    tail: float,
    margin: float | None,
) -> list[dict[str, Any]]:
    found = []
    for column, labels in slices.items():
        group, names = value_groups(np.asarray(labels))
        for index, name in enumerate(names):
            member = np.asarray(group == index)
            if not member.any() or margin is None:
                continue
            record = _compare(metric, first.take(member), second.take(member), tail, margin, None)
            known = record["n"] >= SLICE_ROWS and not record["undefined"]
            record.update(
                slice=f"{column} = {name}",
                status="measured" if known else "unknown",
                p_worse=None if record["undefined"] else _p_worse(record),
            )
            found.append(record)
    return found


def _p_worse(record: Mapping[str, Any]) -> float:
    """Return the one-sided p-value that the first model is worse by more than the margin, from the 95 % limits."""
    error = (record["high"] - record["low"]) / (2 * 1.959964)
    distance = record["difference"] + record["margin"]
    if error <= 0:
        return 1.0 if distance >= 0 else 0.0
    return normal.cumulative(distance / error)
