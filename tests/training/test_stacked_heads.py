"""Stacked heads: exact leave-one-out, shared work, calibration."""

from __future__ import annotations

import numpy as np
import pytest

from modelworks.core.errors import DataError
from modelworks.training.heads import HeadTask, fit_heads, platt_scaling


def _samples(n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)).astype(np.float32)
    return x, x @ rng.normal(size=d) + rng.normal(size=n)


@pytest.mark.parametrize(("n", "d"), [(60, 8), (15, 40)])
def test_left_out_predictions_equal_refits(n: int, d: int) -> None:
    x, y = _samples(n, d, 3)
    head = fit_heads(x, [HeadTask(name="r", labels=y, classes=0)], penalties=[0.1])[0]
    full = x - x.mean(axis=0)
    values = np.linalg.eigvalsh((full.T @ full) if n >= d else (full @ full.T))
    scale = 0.1 * values[values > values[-1] * 1e-7].mean()
    for left in (0, 7, n - 1):
        keep = np.arange(n) != left
        # Leaving a row out of the centred problem with a free intercept is the same as refitting with one.
        a = np.hstack([x[keep], np.ones((n - 1, 1))]).astype(np.float64)
        penalty = np.diag([scale] * d + [0.0])
        solution = np.linalg.solve(a.T @ a + penalty, a.T @ y[keep])
        assert head.left_out[left, 0] == pytest.approx(
            x[left] @ solution[:-1] + solution[-1], rel=1e-3, abs=1e-3
        )


def test_a_head_fitted_with_others_equals_one_fitted_alone() -> None:
    x, y = _samples(300, 20, 5)
    tasks = [
        HeadTask(name="binary", labels=(y > 0).astype(np.int64), classes=2),
        HeadTask(name="regression", labels=y, classes=0),
        HeadTask(name="three", labels=np.digitize(y, [-2, 2]).astype(np.int64), classes=3),
    ]
    together = fit_heads(x, tasks)
    for task, head in zip(tasks, together, strict=True):
        alone = fit_heads(x, [task])[0]
        np.testing.assert_allclose(head.weights, alone.weights, atol=1e-5)
        assert head.penalty == alone.penalty


def test_unlabelled_samples_do_not_count() -> None:
    x, y = _samples(200, 10, 6)
    labels = (y > 0).astype(np.int64)
    masked = labels.copy()
    masked[::3] = -1
    head = fit_heads(x, [HeadTask(name="some", labels=masked, classes=2)])[0]
    alone = fit_heads(x[masked >= 0], [HeadTask(name="some", labels=labels[masked >= 0], classes=2)])[0]
    np.testing.assert_allclose(head.weights, alone.weights, atol=1e-5)
    assert head.rows == int((masked >= 0).sum())


def test_left_out_probabilities_are_calibrated() -> None:
    x, y = _samples(4000, 12, 7)
    head = fit_heads(x, [HeadTask(name="b", labels=(y > 1).astype(np.int64), classes=2)])[0]
    p = 1 / (1 + np.exp(-head.left_out[:, 0]))
    for low, high in ((0.0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.0)):
        chosen = (p >= low) & (p < high)
        assert abs(p[chosen].mean() - (y > 1)[chosen].mean()) < 0.06


def test_noise_gives_the_base_rate() -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(500, 30)).astype(np.float32)
    labels = (rng.random(500) < 0.1).astype(np.int64)
    head = fit_heads(x, [HeadTask(name="noise", labels=labels, classes=2)])[0]
    base = -(labels.mean() * np.log(labels.mean()) + (1 - labels.mean()) * np.log(1 - labels.mean()))
    assert head.loss < base * 1.03


def test_platt_never_turns_the_order_around() -> None:
    scores = np.linspace(-1, 1, 100)
    slope, _ = platt_scaling(scores, scores < 0)
    assert slope[0] == 0


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="1 class"):
        fit_heads(np.ones((5, 2), np.float32), [HeadTask(name="x", labels=np.zeros(5, np.int64), classes=2)])
