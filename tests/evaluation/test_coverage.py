"""Simulated coverage: 95 % intervals hold the truth about 95 % of the time, on few rows and on separable ones."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from judged_samples import Sample, binary, multiclass, multilabel, read, regression

from modelworks.evaluation.intervals import estimate
from modelworks.evaluation.metrics import find_metric

REPETITIONS = 150

# Worlds with the metrics whose limits must hold there, and the lowest coverage that is accepted: 150 repetitions
# of a true 95 % fall under 89 % about once in a thousand times; under 89 % the method itself is known to be short.
WORLDS = {
    "binary": (partial(binary, effect=1.5), 60, 0.89),
    "binary separable": (partial(binary, effect=4.0), 60, 0.89),
    "binary small": (partial(binary, effect=2.0), 30, 0.88),
    "multiclass": (multiclass, 60, 0.88),
    "multiclass separable": (partial(multiclass, effect=3.0), 60, 0.88),
    "regression": (regression, 40, 0.87),
    "multilabel": (multilabel, 60, 0.88),
}
METRICS_OF = {
    "binary": (
        "roc_auc",
        "average_precision",
        "log_loss",
        "brier",
        "ece",
        "accuracy",
        "f1",
        "precision",
        "recall",
        "mcc",
    ),
    "multiclass": ("accuracy", "macro_f1", "mcc", "log_loss", "brier", "ece", "roc_auc_ovr"),
    "regression": ("rmse", "mae", "r2", "median_ae", "mape", "smape"),
    "multilabel": ("roc_auc_macro", "average_precision_macro", "macro_f1", "mean_accuracy", "log_loss"),
}


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_intervals_hold_the_truth(world: str) -> None:
    make, rows, lowest = WORLDS[world]
    rng = np.random.default_rng(20240)
    large: Sample = make(rng, 200_000)
    metrics = [find_metric(name, large[0]) for name in METRICS_OF[world.split()[0]]]
    truth = {metric.name: metric.build(read(large)).value() for metric in metrics}
    held = {metric.name: 0 for metric in metrics}
    measured = dict(held)
    for _ in range(REPETITIONS):
        predictions = read(make(rng, rows))
        built = [(metric.build(predictions), metric) for metric in metrics]
        built = [(statistic, metric) for statistic, metric in built if np.isfinite(statistic.value())]
        for (_, metric), found in zip(built, estimate(built, rng), strict=True):
            measured[metric.name] += 1
            held[metric.name] += found.low(0.025) <= truth[metric.name] <= found.high(0.025)
    coverage = {name: held[name] / measured[name] for name in held}
    assert min(measured.values()) > REPETITIONS / 2
    assert {name: share for name, share in coverage.items() if share < lowest} == {}


def test_the_simulation_sees_limits_that_are_too_narrow() -> None:
    rng = np.random.default_rng(1)
    metric = find_metric("mae", regression(rng, 1)[0])
    truth = metric.build(read(regression(rng, 100_000))).value()
    held = 0
    for _ in range(60):
        found = estimate([(metric.build(read(regression(rng, 40))), metric)], rng)[0]
        held += found.low(0.2) <= truth <= found.high(0.2)
    assert held / 60 < 0.8
