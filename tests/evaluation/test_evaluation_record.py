"""The whole evaluation: plain JSON, complete, repeatable, and right in its parts."""

from __future__ import annotations

import json

import numpy as np
import pytest
from judged_samples import BINARY, MULTICLASS, REGRESSION, binary, multiclass, multilabel, read, regression

from modelworks.core.digest import canonical_json
from modelworks.core.verdict import Measure
from modelworks.evaluation import evaluate
from modelworks.evaluation.calibration import calibration

MAKERS = [binary, multiclass, regression, multilabel]


@pytest.mark.parametrize("rows", [1, 2, 5, 40, 700])
@pytest.mark.parametrize("make", MAKERS)
def test_every_size_gives_plain_json_and_measures_that_read_back(make: object, rows: int) -> None:
    rng = np.random.default_rng(rows)
    sample = make(rng, rows)
    columns = {
        "a": rng.normal(size=rows).astype(np.float32),
        "b": rng.choice(["x", "y", ""], rows).astype(object),
    }
    record = evaluate(*sample, slices={"b": columns["b"]}, columns=columns)
    assert json.loads(canonical_json(record)) == json.loads(json.dumps(record))
    for item in record["measures"]:
        measure = Measure.from_json(item)
        assert measure.low <= measure.high
    assert {item["name"] for item in record["measures"]}.isdisjoint(record["undefined"])


@pytest.mark.parametrize("make", MAKERS)
def test_one_seed_one_answer(make: object) -> None:
    sample = make(np.random.default_rng(0), 90)
    assert evaluate(*sample, seed=4) == evaluate(*sample, seed=4)


def test_the_primary_metric_comes_first_and_the_asked_ones_are_there() -> None:
    record = evaluate(*regression(np.random.default_rng(0), 90), metric="mae", also=["rmsle", "r2"])
    names = [item["name"] for item in record["measures"]]
    assert names[0] == record["metric"] == "mae"
    assert {"rmsle", "r2", "rmse"} <= set(names)
    assert record["higher_is_better"] is False


def test_one_class_in_the_test_rows_leaves_the_ranking_undefined() -> None:
    kind, outputs, truth, classes = binary(np.random.default_rng(0), 40)
    record = evaluate(kind, outputs, np.zeros_like(truth), classes)
    assert record["undefined"]["roc_auc"] == "all judged rows are of class 'no'"
    assert "log_loss" in {item["name"] for item in record["measures"]}


def test_later_looks_widen_the_gate_limits_but_not_the_intervals() -> None:
    sample = binary(np.random.default_rng(0), 200)
    first, tenth = evaluate(*sample, look=1), evaluate(*sample, look=10)
    assert first["measures"] == tenth["measures"]
    for name, (low, high) in tenth["gate_limits"].items():
        assert low <= first["gate_limits"][name][0] <= first["gate_limits"][name][1] <= high
    assert tenth["gate_limits"]["roc_auc"][0] < first["gate_limits"]["roc_auc"][0] - 0.02
    assert tenth["gate_level"] == pytest.approx(1 - 2 * 0.05 / 110)


def test_chance_is_what_one_constant_answer_reaches() -> None:
    sample = binary(np.random.default_rng(0), 2000, positives=0.25)
    share = sample[2].mean()
    chance = evaluate(*sample)["chance"]
    assert chance["roc_auc"] == 0.5
    assert chance["average_precision"] == pytest.approx(share)
    assert chance["accuracy"] == pytest.approx(1 - share)
    assert chance["log_loss"] == pytest.approx(-share * np.log(share) - (1 - share) * np.log(1 - share))
    numbers = regression(np.random.default_rng(0), 500)
    assert evaluate(*numbers)["chance"]["rmse"] == pytest.approx(numbers[2].std())


def test_confusion_counts_rows_by_true_and_named_class() -> None:
    outputs = {"probabilities": np.eye(3)[[0, 1, 1, 2, 2, 2]]}
    record = evaluate(MULTICLASS, outputs, np.array([0, 1, 0, 2, 2, 1]), list("abc"))
    assert record["confusion"] == {"labels": ["a", "b", "c"], "counts": [[1, 1, 0], [0, 1, 1], [0, 0, 2]]}
    assert record["class_rows"] == [2, 2, 2]


def test_many_classes_show_the_most_frequent_mistakes() -> None:
    truth = np.repeat(np.arange(60), 5)
    named = truth.copy()
    named[truth == 7] = 9
    names = [f"k{code}" for code in range(60)]
    record = evaluate(MULTICLASS, {"probabilities": np.eye(60)[named]}, truth, names)
    assert record["confusion"]["most_confused"] == [{"true": "k7", "named": "k9", "count": 5.0}]
    assert "roc_auc_ovr" not in {item["name"] for item in record["measures"]}


