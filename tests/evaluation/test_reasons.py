"""Importance and explanations through a given graph: known answers, exact sums, bounded cost."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from judged_samples import BINARY, REGRESSION

from modelworks.core.digest import canonical_json
from modelworks.core.errors import UsageError
from modelworks.evaluation import explain, importance

Columns = dict[str, np.ndarray]


class Graph:
    """A known model that counts the rows it is asked for."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, columns: Columns) -> Columns:
        self.rows += len(columns["a"])
        city = np.where(columns["city"] == "Bern", 2.0, 0.0)
        return {"prediction": 3.0 * columns["a"] + city + columns["b"] * columns["c"] + 0.0 * columns["idle"]}


def table(rng: np.random.Generator, rows: int) -> Columns:
    return {
        "a": rng.normal(size=rows).astype(np.float32),
        "b": rng.normal(size=rows).astype(np.float32),
        "c": rng.normal(size=rows).astype(np.float32),
        "idle": rng.normal(size=rows).astype(np.float32),
        "city": rng.choice(["Bern", "Rome", ""], rows).astype(object),
        "when": rng.integers(0, 10**15, rows),
    }


def test_importance_ranks_the_columns_of_a_known_model() -> None:
    rng = np.random.default_rng(0)
    columns, graph = table(rng, 800), Graph()
    truth = graph(columns)["prediction"] + 0.1 * rng.normal(size=800)
    found = importance(graph, columns, truth, REGRESSION, "mae")
    canonical_json(found)
    assert found[0]["column"] == "a"
    by_name = {item["column"]: item for item in found}
    for idle in ("idle", "when"):
        assert by_name[idle]["value"] == 0.0 and by_name[idle]["error"] == 0.0
    for used in ("a", "b", "c", "city"):
        assert by_name[used]["low"] > 0
    assert sum(item["share"] for item in found) == pytest.approx(1.0)
    assert {item["method"] for item in found} == {"permutation importance"}
    assert found[0]["n"] == 500 and found[0]["repeats"] == 2


def test_importance_equals_its_expectation_for_a_linear_model() -> None:
    """Shuffling x in y = x raises the mean squared error by twice the variance of x."""
    rng = np.random.default_rng(1)
    columns = {"x": rng.normal(size=2000).astype(np.float32), "z": rng.normal(size=2000).astype(np.float32)}
    found = importance(
        lambda c: {"prediction": c["x"]},
        columns,
        columns["x"].astype(float),
        REGRESSION,
        "rmse",
        most_rows=2000,
    )
    assert found[0]["column"] == "x"
    assert found[0]["low"] < math.sqrt(2) < found[0]["high"]


def test_the_error_of_an_importance_is_its_spread_over_seeds() -> None:
    rng = np.random.default_rng(2)
    columns = table(rng, 4000)
    truth = Graph()(columns)["prediction"] + rng.normal(size=4000)
    values, errors = [], []
    for seed in range(30):
        found = importance(
            Graph(), {k: columns[k] for k in ("a", "b", "c", "idle", "city")}, truth, REGRESSION, "mae", seed
        )
        item = next(item for item in found if item["column"] == "b")
        values.append(item["value"])
        errors.append(item["error"])
    assert 0.6 < np.std(values, ddof=1) / np.mean(errors) < 1.5


def test_importance_keeps_to_its_predictions_on_wide_tables() -> None:
    rng = np.random.default_rng(3)
    columns = table(rng, 600) | {f"w{k}": rng.normal(size=600).astype(np.float32) for k in range(400)}
    graph = Graph()
    truth = graph(columns)["prediction"]
    graph.rows = 0
    found = importance(graph, columns, truth, REGRESSION, "mae")
    assert graph.rows <= 8000 + 1000
    assert {item["column"] for item in found[:4]} == {"a", "b", "c", "city"}
    assert len(found) == 40


def test_importance_of_a_classifier_on_its_own_metric() -> None:
    rng = np.random.default_rng(4)
    columns = table(rng, 400)

    def predict(c: Columns) -> Columns:
        p = 1 / (1 + np.exp(-2 * c["a"]))
        return {"probabilities": np.stack([1 - p, p], axis=1).astype(np.float32)}

    truth = (rng.random(400) < predict(columns)["probabilities"][:, 1]).astype(np.int64)
    found = importance(predict, columns, truth, BINARY, classes=["no", "yes"])
    assert found[0]["column"] == "a" and found[0]["metric"] == "roc_auc" and found[0]["low"] > 0.1
    assert found[1]["value"] == 0.0


