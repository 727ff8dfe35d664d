"""Random trees: what they split, where missing values go, and that they learn."""

from __future__ import annotations

import numpy as np
import pytest

from modelworks.core.budget import Budget
from modelworks.core.errors import BudgetStopped
from modelworks.training.forest import grow_trees

ROWS = np.arange(400)


def grown(features: np.ndarray, target: np.ndarray, **changes: int):
    settings = {"candidates": 2, "least": 1, "seed": 0} | changes
    return grow_trees(
        features.astype(np.float32), target, [ROWS[: len(features)]] * 20, budget=Budget(60), **settings
    )


def test_trees_learn_a_curve_and_repeat_themselves() -> None:
    generator = np.random.default_rng(1)
    features = generator.uniform(-2, 2, (400, 3))
    target = np.sin(2 * features[:, :1]) + (features[:, 1:2] > 0)
    forest = grown(features, target)
    fresh = generator.uniform(-2, 2, (300, 3)).astype(np.float32)
    truth = np.sin(2 * fresh[:, 0]) + (fresh[:, 1] > 0)
    error = np.sqrt(np.mean((forest.mean(fresh)[:, 0] - truth) ** 2))
    assert error < 0.5 * truth.std()
    again = grown(features, target)
    assert np.array_equal(forest.split, again.split)
    assert np.array_equal(forest.leaf, again.leaf)


def test_leaves_are_pure_until_rows_cannot_be_told_apart() -> None:
    generator = np.random.default_rng(2)
    features = generator.normal(size=(200, 4)).astype(np.float32)
    target = np.eye(3)[generator.integers(0, 3, 200)]
    assert np.allclose(grown(features, target).mean(features), target)
    twins = np.zeros((200, 4), dtype=np.float32)
    assert np.allclose(grown(twins, target).mean(twins), target.mean(axis=0))


def test_leaves_hold_the_least_rows() -> None:
    generator = np.random.default_rng(3)
    features = generator.normal(size=(120, 2)).astype(np.float32)
    one = grow_trees(
        features,
        generator.normal(size=(120, 1)),
        [np.arange(120)],
        candidates=2,
        least=10,
        seed=0,
        budget=Budget(9),
    )
    _, counts = np.unique(one.mean(features), return_counts=True)
    assert counts.min() >= 10


def test_a_missing_value_is_told_from_a_present_one() -> None:
    values = np.where(np.arange(100) % 2, np.nan, 1.0)[:, None]
    forest = grown(values, (np.arange(100) % 2).astype(float)[:, None])
    assert forest.mean(np.array([[1.0], [np.nan]], dtype=np.float32)).ravel().tolist() == [0.0, 1.0]


def test_the_budget_stops_the_growing() -> None:
    with pytest.raises(BudgetStopped):
        grow_trees(
            np.zeros((50, 2), np.float32),
            np.arange(50.0)[:, None],
            [np.arange(50)],
            candidates=1,
            least=1,
            seed=0,
            budget=Budget(0.0),
        )
