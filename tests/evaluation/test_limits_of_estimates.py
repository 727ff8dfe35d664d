"""Intervals: exact where exact forms exist, honest where a bootstrap would collapse, p-values that invert them."""

from __future__ import annotations

import numpy as np
import pytest
from judged_samples import BINARY, MULTICLASS, REGRESSION, binary, multiclass, read, regression
from scipy import stats

from modelworks.evaluation import beta, normal
from modelworks.evaluation.closed_forms import clopper_pearson_low, newcombe_auc_limit
from modelworks.evaluation.intervals import DeltaEstimate, estimate, p_value
from modelworks.evaluation.metrics import METRICS
from modelworks.evaluation.predictions import read_outputs
from modelworks.evaluation.statistic import ShareStatistic


def limits(name: str, predictions: object, tail: float = 0.025) -> tuple[float, float, float, str]:
    metric = METRICS[predictions.kind][name]
    found = estimate([(metric.build(predictions), metric)], np.random.default_rng(0))[0]
    return found.low(tail), found.value, found.high(tail), found.method


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (10, 10), (3, 17), (450, 500)])
def test_proportions_are_exact(hits: int, trials: int) -> None:
    truth = np.ones(trials, dtype=bool)
    statistic = ShareStatistic(np.arange(trials) < hits, truth)
    found = estimate([(statistic, None)], np.random.default_rng(0))[0]
    expected = stats.binomtest(hits, trials).proportion_ci(0.95, method="exact")
    assert (found.low(0.025), found.high(0.025)) == pytest.approx((expected.low, expected.high))
    assert found.method == "exact"


def test_f1_is_a_curve_of_an_exact_proportion() -> None:
    # 6 true positives, 2 false positives, 1 false negative: 6 of the 9 rows that are named or positive.
    label = np.array([1] * 8 + [0] * 12)
    truth = np.array([1] * 6 + [0] * 2 + [1] + [0] * 11)
    outputs = {"probabilities": np.stack([1.0 - label, label], axis=1)}
    low, value, high, method = limits("f1", read_outputs(BINARY, outputs, truth, ["no", "yes"]))
    expected = stats.binomtest(6, 9).proportion_ci(0.95, method="exact")
    assert value == pytest.approx(12 / 15)
    assert (low, high) == pytest.approx(
        (2 * expected.low / (1 + expected.low), 2 * expected.high / (1 + expected.high))
    )
    assert method == "exact"


def test_weights_cost_effective_rows() -> None:
    rng = np.random.default_rng(0)
    hits = rng.random(400) < 0.8
    everywhere = np.ones(400, dtype=bool)
    even, uneven = (
        estimate([(ShareStatistic(hits, everywhere, weight), None)], rng)[0]
        for weight in (np.full(400, 7.0), np.where(np.arange(400) < 40, 10.0, 0.1))
    )
    assert even.low(0.025) == pytest.approx(clopper_pearson_low(float(hits.sum()), 400.0, 0.025))
    assert uneven.high(0.025) - uneven.low(0.025) > 2 * (even.high(0.025) - even.low(0.025))


def test_delong_equals_its_definition() -> None:
    sample = binary(np.random.default_rng(1), 150)
    predictions = read(sample)
    score, hit = predictions.scores, predictions.hits
    wins = (score[hit][:, None] > score[~hit]) + 0.5 * (score[hit][:, None] == score[~hit])
    variance = wins.mean(axis=1).var(ddof=1) / hit.sum() + wins.mean(axis=0).var(ddof=1) / (~hit).sum()
    influence = METRICS[BINARY]["roc_auc"].build(predictions).influence()
    assert np.square(influence).sum() == pytest.approx(variance)


def test_newcombe_limits_solve_their_equation() -> None:
    low = newcombe_auc_limit(0.9, 12, 20, -1.96)
    spread = (12 + 20) / 2 - 1
    error = np.sqrt(low * (1 - low) * (1 + spread * ((1 - low) / (2 - low) + low / (1 + low))) / 240)
    assert (0.9 - low) / error == pytest.approx(1.96, rel=1e-6)


@pytest.mark.parametrize(
    "name", ["roc_auc", "average_precision", "accuracy", "balanced_accuracy", "f1", "mcc"]
)
def test_a_perfect_model_on_few_rows_is_not_certain(name: str) -> None:
    truth = np.arange(40) % 2
    p = np.where(truth, 0.97, 0.03) + np.linspace(0, 0.02, 40)
    predictions = read_outputs(BINARY, {"probabilities": np.stack([1 - p, p], axis=1)}, truth, ["no", "yes"])
    low, value, high, _ = limits(name, predictions)
    assert value == pytest.approx(1.0)
    assert high == pytest.approx(1.0)
    assert 0.5 < low < 0.97


def test_a_perfect_multiclass_model_on_few_rows_is_not_certain() -> None:
    truth = np.arange(60) % 3
    predictions = read_outputs(
        MULTICLASS, {"probabilities": np.eye(3)[truth] * 0.94 + 0.02}, truth, list("abc")
    )
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "mcc", "roc_auc_ovr"):
        low, value, high, _ = limits(name, predictions)
        assert value == pytest.approx(1.0) and 0.75 < low < 0.99 and high == pytest.approx(1.0), name


def test_a_nearly_certain_model_pays_for_mistakes_it_expects_itself() -> None:
    truth = np.arange(50) % 2
    p = np.where(truth, 0.99, 0.01)
    predictions = read_outputs(BINARY, {"probabilities": np.stack([1 - p, p], axis=1)}, truth, ["no", "yes"])
    low, value, high, _ = limits("log_loss", predictions)
    assert value == pytest.approx(-np.log(0.99), rel=1e-3)
    assert high > 5 * value
    assert low == pytest.approx(value, rel=1e-3)


