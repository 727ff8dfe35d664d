"""Metric values equal scikit-learn's: ties, weights, degenerate classes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from judged_samples import (
    BINARY,
    MULTICLASS,
    MULTILABEL,
    REGRESSION,
    binary,
    multiclass,
    multilabel,
    read,
    regression,
)
from sklearn import metrics as sk

from modelworks.evaluation.metrics import METRICS
from modelworks.evaluation.predictions import Predictions, read_outputs
from modelworks.evaluation.ranking import AveragePrecision, random_order


def value(name: str, predictions: Predictions) -> float:
    return METRICS[predictions.kind][name].build(predictions).value()


def weights(rng: np.random.Generator, rows: int, kind: str) -> np.ndarray | None:
    if kind == "none":
        return None
    if kind == "counts":
        return rng.integers(0, 4, rows).astype(float) + (np.arange(rows) == 0)
    return rng.random(rows) + 0.1


WEIGHTS = pytest.mark.parametrize("weighting", ["none", "counts", "reals"])
ROWS = pytest.mark.parametrize("rows", [12, 300])


@WEIGHTS
@ROWS
@pytest.mark.parametrize("ties", [False, True])
def test_binary(rows: int, weighting: str, ties: bool) -> None:
    rng = np.random.default_rng(rows)
    kind, outputs, truth, classes = binary(rng, rows)
    truth[:2] = [0, 1]
    if ties:
        outputs = {"probabilities": np.round(outputs["probabilities"], 1)}
    weight = weights(rng, rows, weighting)
    predictions = read_outputs(kind, outputs, truth, classes, weight=weight)
    score, label = predictions.scores, predictions.label
    w = {"sample_weight": weight}
    expected = {
        "roc_auc": sk.roc_auc_score(truth, score, **w),
        "average_precision": sk.average_precision_score(truth, score, **w),
        "accuracy": sk.accuracy_score(truth, label, **w),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, label, **w),
        "f1": sk.f1_score(truth, label, **w),
        "macro_f1": sk.f1_score(truth, label, average="macro", **w),
        "recall": sk.recall_score(truth, label, **w),
        "mcc": sk.matthews_corrcoef(truth, label, **w),
        "brier": sk.brier_score_loss(truth, score, **w),
        "log_loss": sk.log_loss(truth, np.clip(predictions.probabilities, 2**-23, 1 - 2**-23), **w),
    }
    if label.any():
        expected["precision"] = sk.precision_score(truth, label, **w)
    assert {name: value(name, predictions) for name in expected} == pytest.approx(
        expected, rel=1e-6, abs=1e-9
    )


@WEIGHTS
@ROWS
def test_multiclass(rows: int, weighting: str) -> None:
    rng = np.random.default_rng(rows)
    kind, outputs, truth, classes = multiclass(rng, rows, (0.5, 0.3, 0.2))
    truth[:3] = [0, 1, 2]
    weight = weights(rng, rows, weighting)
    if weight is not None:
        weight[:3] = 1.0
    predictions = read_outputs(kind, outputs, truth, classes, weight=weight)
    p, label = predictions.probabilities, predictions.label
    w = {"sample_weight": weight}
    areas = [sk.roc_auc_score(truth == k, p[:, k], **w) for k in range(3)]
    one_hot = np.eye(3)[truth]
    expected = {
        "accuracy": sk.accuracy_score(truth, label, **w),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, label, **w),
        "macro_f1": sk.f1_score(truth, label, average="macro", **w),
        "mcc": sk.matthews_corrcoef(truth, label, **w),
        "log_loss": sk.log_loss(truth, p, labels=[0, 1, 2], **w),
        "roc_auc_ovr": np.mean(areas),
        "brier": np.average(((p - one_hot) ** 2).sum(axis=1), weights=weight),
    }
    assert {name: value(name, predictions) for name in expected} == pytest.approx(expected, rel=1e-6)


@WEIGHTS
def test_regression(weighting: str) -> None:
    rng = np.random.default_rng(3)
    kind, outputs, truth, _ = regression(rng, 301)
    quantiles = truth[:, None] + rng.normal(size=(301, 3)).cumsum(axis=1) - 1
    weight = weights(rng, 301, weighting)
    predictions = read_outputs(
        kind, {**outputs, "quantiles": quantiles}, truth, (), weight=weight, quantiles=(0.1, 0.5, 0.9)
    )
    predicted = outputs["prediction"]
    w = {"sample_weight": weight}
    inside = (truth >= quantiles[:, 0]) & (truth <= quantiles[:, 2])
    expected = {
        "rmse": sk.root_mean_squared_error(truth, predicted, **w),
        "mae": sk.mean_absolute_error(truth, predicted, **w),
        "r2": sk.r2_score(truth, predicted, **w),
        "mape": sk.mean_absolute_percentage_error(truth, predicted, **w),
        "rmsle": sk.root_mean_squared_log_error(truth, predicted, **w),
        "quantile_loss": np.mean(
            [
                sk.mean_pinball_loss(truth, quantiles[:, k], alpha=a, **w)
                for k, a in enumerate((0.1, 0.5, 0.9))
            ]
        ),
        "interval_coverage": np.average(inside, weights=weight),
        "interval_width": np.average(quantiles[:, 2] - quantiles[:, 0], weights=weight),
        "smape": np.average(2 * abs(predicted - truth) / (abs(predicted) + abs(truth)), weights=weight),
    }
    assert {name: value(name, predictions) for name in expected} == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 9, 10])
def test_median_error_of_plain_rows(rows: int) -> None:
    sample = regression(np.random.default_rng(rows), rows)
    expected = sk.median_absolute_error(sample[2], sample[1]["prediction"])
    assert value("median_ae", read(sample)) == pytest.approx(expected)


def test_median_error_of_counted_rows_is_that_of_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    kind, outputs, truth, _ = regression(rng, 40)
    counts = rng.integers(0, 4, 40)
    weighted = read_outputs(kind, outputs, truth, (), weight=counts)
    repeated = read_outputs(
        kind, {"prediction": outputs["prediction"].repeat(counts)}, truth.repeat(counts), ()
    )
    assert value("median_ae", weighted) == pytest.approx(value("median_ae", repeated))


@WEIGHTS
def test_multilabel_with_unknown_cells(weighting: str) -> None:
    rng = np.random.default_rng(5)
    kind, outputs, truth, classes = multilabel(rng, 200)
    truth[rng.random(truth.shape) < 0.2] = 255
    weight = weights(rng, 200, weighting)
    predictions = read_outputs(kind, outputs, truth, classes, weight=weight)
    p, label = predictions.probabilities, predictions.label
    w = np.ones(200) if weight is None else weight
    areas, precisions, scores, right, losses, mass = [], [], [], 0.0, 0.0, 0.0
    for k in range(truth.shape[1]):
        known = truth[:, k] != 255
        single, named, weigh = truth[known, k], label[known, k], w[known]
        areas.append(sk.roc_auc_score(single, p[known, k], sample_weight=weigh))
        precisions.append(sk.average_precision_score(single, p[known, k], sample_weight=weigh))
        scores.append(sk.f1_score(single, named, sample_weight=weigh))
        right += weigh[single == named].sum()
        losses += sk.log_loss(single, p[known, k], sample_weight=weigh, normalize=False)
        mass += weigh.sum()
    expected = {
        "roc_auc_macro": np.mean(areas),
        "average_precision_macro": np.mean(precisions),
        "macro_f1": np.mean(scores),
        "mean_accuracy": right / mass,
        "log_loss": losses / mass,
    }
    assert {name: value(name, predictions) for name in expected} == pytest.approx(expected, rel=1e-5)


def test_degenerate_truths_are_undefined_not_wrong() -> None:
    ones = read_outputs(BINARY, {"probabilities": np.full((5, 2), 0.5)}, np.ones(5, int), ["a", "b"])
    assert np.isnan(value("roc_auc", ones))
    assert value("average_precision", ones) == 1.0
    nobody = read_outputs(
        BINARY, {"probabilities": np.tile([0.9, 0.1], (5, 1))}, np.array([0, 0, 1, 1, 0]), ["a", "b"]
    )
    assert np.isnan(value("precision", nobody))
    assert value("f1", nobody) == 0.0
    assert value("mcc", nobody) == 0.0
    flat = read_outputs(REGRESSION, {"prediction": np.arange(4.0)}, np.zeros(4), ())
    assert np.isnan(value("r2", flat))
    assert np.isnan(value("mape", flat))
    assert value("smape", flat) == pytest.approx(1.5)


def test_a_class_that_never_occurs_is_left_out_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 50)
    p = rng.dirichlet(np.ones(4), 50)
    p[:, 3] = 0
    predictions = read_outputs(MULTICLASS, {"probabilities": p}, truth, list("abcd"))
    label = predictions.label
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert value("balanced_accuracy", predictions) == pytest.approx(
            sk.balanced_accuracy_score(truth, label)
        )
        assert value("macro_f1", predictions) == pytest.approx(sk.f1_score(truth, label, average="macro"))
    areas = [sk.roc_auc_score(truth == k, predictions.probabilities[:, k]) for k in range(3)]
    assert value("roc_auc_ovr", predictions) == pytest.approx(np.mean(areas))


def test_calibration_error_by_hand() -> None:
    p = np.repeat([0.1, 0.3, 0.6, 0.9], 50)
    truth = np.concatenate([np.arange(50) < count for count in (10, 15, 20, 45)]).astype(int)
    predictions = read_outputs(BINARY, {"probabilities": np.stack([1 - p, p], axis=1)}, truth, ["no", "yes"])
    assert value("ece", predictions) == pytest.approx((0.1 + 0.0 + 0.2 + 0.0) / 4)


def test_labels_of_the_graph_decide_not_the_larger_probability() -> None:
    outputs = {
        "probabilities": np.tile([0.7, 0.3], (4, 1)),
        "label": np.array(["yes", "yes", "no", "no"], dtype=object),
    }
    predictions = read_outputs(BINARY, outputs, np.array([1, 1, 0, 1]), ["no", "yes"])
    assert value("accuracy", predictions) == 0.75


def test_the_positive_class_may_be_the_first() -> None:
    sample = binary(np.random.default_rng(0), 80)
    first, second = read(sample, positive="no"), read(sample)
    assert value("roc_auc", first) == pytest.approx(value("roc_auc", second))
    assert value("recall", first) == pytest.approx(sk.recall_score(sample[2], second.label, pos_label=0))


@pytest.mark.parametrize("kind", [BINARY, MULTICLASS, REGRESSION, MULTILABEL])
def test_every_metric_knows_its_range(kind: object) -> None:
    make = {BINARY: binary, MULTICLASS: multiclass, REGRESSION: regression, MULTILABEL: multilabel}[kind]
    predictions = read(make(np.random.default_rng(2), 120))
    for metric in METRICS[kind].values():
        if metric.quantiles:
            continue
        found = metric.build(predictions).value()
        blind = metric.build(predictions.uninformed()).value()
        assert metric.low <= found <= metric.high
        if np.isfinite(blind) and metric.name != "ece":
            assert (found > blind) == metric.higher_is_better, metric.name


@pytest.mark.parametrize(("rows", "positives"), [(12, 3), (80, 32)])
def test_what_a_random_order_reaches(rows: int, positives: int) -> None:
    rng = np.random.default_rng(0)
    hit = np.arange(rows) < positives
    drawn = [AveragePrecision(rng.random(rows), hit).value() for _ in range(6000)]
    found = random_order(AveragePrecision(rng.random(rows), hit))
    assert found == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 6000**0.5)
    assert found > positives / rows
