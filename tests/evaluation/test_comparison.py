"""Paired comparison: exact where exact forms exist, oriented so that above zero is better, honest about margins."""

from __future__ import annotations

import numpy as np
import pytest
from judged_samples import (
    BINARY,
    FORECAST,
    REGRESSION,
    anomaly,
    binary,
    constant,
    forecast,
    multiclass,
    multilabel,
    regression,
)
from scipy import stats

from modelworks.core.digest import canonical_json
from modelworks.evaluation import METRICS, compare
from modelworks.evaluation.comparison import PairedShares

MAKERS = [binary, multiclass, regression, multilabel, anomaly, forecast]


@pytest.mark.parametrize("make", MAKERS)
def test_a_good_model_beats_a_constant_in_every_metric_that_can_tell(make: object) -> None:
    sample = make(np.random.default_rng(0), 400)
    kind, outputs, truth, classes = sample
    for name, metric in METRICS[kind].items():
        if metric.quantiles or name == "ece":
            continue
        found = compare(kind, outputs, constant(sample), truth, classes, metric=name)
        canonical_json(found)
        if found["undefined"]:
            # The constant model names nobody; events and naive errors need the series of each row.
            assert name in ("precision", "mase") or metric.ordered
            continue
        if name == "false_alarm_rate":  # who never alarms has no false alarms
            assert found["difference"] < 0
            continue
        assert found["constant"] and found["difference"] > 0 and found["better"], name
        assert found["p_value"] < 0.025 and found["not_worse"] and not found["worse"], name
        assert found["low"] <= found["difference"] <= found["high"], name


@pytest.mark.parametrize("make", MAKERS)
def test_turned_round_the_comparison_changes_sign(make: object) -> None:
    kind, outputs, truth, classes = sample = make(np.random.default_rng(1), 300)
    metric = "mae" if kind is FORECAST else None
    there = compare(kind, outputs, constant(sample), truth, classes, metric=metric)
    back = compare(kind, constant(sample), outputs, truth, classes, metric=metric)
    assert back["difference"] == pytest.approx(-there["difference"])
    assert back["worse"] and not back["better"] and not back["not_worse"]
    assert back["p_value"] > 0.9


@pytest.mark.parametrize("make", MAKERS)
def test_a_model_is_not_worse_than_itself(make: object) -> None:
    kind, outputs, truth, classes = make(np.random.default_rng(2), 120)
    metric = "mae" if kind is FORECAST else None
    found = compare(kind, outputs, outputs, truth, classes, metric=metric)
    assert found["difference"] == 0.0
    assert not found["better"] and not found["worse"]
    if (
        found["method"] != "mcnemar"
    ):  # an exact test on no disagreement still says no more than the rows allow
        assert found["not_worse"]


def test_accuracy_is_tested_as_mcnemar_does() -> None:
    truth = np.zeros(100, dtype=int)
    first, second = np.zeros(100, dtype=int), np.zeros(100, dtype=int)
    second[:14] = 1
    first[14:18] = 1
    outputs = [{"probabilities": np.eye(2)[label]} for label in (first, second)]
    found = compare(BINARY, *outputs, truth, ["no", "yes"], metric="accuracy")
    assert found["method"] == "mcnemar"
    assert found["p_value"] == pytest.approx(stats.binomtest(14, 18, alternative="greater").pvalue)
    assert found["difference"] == pytest.approx(0.10)


def test_limits_of_a_paired_difference_hold_the_truth() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        gained, lost, _ = rng.multinomial(80, [0.12, 0.05, 0.83])
        found = PairedShares(int(gained), int(lost), 80)
        held += found.low(0.025) <= 0.07 <= found.high(0.025)
    assert held / 400 > 0.93


def test_the_paired_test_sees_what_two_separate_intervals_would_miss() -> None:
    rng = np.random.default_rng(4)
    kind, outputs, truth, classes = regression(rng, 300)
    worse = {"prediction": outputs["prediction"] + 0.5 * (outputs["prediction"] > truth)}
    found = compare(kind, outputs, worse, truth, classes, metric="mae")
    spread = np.abs(outputs["prediction"] - truth).std() / np.sqrt(300)
    assert found["better"]
    assert found["high"] - found["low"] < 1.96 * spread * 2