def test_bca_agrees_with_scipy() -> None:
    rng = np.random.default_rng(3)
    error = rng.exponential(size=80)
    predictions = read_outputs(REGRESSION, {"prediction": error}, np.zeros(80), ())
    low, _, high, method = limits("mae", predictions)
    expected = stats.bootstrap((error,), np.mean, method="BCa", n_resamples=5000, rng=rng).confidence_interval
    assert method == "bootstrap"
    width = expected.high - expected.low
    assert abs(low - expected.low) < 0.08 * width
    assert abs(high - expected.high) < 0.08 * width + 0.03 * width  # ours is wider by Student's t


@pytest.mark.parametrize("name", ["rmse", "mae", "r2", "median_ae"])
def test_delta_and_bootstrap_agree_on_many_rows(name: str) -> None:
    predictions = read(regression(np.random.default_rng(4), 4000))
    metric = METRICS[REGRESSION][name]
    pair = [
        estimate([(metric.build(predictions), metric)], np.random.default_rng(0), resample=resample)[0]
        for resample in (True, False)
    ]
    assert [found.method for found in pair] == ["bootstrap", "delta"]
    widths = [found.high(0.025) - found.low(0.025) for found in pair]
    assert widths[0] == pytest.approx(widths[1], rel=0.12)


def test_many_rows_take_the_delta_method() -> None:
    assert limits("rmse", read(regression(np.random.default_rng(0), 6000)))[3] == "delta"
    assert limits("average_precision", read(binary(np.random.default_rng(0), 6000)))[3] == "delta"


def test_limits_stay_in_the_range_of_the_metric() -> None:
    found = DeltaEstimate(0.99, 0.05, bounds=(0.0, 1.0))
    assert 0.0 < found.low(1e-6) < found.high(1e-6) < 1.0
    loss = DeltaEstimate(0.1, 0.2, bounds=(0.0, float("inf")))
    assert loss.low(0.025) > 0
    r2 = DeltaEstimate(0.9, 0.1, bounds=(-float("inf"), 1.0))
    assert r2.high(0.001) < 1.0


@pytest.mark.parametrize("make", [binary, multiclass, regression])
def test_limits_widen_with_the_level_far_beyond_the_resamples(make: object) -> None:
    predictions = read(make(np.random.default_rng(5), 120))
    for name, metric in METRICS[predictions.kind].items():
        if metric.quantiles:
            continue
        found = estimate([(metric.build(predictions), metric)], np.random.default_rng(0))[0]
        tails = [0.2, 0.025, 0.005, 1e-3, 1e-4, 1e-6]
        lows, highs = [found.low(tail) for tail in tails], [found.high(tail) for tail in tails]
        assert lows == sorted(lows, reverse=True), name
        assert highs == sorted(highs), name
        assert metric.low <= lows[-1] <= found.value <= highs[-1] <= metric.high or name == "ece"


@pytest.mark.parametrize("name", ["roc_auc", "log_loss", "accuracy", "average_precision"])
def test_p_values_invert_the_limits(name: str) -> None:
    metric = METRICS[BINARY][name]
    found = estimate(
        [(metric.build(read(binary(np.random.default_rng(6), 90))), metric)], np.random.default_rng(0)
    )[0]
    for tail in (0.2, 0.025, 0.004):
        assert p_value(found, found.low(tail)) == pytest.approx(tail, rel=0.03)
        assert p_value(found, found.high(tail), above=False) == pytest.approx(tail, rel=0.03)


def test_a_difference_of_nothing_is_no_evidence() -> None:
    assert p_value(DeltaEstimate(0.0, 0.0), 0.0) == pytest.approx(1.0)
    assert p_value(DeltaEstimate(0.1, 0.0), 0.0) < 1e-12


@pytest.mark.parametrize("freedom", [4, 10, 30, 200])
@pytest.mark.parametrize("level", [0.001, 0.025, 0.2, 0.5, 0.9, 0.995])
def test_student_quantiles(freedom: int, level: float) -> None:
    assert normal.student_quantile(level, freedom) == pytest.approx(
        stats.t.ppf(level, freedom), rel=0.02, abs=1e-9
    )


@pytest.mark.parametrize("z", [-9.0, -3.0, 0.0, 1.0, 5.0])
def test_normal_tails(z: float) -> None:
    assert normal.cumulative(z) == pytest.approx(stats.norm.cdf(z), rel=1e-9)
    if z <= 5:
        assert normal.quantile(normal.cumulative(z)) == pytest.approx(z, abs=1e-6)


SHAPES = [
    (0.3, 2.0),
    (1.0, 11.0),
    (4.0, 1.0),
    (3.0, 8.5),
    (60.0, 41.0),
    (950.0, 51.0),
    (9e4, 2e4),
    (3.0, 1e6),
]


@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("level", [1e-6, 1e-3, 0.025, 0.5, 0.975, 0.99999])
def test_beta_quantiles(a: float, b: float, level: float) -> None:
    found = beta.quantile(level, a, b)
    assert found == pytest.approx(stats.beta.ppf(level, a, b), rel=1e-7, abs=1e-12)
    if found > 1e-9:
        assert beta.cumulative(found, a, b) == pytest.approx(level, rel=1e-6)


def test_beta_outside_its_range() -> None:
    assert beta.cumulative(-1.0, 2, 3) == 0.0 and beta.cumulative(1.5, 2, 3) == 1.0