def exact_shapley(graph: Graph, row: Columns, background: Columns) -> dict[str, float]:
    names, count = list(row), len(row)
    rows = len(background["a"])

    def worth(chosen: tuple[str, ...]) -> float:
        mixed = {
            n: np.full(rows, row[n][0], dtype=row[n].dtype) if n in chosen else background[n] for n in names
        }
        return float(graph(mixed)["prediction"].mean())

    found = dict.fromkeys(names, 0.0)
    for name in names:
        others = [other for other in names if other != name]
        for size in range(count):
            share = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            for chosen in itertools.combinations(others, size):
                found[name] += share * (worth((*chosen, name)) - worth(chosen))
    return found


def test_explanations_approach_exact_shapley_values() -> None:
    rng = np.random.default_rng(5)
    background, graph = table(rng, 60), Graph()
    row = {name: values[:1] for name, values in table(rng, 1).items()}
    exact = exact_shapley(graph, row, background)
    found = explain(graph, row, background, most_predictions=2 * 60 * 7)[0]
    canonical_json(found)
    assert found["background_rows"] == 60
    for item in found["contributions"]:
        # Contributions without interaction are exact; the product of b and c is estimated.
        close = 1e-5 if item["column"] in ("a", "idle", "city", "when") else 4 * item["error"] + 1e-6
        assert abs(item["contribution"] - exact[item["column"]]) < close, item["column"]


@pytest.mark.parametrize("most", [30, 300, 5000])
def test_contributions_and_base_add_up_to_the_prediction(most: int) -> None:
    rng = np.random.default_rng(6)
    background, rows = table(rng, 200), table(rng, 3)
    graph = Graph()
    for index, found in enumerate(explain(graph, rows, background, most_predictions=most)):
        expected = graph({name: values[index : index + 1] for name, values in rows.items()})["prediction"][0]
        assert found["prediction"] == pytest.approx(float(expected))
        total = found["base"] + sum(item["contribution"] for item in found["contributions"])
        assert total == pytest.approx(found["prediction"], abs=1e-5)
    assert graph.rows <= 3 * (max(most, 28) + 2) + 3


def test_the_stated_error_is_that_of_the_walks() -> None:
    rng = np.random.default_rng(7)
    background, graph = table(rng, 400), Graph()
    row = {name: values[:1] for name, values in table(rng, 1).items()}
    runs = [explain(graph, row, background, most_predictions=700, seed=seed)[0] for seed in range(60)]
    for column in ("a", "b"):
        items = [next(i for i in run["contributions"] if i["column"] == column) for run in runs]
        spread = np.std([item["contribution"] for item in items], ddof=1)
        assert 0.6 < spread / np.mean([item["error"] for item in items]) < 1.5


def test_the_class_to_explain_can_be_named() -> None:
    rng = np.random.default_rng(8)
    background = table(rng, 50)
    row = {name: values[:1] for name, values in background.items()}

    def predict(c: Columns) -> Columns:
        p = 1 / (1 + np.exp(-c["a"].astype(float)))
        return {"probabilities": np.stack([1 - p, p], axis=1)}

    no, yes = (explain(predict, row, background, answer=answer)[0] for answer in (0, 1))
    assert no["answer"] == 0 and yes["answer"] == 1
    assert no["prediction"] + yes["prediction"] == pytest.approx(1.0)
    assert no["contributions"][0]["contribution"] == pytest.approx(-yes["contributions"][0]["contribution"])
    likely = explain(predict, row, background)[0]
    assert likely["prediction"] == max(no["prediction"], yes["prediction"])


def test_an_explanation_names_values_and_missing_ones() -> None:
    background = table(np.random.default_rng(9), 20)
    row = {name: values[:1].copy() for name, values in background.items()}
    row["idle"][0] = np.nan
    row["city"][0] = "Bern"

    def predict(c: Columns) -> Columns:
        return {"prediction": np.where(c["city"] == "Bern", 1.0, 0.0) + np.isnan(c["idle"])}

    found = {item["column"]: item for item in explain(predict, row, background)[0]["contributions"]}
    assert found["city"]["value"] == "Bern" and found["idle"]["value"] is None
    assert found["idle"]["contribution"] == pytest.approx(1.0)


@pytest.mark.parametrize("background", [{}, {"a": np.zeros(0)}, {"b": np.zeros(3)}])
def test_an_explanation_needs_a_background(background: Columns) -> None:
    with pytest.raises(UsageError, match="background"):
        explain(lambda c: {"prediction": c["a"]}, {"a": np.zeros(1)}, background)