def test_delong_on_two_models() -> None:
    rng = np.random.default_rng(5)
    kind, outputs, truth, classes = binary(rng, 300)
    noisy = outputs["probabilities"][:, 1] + 0.2 * rng.normal(size=300)
    noisy = (noisy - noisy.min()) / np.ptp(noisy)
    other = {"probabilities": np.stack([1 - noisy, noisy], axis=1)}
    found = compare(kind, outputs, other, truth, classes)
    assert found["method"] == "delong"
    hit = truth == 1

    def wins(score: np.ndarray) -> np.ndarray:
        return (score[hit][:, None] > score[~hit]) + 0.5 * (score[hit][:, None] == score[~hit])

    gap = wins(outputs["probabilities"][:, 1].astype(float)) - wins(noisy)
    error = np.sqrt(gap.mean(axis=1).var(ddof=1) / hit.sum() + gap.mean(axis=0).var(ddof=1) / (~hit).sum())
    assert found["difference"] == pytest.approx(gap.mean(), abs=1e-6)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * error, rel=0.03)


def test_margins_are_absolute_on_fixed_scales_and_relative_on_losses() -> None:
    numbers, choices = regression(np.random.default_rng(6), 200), binary(np.random.default_rng(6), 200)
    loss = compare(*numbers[:2], constant(numbers), *numbers[2:])
    assert loss["margin"] == pytest.approx(0.02 * loss["other"])
    assert compare(*choices[:2], constant(choices), *choices[2:])["margin"] == 0.01
    own = compare(*choices[:2], constant(choices), *choices[2:], margin=0.2)
    assert own["margin"] == 0.2


def test_later_looks_ask_for_more() -> None:
    rng = np.random.default_rng(7)
    sample = binary(rng, 60, effect=0.75)
    early, late = (compare(*sample[:2], constant(sample), *sample[2:], look=look) for look in (1, 15))
    assert early["p_value"] == late["p_value"]
    assert late["gate_low"] < early["gate_low"]
    assert early["better"] and not late["better"]


def test_undefined_metrics_are_reported_not_raised() -> None:
    found = compare(
        BINARY,
        {"probabilities": np.full((9, 2), 0.5)},
        {"probabilities": np.full((9, 2), 0.5)},
        np.zeros(9, int),
        ["a", "b"],
    )
    assert "not defined" in found["undefined"]
    assert found["difference"] is None and not found["better"] and not found["not_worse"]
    quantiles = compare(
        REGRESSION,
        {"prediction": np.zeros(9)},
        {"prediction": np.zeros(9)},
        np.arange(9.0),
        metric="quantile_loss",
    )
    assert quantiles["undefined"] == "one of the models predicts no quantiles"


def test_each_slice_is_compared() -> None:
    rng = np.random.default_rng(8)
    kind, outputs, truth, classes = multiclass(rng, 900)
    place = rng.choice(["north", "south", "tiny"], 900, p=[0.6, 0.35, 0.05])
    spoiled = outputs["probabilities"].copy()
    south = place == "south"
    spoiled[south] = rng.dirichlet(np.ones(3), south.sum())
    found = compare(kind, {"probabilities": spoiled}, outputs, truth, classes, slices={"place": place})
    by_name = {item["slice"]: item for item in found["slices"]}
    assert by_name["place = south"]["p_worse"] < 1e-4
    assert by_name["place = north"]["p_worse"] > 0.05
    assert by_name["place = tiny"]["status"] == "unknown"


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["roc_auc", "log_loss", "accuracy", "average_precision"])
def test_equal_models_are_called_different_at_the_stated_rate(metric: str) -> None:
    """Two equally noisy copies of one model: 'better' may come out in 2.5 % of the repetitions."""
    rng = np.random.default_rng(9)
    repetitions, better = 240, 0
    for _ in range(repetitions):
        kind, outputs, truth, classes = binary(rng, 100)
        odds = np.log(outputs["probabilities"][:, 1] / outputs["probabilities"][:, 0])
        pair = []
        for _ in range(2):
            p = 1 / (1 + np.exp(-(odds + rng.normal(size=100))))
            pair.append({"probabilities": np.stack([1 - p, p], axis=1)})
        better += compare(kind, *pair, truth, classes, metric=metric)["better"]
    # 13 or more of 240 happen under a rate of 2.5 % less than once in a hundred times.
    assert better < 13
