"""The table recipe sits the exam of estimators, and keeps what only it promises."""

from __future__ import annotations

import hashlib
from importlib import resources

import numpy as np
import pytest

from modelworks.algorithms import TableRecipe
from modelworks.algorithms.tables import RECIPE_VERSION, ensemble
from modelworks.algorithms.tables.portfolio import default_portfolio
from modelworks.core.budget import Budget
from modelworks.core.task import Limits, TaskKind
from modelworks.testing import estimator_suite
from modelworks.testing.estimator_suite import answers, sample_table
from modelworks.training.problem import Problem

PORTFOLIO = (6, "b53276946205")
CASES = estimator_suite.cases(TableRecipe().card.kinds)


@pytest.mark.parametrize(("check", "kind"), CASES, ids=[f"{check.__name__}-{kind}" for check, kind in CASES])
def test_the_recipe_passes_the_exam(check: estimator_suite.Check, kind: TaskKind) -> None:
    estimator_suite.run(check, TableRecipe, kind)


def test_quantiles_cover_new_rows_and_do_not_cross() -> None:
    levels = (0.05, 0.5, 0.95)
    train, fresh = sample_table(TaskKind.REGRESSION, rows=800), sample_table(TaskKind.REGRESSION, 800, seed=1)
    model, native = TableRecipe(quantiles=levels).fit_native(train, Budget(60), 0)
    assert model.signature.quantiles == levels
    outputs = answers(model, fresh)
    low, middle, high = outputs["quantiles"].T
    assert (low <= middle).all()
    assert (middle <= high).all()
    covered = np.mean((fresh.target >= low) & (fresh.target <= high))
    assert 0.84 <= covered <= 0.96
    again = native.predict(fresh.columns, fresh.rows)["quantiles"]
    assert np.abs(outputs["quantiles"] - again).max() <= 1e-5 * train.target.std()


def test_the_metric_moves_the_threshold_to_find_rare_positives() -> None:
    train, fresh = sample_table(TaskKind.BINARY, rows=900), sample_table(TaskKind.BINARY, 900, seed=1)
    cut = np.flatnonzero(train.target == 1)
    rare = train.take(np.sort(np.concatenate([np.flatnonzero(train.target == 0), cut[: len(cut) // 6]])))

    def balanced(metric: str | None) -> float:
        labels = answers(TableRecipe(metric=metric).fit(rare, None, Budget(60), 0), fresh)["label"]
        yes = fresh.target == 1
        return float(np.mean(labels[yes] == "yes") + np.mean(labels[~yes] == "no")) / 2

    assert balanced("balanced_accuracy") > balanced(None) + 0.03


def test_a_small_size_limit_is_kept_by_shipping_less() -> None:
    train = sample_table(TaskKind.BINARY, rows=600)
    roomy = TableRecipe(order=("boosted",)).fit(train, None, Budget(60), 0)
    limit = len(roomy.onnx) / 1e6 * 0.7
    tight = TableRecipe(order=("boosted",), limits=Limits(size_mb=limit)).fit(train, None, Budget(60), 0)
    assert len(tight.onnx) / 1e6 <= limit
    assert not tight.diagnostics["measured"]["over"]


def test_memory_decides_which_members_run() -> None:
    train = sample_table(TaskKind.REGRESSION)
    model = TableRecipe(order=("kernel", "forgotten", "linear")).fit(train, None, Budget(60), 0)
    assert [member["name"] for member in model.diagnostics["members"]] == ["kernel", "linear"]


def test_memory_brings_no_member_that_the_plan_of_large_tables_spares() -> None:
    rows = 60_000
    problem = Problem(
        kind=TaskKind.REGRESSION, target=np.zeros(rows), folds=np.zeros(rows, dtype=np.int8), classes=0
    )
    found = default_portfolio().entrants(problem, (), order=("boosted", "kernel", "forest"))
    assert [spec.name for spec in found] == ["boosted_large"]


def test_the_leaderboard_explains_every_member() -> None:
    model = TableRecipe(keep_oof=True).fit(sample_table(TaskKind.BINARY), None, Budget(60), 0)
    diagnostics = model.diagnostics
    for member in diagnostics["members"]:
        assert member["cpu_s"] >= 0
        assert member["oof_se"] > 0
        assert member["kept"] or member["why"]
    assert {"encode", "pool", "export", "measure"} <= set(diagnostics["cpu_parts"])
    oof = diagnostics["oof"]
    assert len(np.unique(oof["rows"])) == len(oof["rows"]) == len(oof["scores"])
    best = min(member["oof_loss"] for member in diagnostics["members"])
    assert diagnostics["oof_loss"] <= 1.05 * best


@pytest.mark.parametrize("name", ["forest", "network"])
@pytest.mark.parametrize("kind", [TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION])
def test_a_member_alone_is_a_graph_like_its_native_self(name: str, kind: TaskKind) -> None:
    train, fresh = sample_table(kind, rows=300), sample_table(kind, 200, seed=1)
    model, native = TableRecipe(order=(name,)).fit_native(train, Budget(60), 0)
    assert [part.member.name for part in native.parts] == [name]
    shown, expected = answers(model, fresh), native.predict(fresh.columns, fresh.rows)
    output = "prediction" if kind is TaskKind.REGRESSION else "probabilities"
    scale = train.target.std() if kind is TaskKind.REGRESSION else 1.0
    assert np.abs(shown[output] - expected[output]).max() <= 1e-5 * scale


def test_another_portfolio_is_another_version() -> None:
    """Models of older versions are made again: whoever changes the portfolio raises ``RECIPE_VERSION``, then this."""
    text = resources.files("modelworks.algorithms.tables").joinpath("portfolio.json").read_bytes()
    assert (RECIPE_VERSION, hashlib.sha256(text).hexdigest()[:12]) == PORTFOLIO


def test_no_forest_of_several_labels() -> None:
    model = TableRecipe(order=("forest", "linear")).fit(
        sample_table(TaskKind.MULTILABEL), None, Budget(60), 0
    )
    assert [member["name"] for member in model.diagnostics["members"]] == ["linear"]


def test_a_burst_of_a_neighbour_does_not_cost_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that seems too slow is timed again before anything is left out of it."""
    rounds: list[float] = []

    def timed(*_: object, limit_ms: float = np.inf, **__: object) -> dict[str, float]:
        rounds.append(limit_ms)
        return {"p50": 0.05, "p99": 0.1} if np.isfinite(limit_ms) else {"p50": 50.0, "p99": 90.0}

    monkeypatch.setattr(ensemble, "single_row_latency_ms", timed)
    recipe = TableRecipe(order=("linear", "boosted"), limits=Limits(latency_ms=2.0))
    model = recipe.fit(sample_table(TaskKind.BINARY, rows=400), None, Budget(60), 0)
    assert rounds == [np.inf, 1.2]
    assert not model.diagnostics["measured"]["over"]