def test_curves_run_from_corner_to_corner_and_enclose_the_area() -> None:
    record = evaluate(*binary(np.random.default_rng(0), 5000))
    roc = record["curves"]["roc"]
    assert (roc["x"][0], roc["y"][0], roc["x"][-1], roc["y"][-1]) == (0, 0, 1, 1)
    assert len(roc["x"]) <= 102
    area = next(item["value"] for item in record["measures"] if item["name"] == "roc_auc")
    assert np.trapezoid(roc["y"], roc["x"]) == pytest.approx(area, abs=0.01)
    assert record["curves"]["pr"]["x"][-1] == 1.0


def test_the_threshold_table_equals_a_count() -> None:
    sample = binary(np.random.default_rng(0), 400)
    score, hit = sample[1]["probabilities"][:, 1].astype(float), sample[2] == 1
    for row in evaluate(*sample)["thresholds"]:
        flagged = score >= row["threshold"]
        assert row["precision"] == pytest.approx(hit[flagged].mean())
        assert row["recall"] == pytest.approx((flagged & hit).sum() / hit.sum())
        assert row["false_positive_rate"] == pytest.approx((flagged & ~hit).sum() / (~hit).sum())
        assert row["flagged"] == pytest.approx(flagged.mean())


def test_residuals_are_counted_once_and_thinned() -> None:
    record = evaluate(*regression(np.random.default_rng(0), 3000))
    assert sum(record["residuals"]["histogram"]["counts"]) == 3000
    assert len(record["scatter"]["truth"]) == len(record["scatter"]["predicted"]) == 400
    assert sum(row["n"] for row in record["residuals"]["by_decile"]) == 3000


def test_intervals_of_a_regression_are_judged() -> None:
    rng = np.random.default_rng(0)
    kind, outputs, truth, _ = regression(rng, 800)
    spread = np.array([-1.645, 0.0, 1.645])
    outputs["quantiles"] = outputs["prediction"][:, None] + spread
    record = evaluate(kind, outputs, truth, quantiles=(0.05, 0.5, 0.95))
    measures = {item["name"]: item for item in record["measures"]}
    assert measures["interval_coverage"]["low"] < 0.9 < measures["interval_coverage"]["high"]
    assert measures["interval_width"]["value"] == pytest.approx(3.29, abs=1e-6)


def test_each_label_is_reported_on_its_known_rows() -> None:
    kind, outputs, truth, classes = multilabel(np.random.default_rng(0), 300)
    truth[:100, 0] = 255
    truth[:, 1] = 255
    labels = evaluate(kind, outputs, truth, classes)["labels"]
    assert [item["n"] for item in labels] == [200, 0, 300, 300]
    assert labels[1]["roc_auc"] is None and labels[1]["f1"] is None
    assert labels[2]["roc_auc"] > 0.7


def test_calibration_of_an_honest_and_an_overconfident_model() -> None:
    kind, outputs, truth, classes = binary(np.random.default_rng(0), 4000)
    honest = evaluate(kind, outputs, truth, classes)["calibration"]
    odds = np.log(outputs["probabilities"][:, 1]) - np.log(outputs["probabilities"][:, 0])
    sharper = 1 / (1 + np.exp(-2.5 * odds))
    loud = evaluate(kind, {"probabilities": np.stack([1 - sharper, sharper], axis=1)}, truth, classes)[
        "calibration"
    ]
    assert not honest["miscalibrated"] and loud["miscalibrated"]
    assert loud["ece"] > 3 * honest["ece"]
    assert honest["ece_debiased"] < honest["ece"]
    held = [item["low"] <= item["predicted"] <= item["high"] for item in honest["bins"]]
    assert np.mean(held) > 0.8
    assert sum(item["n"] for item in honest["bins"]) == 4000
    parts = honest["brier"]
    assert parts["score"] == pytest.approx(
        parts["reliability"] - parts["resolution"] + parts["uncertainty"], abs=2e-3
    )


def test_a_calibrated_model_is_called_miscalibrated_one_time_in_twenty() -> None:
    rng = np.random.default_rng(11)
    alarms = sum(calibration(read(binary(rng, 300)))["miscalibrated"] for _ in range(200))
    assert 1 <= alarms <= 24


def test_weights_move_the_measures_as_repeated_rows_do() -> None:
    kind, outputs, truth, classes = binary(np.random.default_rng(0), 150)
    counts = np.random.default_rng(1).integers(1, 4, 150)
    weighted = evaluate(kind, outputs, truth, classes, weight=counts)
    repeated = evaluate(
        kind,
        {"probabilities": outputs["probabilities"].repeat(counts, axis=0)},
        truth.repeat(counts),
        classes,
    )
    for one, two in zip(weighted["measures"], repeated["measures"], strict=True):
        if one["name"] != "ece":
            assert one["value"] == pytest.approx(two["value"], rel=1e-6)
    assert weighted["weighted"] and not repeated["weighted"]


def test_kinds_of_this_room_only() -> None:
    assert (
        evaluate(BINARY, {"probabilities": np.full((4, 2), 0.5)}, np.array([0, 1, 0, 1]), ["a", "b"])["rows"]
        == 4
    )
    assert evaluate(REGRESSION, {"prediction": np.zeros(3)}, np.arange(3.0))["calibration"] is None
