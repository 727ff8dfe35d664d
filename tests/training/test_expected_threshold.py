"""Thresholds of the best expected metric: by plain search over all cuts, and with less noise than by labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelworks.core.task import TaskKind
from modelworks.training.decision import choose_decision, expected_threshold
from modelworks.training.problem import Problem


def _value(aim: str, share: np.ndarray, said: np.ndarray) -> float:
    hits, alarms = share[said].sum(), (1 - share[said]).sum()
    missed, quiet = share[~said].sum(), (1 - share[~said]).sum()
    if aim == "f1":
        return float(2 * hits / (2 * hits + alarms + missed))
    if aim == "balanced_accuracy":
        return float(hits / (hits + missed) + quiet / (quiet + alarms))
    under = (hits + alarms) * (hits + missed) * (quiet + alarms) * (quiet + missed)
    return float((hits * quiet - alarms * missed) / max(under, 1e-24) ** 0.5)


@pytest.mark.parametrize("aim", ["f1", "balanced_accuracy", "mcc"])
def test_the_cut_is_the_best_of_all(aim: str) -> None:
    chances = np.random.default_rng(1).beta(0.5, 6, size=80)
    found = expected_threshold(chances, aim)
    best = max(_value(aim, chances, chances >= cut) for cut in chances)
    assert _value(aim, chances, chances >= found) == pytest.approx(best)
    if aim == "f1":
        assert found == pytest.approx(best / 2, abs=0.05)


def test_without_a_metric_of_labels_it_is_one_half() -> None:
    assert expected_threshold(np.array([0.1, 0.2]), None) == 0.5
    assert expected_threshold(np.array([0.1, 0.2]), "roc_auc") == 0.5


def test_a_few_rare_labels_move_it_less_than_they_move_the_best_cut_of_labels() -> None:
    rng = np.random.default_rng(2)
    gains: list[Any] = []
    for _ in range(60):
        score = rng.normal(size=(2, 400)) * 1.2 - 4
        chances = 1 / (1 + np.exp(-score))
        labels = (rng.random((2, 400)) < chances).astype(np.int64)
        if labels[0].sum() < 2:
            continue
        problem = Problem(
            kind=TaskKind.BINARY, target=labels[0], folds=(np.arange(400) % 5).astype(np.int8), classes=2
        )
        by_labels = choose_decision(
            problem, score[0][:, None], np.arange(400), "balanced_accuracy"
        ).thresholds[0]
        expected = expected_threshold(chances[0], "balanced_accuracy")
        gains.append(
            [_value("balanced_accuracy", chances[1], chances[1] >= cut) for cut in (expected, by_labels)]
        )
    ours, theirs = np.mean(gains, axis=0)
    assert ours > theirs + 0.005
