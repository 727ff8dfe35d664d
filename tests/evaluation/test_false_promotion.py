"""Under a simulated null, a sealed test set lets no model through more often than stated, over many looks."""

from __future__ import annotations

import numpy as np
import pytest
from judged_samples import BINARY, REGRESSION

from modelworks.core.task import Bound, Limits, TaskKind
from modelworks.core.verdict import VerdictKind
from modelworks.evaluation import compare, evaluate, judge

ROWS = 80
LOOKS = 10
WORLDS = 80

MOST_FOOLED = 9
"""Of 80 worlds; under a rate of 5 % ten or more happen less than once in a hundred times."""


def released(
    kind: TaskKind, outputs: dict, rival: dict, truth: np.ndarray, metric: str, gate: list[Bound], look: int
) -> bool:
    classes = ["no", "yes"] if kind is BINARY else []
    more = {"metric": metric, "look": look}
    evaluation = evaluate(kind, outputs, truth, classes, **more)
    baselines = {"constant": compare(kind, outputs, rival, truth, classes, **more)}
    return judge(evaluation, gate, Limits(), {}, baselines).kind is VerdictKind.RELEASED


def probabilities(p: np.ndarray) -> dict[str, np.ndarray]:
    return {"probabilities": np.stack([1 - p, p], axis=1)}


def ignorant(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return probabilities(1 / (1 + np.exp(-(0.4 * rng.normal(size=ROWS) - 0.4))))


@pytest.mark.slow
def test_models_that_know_nothing_are_not_released_over_many_looks() -> None:
    """Each look brings another ignorant model to the same rows. At most 5 % of the test sets may release one."""
    rng = np.random.default_rng(100)
    fooled = 0
    for _ in range(WORLDS):
        truth = (rng.random(ROWS) < 0.4).astype(np.int64)
        rival = probabilities(np.full(ROWS, truth.mean()))
        fooled += any(
            released(BINARY, ignorant(rng), rival, truth, "roc_auc", [], look) for look in range(1, LOOKS + 1)
        )
    assert fooled <= MOST_FOOLED


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "average_precision"])
def test_guessing_is_not_called_beaten_over_many_looks(metric: str) -> None:
    rng = np.random.default_rng(100)
    fooled = 0
    for _ in range(WORLDS):
        truth = (rng.random(ROWS) < 0.4).astype(np.int64)
        rival = probabilities(np.full(ROWS, truth.mean()))
        fooled += any(
            compare(BINARY, ignorant(rng), rival, truth, ["no", "yes"], metric=metric, look=look)["better"]
            for look in range(1, LOOKS + 1)
        )
    assert fooled <= MOST_FOOLED


@pytest.mark.slow
def test_without_paying_for_looks_the_same_models_would_come_through() -> None:
    """The same worlds judged as if every look were the first: the test can fail."""
    rng = np.random.default_rng(100)
    fooled = 0
    for _ in range(WORLDS):
        truth = (rng.random(ROWS) < 0.4).astype(np.int64)
        rival = probabilities(np.full(ROWS, truth.mean()))
        fooled += any(
            compare(BINARY, ignorant(rng), rival, truth, ["no", "yes"])["better"] for _ in range(LOOKS)
        )
    assert fooled > MOST_FOOLED


@pytest.mark.slow
def test_a_model_just_below_the_bound_is_not_released_over_many_looks() -> None:
    """Models whose true error equals the bound, retrained at every look."""
    rng = np.random.default_rng(101)
    bound = [Bound.parse("rmse", "<= 1.0")]
    fooled = 0
    for _ in range(WORLDS):
        truth = 3 * rng.normal(size=ROWS)
        rival = {"prediction": np.full(ROWS, truth.mean())}
        fooled += any(
            released(
                REGRESSION, {"prediction": truth + rng.normal(size=ROWS)}, rival, truth, "rmse", bound, look
            )
            for look in range(1, LOOKS + 1)
        )
    assert fooled <= MOST_FOOLED


@pytest.mark.slow
def test_an_equal_champion_is_not_beaten_and_a_worse_candidate_not_let_in() -> None:
    """The candidate is truly worse by the margin; each look brings a new candidate."""
    rng = np.random.default_rng(102)
    fooled = 0
    for _ in range(WORLDS):
        truth = rng.integers(0, 2, 300)
        right = rng.random(300) < 0.90
        champion = probabilities(np.where(right, truth, 1 - truth) * 0.8 + 0.1)
        for look in range(1, LOOKS + 1):
            flip = rng.random(300)
            correct = np.where(right, flip >= 0.06, flip < 0.44)  # true accuracy 0.89: worse by one point
            candidate = probabilities(np.where(correct, truth, 1 - truth) * 0.8 + 0.1)
            found = compare(BINARY, candidate, champion, truth, ["no", "yes"], metric="accuracy", look=look)
            if found["not_worse"]:
                fooled += 1
                break
    assert fooled <= MOST_FOOLED
