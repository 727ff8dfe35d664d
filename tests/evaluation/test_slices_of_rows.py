"""Declared slices are measured, small ones are unknown; weak slices nobody declared are found, and only real ones."""

from __future__ import annotations

import numpy as np
import pytest
from judged_samples import binary, multilabel, read, regression

from modelworks.core.errors import TaskError
from modelworks.core.signature import MISSING_DATETIME
from modelworks.evaluation import evaluate
from modelworks.evaluation.found_slices import found_slices
from modelworks.evaluation.metrics import find_metric
from modelworks.evaluation.slices import value_groups


def test_categories_get_their_names_and_rare_ones_are_pooled() -> None:
    labels = np.array(["a"] * 500 + ["b"] * 400 + [""] * 90 + ["rare"] * 5 + ["rarer"] * 5, dtype=object)
    group, names = value_groups(labels)
    assert names == ["a", "b", "(missing)", "(other)"]
    assert np.bincount(group).tolist() == [500, 400, 90, 10]


def test_numbers_are_cut_at_their_quartiles() -> None:
    values = np.append(np.arange(1000, dtype=np.float32), [np.nan] * 50)
    group, names = value_groups(values)
    assert names == ["below 249.8", "249.8 to 499.5", "499.5 to 749.2", "749.2 and above", "(missing)"]
    assert np.bincount(group).tolist() == [250, 250, 250, 250, 50]


def test_few_numbers_are_values() -> None:
    group, names = value_groups(np.array([0.0, 1.0, 1.0, 3.5]))
    assert names == ["0", "1", "3.5"] and group.tolist() == [0, 1, 1, 2]


def test_moments_are_shown_as_dates() -> None:
    days = (
        np.arange("2024-01-01", "2024-04-10", dtype="datetime64[D]").astype("datetime64[us]").astype(np.int64)
    )
    group, names = value_groups(np.append(days, MISSING_DATETIME))
    assert names[0] == "below 2024-01-25" and names[-1] == "(missing)"
    assert group[-1] == len(names) - 1


def test_skewed_numbers_keep_all_their_rows() -> None:
    group, names = value_groups(np.append(np.zeros(900), np.arange(1, 101)))
    assert np.bincount(group, minlength=len(names)).sum() == 1000


def test_a_slice_equals_the_metric_on_its_rows() -> None:
    rng = np.random.default_rng(0)
    sample = binary(rng, 1000)
    place = rng.choice(["north", "south"], 1000)
    record = evaluate(*sample, slices={"place": place.astype(object)})
    metric = find_metric("roc_auc", sample[0])
    for item in record["slices"]:
        member = place == item["group"]
        assert item["value"] == pytest.approx(metric.build(read(sample).take(member)).value())
        assert item["n"] == member.sum() and item["status"] == "measured"
        assert item["low"] < item["value"] < item["high"]
        assert item["chance"] == 0.5


def test_a_small_slice_is_unknown_not_passed() -> None:
    rng = np.random.default_rng(1)
    sample = regression(rng, 500)
    place = np.array(["big"] * 430 + ["small"] * 70, dtype=object)
    small = next(
        item for item in evaluate(*sample, slices={"place": place})["slices"] if item["group"] == "small"
    )
    assert small["status"] == "unknown" and small["reason"] == "70 rows; 100 are needed"
    assert small["value"] is not None


def test_a_slice_without_both_classes_is_unknown() -> None:
    kind, outputs, truth, classes = binary(np.random.default_rng(2), 600)
    place = np.where(truth == 1, "ill", "well").astype(object)
    for item in evaluate(kind, outputs, truth, classes, slices={"state": place})["slices"]:
        assert item["status"] == "unknown" and item["value"] is None
        assert "not defined" in item["reason"]


def test_a_slice_column_of_another_length_is_refused() -> None:
    with pytest.raises(TaskError, match="'place' has 3 values for 50 rows"):
        evaluate(*binary(np.random.default_rng(0), 50), slices={"place": np.array(["a", "b", "c"])})


@pytest.mark.parametrize("make", [binary, regression, multilabel])
def test_a_planted_weak_pair_is_found(make: object) -> None:
    rng = np.random.default_rng(3)
    kind, outputs, truth, classes = make(rng, 3000)
    columns = {
        "city": rng.choice(["Bern", "Rome", "Oslo"], 3000).astype(object),
        "age": rng.uniform(18, 90, 3000).astype(np.float32),
        "noise": rng.normal(size=3000).astype(np.float32),
    }
    weak = (columns["city"] == "Rome") & (columns["age"] >= np.quantile(columns["age"], 0.75))
    name = "prediction" if "prediction" in outputs else "probabilities"
    spoiled = outputs[name].copy()
    spoiled[weak] = spoiled[weak] + 3 if name == "prediction" else spoiled[weak][:, ::-1]
    found = found_slices(read((kind, {name: spoiled}, truth, classes)), columns)
    best = found[0]
    assert {column for column, _ in best["where"]} == {"city", "age"}
    assert "city = Rome" in best["slice"]
    assert best["n"] == weak.sum()
    assert best["low"] > 0 and best["p_adjusted"] < 0.001
    assert not any("noise" in item["slice"] for item in found)


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(60):
        columns = {f"c{k}": rng.normal(size=600).astype(np.float32) for k in range(6)}
        columns |= {f"k{k}": rng.choice(list("abcd"), 600).astype(object) for k in range(6)}
        alarms += bool(found_slices(read(binary(rng, 600)), columns))
    assert alarms / 60 <= 0.12


def test_small_tables_and_no_columns_are_not_searched() -> None:
    sample = read(binary(np.random.default_rng(5), 90))
    assert found_slices(sample, {"a": np.arange(90.0)}) == []
    assert found_slices(read(binary(np.random.default_rng(5), 900)), {}) == []
