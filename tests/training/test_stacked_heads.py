"""Stacked heads: exact leave-one-out, shared work, calibration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from modelworks.core.errors import DataError
from modelworks.training import ridge
from modelworks.training.calibration import platt_many, platt_scaling
from modelworks.training.heads.ridge import fit_heads
from modelworks.training.heads.task import HeadTask


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
        np.testing.assert_allclose(head.form.weights, alone.form.weights, atol=1e-5)
        assert head.setting == alone.setting


def test_unlabelled_samples_do_not_count() -> None:
    x, y = _samples(200, 10, 6)
    labels = (y > 0).astype(np.int64)
    masked = labels.copy()
    masked[::3] = -1
    head = fit_heads(x, [HeadTask(name="some", labels=masked, classes=2)])[0]
    alone = fit_heads(x[masked >= 0], [HeadTask(name="some", labels=labels[masked >= 0], classes=2)])[0]
    np.testing.assert_allclose(head.form.weights, alone.form.weights, atol=1e-5)
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
    assert 0 < slope[0] < 0.03


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="1 class"):
        fit_heads(np.ones((5, 2), np.float32), [HeadTask(name="x", labels=np.zeros(5, np.int64), classes=2)])


def test_heads_that_each_lack_other_labels_share_one_factorisation(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    x, y = _samples(600, 24, 9)
    tasks = [HeadTask(name="all", labels=y, classes=0)]
    for index in range(6):
        labels = (x @ rng.normal(size=24) + rng.normal(size=600) > 0).astype(np.int64)
        labels[rng.random(600) < 0.3] = -1
        tasks.append(HeadTask(name=f"b{index}", labels=labels, classes=2))
    three = np.digitize(y, [-2, 2]).astype(np.int64)
    three[rng.random(600) < 0.2] = -1
    tasks.append(HeadTask(name="three", labels=three, classes=3))
    few = np.full(600, -1)
    few[:8] = np.arange(8) % 2
    tasks.append(HeadTask(name="few", labels=few, classes=2))
    alone = [fit_heads(x, [task], penalties=[0.01])[0] for task in tasks]
    seen = []
    real = ridge.factorise
    for place in ("ridge", "space"):
        monkeypatch.setattr(
            f"modelworks.training.heads.{place}.factorise", lambda rows: seen.append(len(rows)) or real(rows)
        )
    together = fit_heads(x, tasks, penalties=[0.01])
    assert seen == [600, 8]
    for one, other in zip(together, alone, strict=True):
        assert one.rows == other.rows
        assert one.left_out.shape == other.left_out.shape
        assert one.loss == pytest.approx(other.loss, rel=0.05)
        scores = x @ one.form.weights + one.form.bias
        expected = x @ other.form.weights + other.form.bias
        np.testing.assert_allclose(scores, expected, atol=0.08 * float(np.abs(expected).max()))


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_pooled_calibration_equals_that_of_single_rows(share: float) -> None:
    rng = np.random.default_rng(10)
    scores = rng.normal(size=(5000, 3)) * [1.0, 0.2, 30.0]
    positive = rng.random((5000, 3)) < 1 / (1 + np.exp(-(scores / [1.0, 0.2, 30.0] * 2 + np.log(share))))
    known = rng.random((5000, 3)) < 0.8
    slope, shift = platt_many(scores, positive, known)
    for task in range(3):
        rows = known[:, task]
        total, hits = rows.sum(), positive[rows, task].sum()
        targets = np.where(positive[rows, task], (hits + 1) / (hits + 2), 1 / (total - hits + 2))
        p = 1 / (1 + np.exp(-(slope[task] * scores[rows, task] + shift[task])))
        assert abs((p - targets).sum()) < 0.5
        assert abs(((p - targets) * scores[rows, task]).sum()) < 0.01 * np.abs(scores[rows, task]).sum()


def test_large_problems_choose_about_the_penalty_of_exact_leave_one_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = _samples(400, 60, 11)
    task = HeadTask(name="r", labels=y, classes=0)
    exact = fit_heads(x, [task])[0]
    monkeypatch.setattr(ridge, "SMALL", 0)
    quick = fit_heads(x, [task])[0]
    assert quick.loss <= exact.loss * 1.02


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_calibration_does_not_hang_on_the_scale_of_scores(scale: float) -> None:
    rng = np.random.default_rng(12)
    scores = rng.normal(size=(300, 1)) + np.where(np.arange(300)[:, None] % 3 == 0, 4.0, -4.0)
    positive = np.arange(300)[:, None] % 3 == 0
    slope, shift = platt_many(scores * scale, positive, np.ones((300, 1), bool))
    usual, usual_shift = platt_many(scores, positive, np.ones((300, 1), bool))
    assert slope[0] * scale == pytest.approx(usual[0], rel=0.02) and usual[0] > 0.5
    assert shift[0] == pytest.approx(usual_shift[0], abs=0.05)


def test_samples_that_hang_together_are_held_out_together() -> None:
    rng = np.random.default_rng(8)
    owner = np.repeat(np.arange(30), 12)
    own = rng.normal(size=(30, 60))
    x = (np.repeat(own, 12, axis=0) + 0.1 * rng.normal(size=(360, 60))).astype(np.float32)
    y = rng.normal(size=30)[owner]  # a number per owner, which says nothing about others
    task = HeadTask(name="r", labels=y, classes=0, folds=(owner % 5).astype(np.int8))
    alone = fit_heads(x, [task])[0]
    whole = fit_heads(x, [replace(task, grouped=True)])[0]
    # Siblings give the number away; whole owners left out show that there is nothing to learn.
    assert whole.loss > 0.7 * y.var()
    assert whole.setting["penalty"] > alone.setting["penalty"]
    assert sorted(whole.held.tolist()) == list(range(360))


@pytest.mark.parametrize("trust", [0.0, 30.0])
def test_trusted_scores_are_moved_by_no_more_than_the_rows_say(trust: float) -> None:
    rng = np.random.default_rng(17)
    scores = rng.normal(size=(200, 2)) * 2
    positive = rng.random((200, 2)) < 1 / (1 + np.exp(-(0.5 * scores + 1)))
    slope, shift = platt_many(scores, positive, np.ones((200, 2), bool), trust)
    for task in range(2):
        hits = positive[:, task].sum()
        targets = np.where(positive[:, task], (hits + 1) / (hits + 2), 1 / (200 - hits + 2))

        def objective(values: np.ndarray, task: int = task, targets: np.ndarray = targets) -> float:
            z = values[0] * scores[:, task] + values[1]
            loss = np.logaddexp(0, z) - targets * z
            return float(loss.sum() + 0.5 * trust * ((values[0] - 1) ** 2 + values[1] ** 2))

        found = minimize(objective, np.array([1.0, 0.0]), method="BFGS").x
        assert slope[task] == pytest.approx(found[0], abs=2e-3)
        assert shift[task] == pytest.approx(found[1], abs=2e-3)
    assert (np.abs(shift) < 0.9).all() == bool(trust)


def test_few_labels_whose_held_out_means_turn_against_them_keep_their_direction() -> None:
    rng = np.random.default_rng(18)
    right, faint = [], 0
    for _ in range(40):
        x = rng.normal(size=(1010, 30)).astype(np.float32)
        x[:, 0] += np.where(np.arange(1010) % 2, 0.7, -0.7)
        (head,) = fit_heads(x[:10], [HeadTask(name="few", labels=np.arange(10) % 2, classes=2)])
        said = head.form.scores(x[10:])[:, 0]
        faint += float(np.abs(said).max()) < 0.2
        right.append(((said > 0) == np.arange(10, 1010) % 2).mean())
        assert len(np.unique(said)) > 900
    assert faint > 2 and np.mean(right) > 0.55
