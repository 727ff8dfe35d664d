"""Every statistic under row counts equals itself on repeated rows, and its influence is its derivative."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_samples import (
    ANOMALY,
    BINARY,
    FORECAST,
    MULTICLASS,
    MULTILABEL,
    REGRESSION,
    anomaly,
    binary,
    forecast,
    multiclass,
    multilabel,
    read,
    regression,
)

from modelworks.evaluation.metrics import METRICS, Metric
from modelworks.evaluation.predictions import Predictions
from modelworks.evaluation.resampling import poisson_ones, replicate, resamples_for
from modelworks.evaluation.statistic import Difference


def cases(*without: str) -> list[object]:
    return [
        pytest.param(kind, metric, id=f"{kind}-{name}")
        for kind, known in METRICS.items()
        for name, metric in known.items()
        if name not in without and not metric.ordered  # events are tested with their series
    ]


# The bins of the calibration error follow the rows, so repeated rows have other bins; its resamples keep them.
COUNTED = cases("ece")
# A median has no derivative by the count of a row; the coverage of its limits is simulated instead.
SMOOTH = cases("ece", "median_ae")


def sample(kind: object, rows: int, seed: int, weighted: bool) -> Predictions:
    rng = np.random.default_rng(seed)
    make = {
        BINARY: binary,
        MULTICLASS: multiclass,
        REGRESSION: regression,
        MULTILABEL: multilabel,
        ANOMALY: anomaly,
        FORECAST: forecast,
    }[kind]
    drawn = make(rng, rows)
    if kind is BINARY:
        drawn[1]["probabilities"] = np.round(drawn[1]["probabilities"], 1)  # ties
    if kind is REGRESSION:
        drawn[1]["quantiles"] = drawn[2][:, None] + np.sort(rng.normal(size=(rows, 3)), axis=1)
    if kind is MULTILABEL:
        drawn[2][rng.random(drawn[2].shape) < 0.1] = 255
    weight = rng.random(rows) + 0.5 if weighted else None
    if kind is FORECAST:
        drawn[1]["quantiles"] = drawn[2][..., None] + np.sort(rng.normal(size=(rows, 4, 3)), axis=2)
        drawn[2][rng.random(drawn[2].shape) < 0.1] = np.nan
        found = read(drawn, weight=weight, quantiles=(0.1, 0.5, 0.9))
        return replace(found, scale=rng.random(rows) + 0.5)
    return read(drawn, weight=weight, quantiles=(0.1, 0.5, 0.9) if kind is REGRESSION else ())


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("kind", "metric"), COUNTED)
def test_counted_rows_equal_repeated_rows(kind: object, metric: Metric, weighted: bool) -> None:
    predictions = sample(kind, 60, 1, weighted)
    counts = np.random.default_rng(2).poisson(1.0, size=(5, 60))
    drawn = metric.build(predictions).replicates(np.arange(60), counts.astype(np.float32))
    repeated = [metric.build(predictions.take(np.repeat(np.arange(60), row))).value() for row in counts]
    if metric.name == "median_ae":  # a resample takes the lower of two middle values, the value their mean
        lower = [metric.build(predictions.take(np.repeat(np.arange(60), row))) for row in counts]
        assert all(abs(a - b.value()) < 0.2 for a, b in zip(drawn, lower, strict=True))
        return
    assert drawn == pytest.approx(repeated, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("kind", "metric"), SMOOTH)
def test_influence_is_the_derivative_by_the_count_of_a_row(
    kind: object, metric: Metric, weighted: bool
) -> None:
    predictions = sample(kind, 80, 3, weighted)
    statistic = metric.build(predictions)
    step = 1e-3
    rises = []
    for sign in (1, -1):
        counts = np.ones((80, 80)) + sign * step * np.eye(80)
        weights = counts * (1.0 if predictions.weight is None else predictions.weight)
        rises.append([metric.build(replace(predictions, weight=row)).value() for row in weights])
    slope = (np.array(rises[0]) - np.array(rises[1])) / (2 * step)
    found = statistic.influence()
    assert abs(found.sum()) < 1e-6 * max(1.0, np.abs(found).sum())
    # DeLong's estimate is wider by sqrt(m / (m - 1)).
    tolerance = 0.06 if "roc_auc" in metric.name else 2e-3
    assert found == pytest.approx(slope, rel=tolerance, abs=tolerance * np.abs(slope).max())


@pytest.mark.parametrize("kind", [BINARY, MULTICLASS])
def test_influence_on_the_calibration_error_with_its_bins_kept(kind: object) -> None:
    statistic = METRICS[kind]["ece"].build(sample(kind, 80, 3, weighted=False))
    counts = np.ones((80, 80), dtype=np.float64) + 1e-2 * np.eye(80)
    rise = (statistic.replicates(np.arange(80), counts) - statistic.value()) / 1e-2
    assert statistic.influence() == pytest.approx(rise, abs=0.05 * np.abs(rise).max())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(20, 60))
def test_drawing_cells_and_drawing_rows_agree(seed: int, rows: int) -> None:
    predictions = sample(MULTICLASS, rows, seed, weighted=False)
    statistic = METRICS[MULTICLASS]["macro_f1"].build(predictions)
    cells = statistic.cells
    assert cells is not None
    _, first = np.unique(cells, return_index=True)
    counts = np.random.default_rng(seed).poisson(1.0, size=(4, rows)).astype(np.float32)
    grouped = np.stack([np.bincount(cells, weights=row, minlength=len(first)) for row in counts])
    by_cell = statistic.replicates(first, grouped.astype(np.float32))
    assert by_cell == pytest.approx(statistic.replicates(np.arange(rows), counts), abs=1e-6, nan_ok=True)


def test_a_difference_draws_both_models_on_the_same_rows() -> None:
    one, two = sample(REGRESSION, 100, 1, False), sample(REGRESSION, 100, 1, False)
    mae = METRICS[REGRESSION]["mae"]
    drawn = replicate([Difference(mae.build(one), mae.build(two))], np.random.default_rng(0))[0]
    assert np.abs(drawn).max() == 0.0


def test_poisson_counts_by_table_have_the_right_moments() -> None:
    drawn = poisson_ones(np.random.default_rng(0), 400, 2000)
    assert drawn.mean() == pytest.approx(1.0, abs=0.005)
    assert drawn.var() == pytest.approx(1.0, abs=0.01)
    assert (drawn == 0).mean() == pytest.approx(np.exp(-1), abs=0.002)


def test_the_number_of_draws_is_bounded() -> None:
    assert resamples_for(50) == 1000
    assert resamples_for(5000) * 5000 <= 2_000_000
