"""Families of heads: each is what its definition says, held-out scores are those of refits, a stack changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelworks.core.budget import Budget
from modelworks.training.calibration import platt_scaling, vector_scaling
from modelworks.training.heads import choice
from modelworks.training.heads.choice import FAMILIES, common_rows, fit_families, losses_of, taken
from modelworks.training.heads.descent import Stack, minimise
from modelworks.training.heads.fitted import Head, calibrated
from modelworks.training.heads.logistic import fit_logistic
from modelworks.training.heads.neighbours import fit_neighbours
from modelworks.training.heads.prototype import fit_prototypes
from modelworks.training.heads.ridge import fit_ridge
from modelworks.training.heads.selftraining import WeightedRidge, fit_self_trained, may_self_train
from modelworks.training.heads.space import Space
from modelworks.training.heads.task import HeadTask
from modelworks.training.ridge import factorise, folds_out


def _task(labels: np.ndarray, classes: int, folds: int = 5) -> HeadTask:
    return HeadTask(
        name="t", labels=labels, classes=classes, folds=(np.arange(len(labels)) % folds).astype(np.int8)
    )


def _all(space: Space, tasks: list[HeadTask], forced: str | None = None) -> list[list[Head]]:
    return fit_families(space, tasks, forced=forced, remembered=4000, seed=0, budget=Budget(300))


def _blobs(n: int, d: int, classes: int, seed: int, apart: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return (rng.normal(size=(n, d)) + apart * rng.normal(size=(classes, d))[labels]).astype(
        np.float32
    ), labels


@pytest.mark.parametrize("outputs", [1, 4])
def test_descent_finds_the_least_penalised_loss(outputs: int) -> None:
    rng = np.random.default_rng(1)
    space = Space(rng.normal(size=(200, 6)).astype(np.float32) * [4, 2, 1, 1, 0.5, 0.1])
    axes = space.axes
    codes = rng.integers(0, max(outputs, 2), size=(200, 3))
    truth = (codes[..., None] == np.arange(outputs) if outputs > 1 else codes[..., None] == 1).astype(
        np.float32
    )
    weight = rng.random((200, 3)).astype(np.float32) * (rng.random((200, 3)) < 0.7)
    weight /= weight.sum(axis=0)
    penalty = np.array([1e-2, 1e-1, 1.0], np.float32)
    found = minimise(Stack(axes, space.variance, truth, weight, penalty))
    scores = np.einsum("nr,rco->nco", axes, found[:-1]) + found[-1]
    chances = np.exp(scores - scores.max(axis=2, keepdims=True))
    chances /= chances.sum(axis=2, keepdims=True)
    chances = 1 / (1 + np.exp(-scores)) if outputs == 1 else chances
    error = weight[..., None] * (chances - truth)
    gradient = np.einsum("nr,nco->rco", axes, error) + penalty[:, None] * found[:-1]
    assert np.abs(gradient).max() < 3e-3
    assert np.abs(error.sum(axis=0)).max() < 3e-3


def test_descent_of_many_classes_goes_on_after_a_step_that_led_nowhere() -> None:
    rng = np.random.default_rng(0)
    centres, codes = rng.standard_normal((80, 128)), np.repeat(np.arange(80), 15)
    samples = centres[codes] + 0.4 * rng.standard_normal((1200, 128))
    space = Space((samples * (1 + np.arange(128)) ** -0.5).astype(np.float32))
    truth = (codes[:, None] == np.arange(80)).astype(np.float32)[:, None, :]
    weight, penalty = np.full((1200, 1), 1 / 1200, np.float32), np.array([1e-3], np.float32)
    found = minimise(Stack(space.axes, space.variance, truth, weight, penalty))[:, 0]
    scores = space.axes @ found[:-1] + found[-1]
    loss = np.log(np.exp(scores).sum(axis=1)).mean() - scores[np.arange(1200), codes].mean()
    # It stood still at 0.063; the minimum, by L-BFGS, is 0.052.
    assert loss + 0.5e-3 * (found[:-1] ** 2).sum() < 0.0525


def test_logits_of_many_classes_are_hardly_shifted_by_few_rows() -> None:
    rng = np.random.default_rng(2)
    scores = 3 * rng.standard_normal((4000, 60))
    labels = (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)  # the scores are the logits
    held, other = slice(0, 400), slice(400, None)

    def losses(trust: float) -> list[float]:
        slope, shift = vector_scaling(scores[held], labels[held], trust)
        moved = scores * slope + shift
        rows = np.log(np.exp(moved).sum(axis=1)) - moved[np.arange(4000), labels]
        return [float(rows[held].mean()), float(rows[other].mean())]

    trusted, free = losses(30.0), losses(0.0)
    assert trusted[1] < free[1] - 0.02
    assert trusted[1] - trusted[0] < 0.5 * (free[1] - free[0])


def test_ridge_without_a_fold_is_the_fit_of_the_others() -> None:
    x, y = _blobs(40, 7, 2, 3)
    values, folds = (y * 2.0 - 1)[:, None].astype(np.float32), np.arange(40) % 4
    factor = factorise(x)
    found = folds_out(factor, values, 0.1, folds)
    scale = 0.1 * factor.scale
    for fold in range(4):
        rest = folds != fold
        a = np.hstack([x[rest], np.ones((rest.sum(), 1))]).astype(np.float64)
        solved = np.linalg.solve(a.T @ a + np.diag([scale] * 7 + [0.0]), a.T @ values[rest])
        np.testing.assert_allclose(found[~rest], x[~rest] @ solved[:-1] + solved[-1], atol=1e-3)


def test_held_out_scores_of_prototypes_have_not_seen_their_fold() -> None:
    x, y = _blobs(60, 10, 3, 4, apart=0.5)
    (draft,) = fit_prototypes(Space(x), [_task(y, 3)])
    changed = y.copy()
    changed[::5] = (y[::5] + 1) % 3
    (other,) = fit_prototypes(Space(x), [_task(changed, 3)])
    if draft.setting == other.setting:
        ratio = other.scores[::5] / draft.scores[::5]
        np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-3)
    right = (draft.scores.argmax(axis=1) == y[draft.held]).mean()
    assert right > 0.5


def test_votes_come_from_other_folds() -> None:
    rng = np.random.default_rng(5)
    x = np.repeat(rng.normal(size=(20, 6)), 2, axis=0).astype(np.float32)
    labels = np.repeat(rng.integers(0, 2, 20), 2)
    together = HeadTask(name="t", labels=labels, classes=2, folds=(np.arange(40) // 2 % 4).astype(np.int8))
    apart = HeadTask(name="t", labels=labels, classes=2, folds=(np.arange(40) % 2).astype(np.int8))
    (honest,), (leaky,) = (fit_neighbours(Space(x), [task], 100) for task in (together, apart))
    right = [((draft.scores[:, 0] > 0) == (labels[draft.held] == 1)).mean() for draft in (honest, leaky)]
    assert right[1] == 1.0 and right[0] < 0.9


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stack_changes_no_task(family: str) -> None:
    x, y = _blobs(320, 8, 3, 6, apart=0.7)
    rng = np.random.default_rng(7)
    some = (y > 0).astype(np.int64)
    some[rng.random(320) < 0.3] = -1
    number = np.where(rng.random(320) < 0.2, np.nan, x[:, 0] + 0.1 * rng.normal(size=320))
    tasks = [_task(y, 3), _task((y == 1).astype(np.int64), 2), _task(some, 2), _task(number, 0)]
    if family in choice.OF_CLASSES:
        tasks.pop()
    if family == "self_trained":
        few = np.arange(320) < 36
        tasks = [_task(np.where(few, task.labels, -1), task.classes) for task in tasks]
    space = Space(x)
    together = _all(space, tasks, family)
    for task, heads in zip(tasks, together, strict=True):
        (one,), ((alone,),) = heads, _all(space, [task], family)
        assert one.family == family and one.rows == int(task.labelled.sum())
        np.testing.assert_allclose(one.form.scores(x), alone.form.scores(x), atol=5e-3, rtol=5e-3)
        assert one.loss == pytest.approx(alone.loss, rel=2e-3)
        assert set(one.held) <= set(np.flatnonzero(task.labelled))


def test_the_family_that_suits_wins() -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(900, 6)).astype(np.float32)
    crossed = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(np.int64)
    straight = (x @ rng.normal(size=6) + 0.3 * rng.normal(size=900) > 0).astype(np.int64)
    tasks, found = [_task(crossed, 2), _task(straight, 2)], []
    for task, heads in zip(tasks, _all(Space(x), tasks), strict=True):
        losses = losses_of(heads, task, common_rows(heads))
        found.append(heads[taken(losses, [head.family for head in heads])].family)
    assert found[0] == "network"
    assert found[1] in {"ridge", "logistic"}


def test_few_labels_do_better_with_prototypes_than_at_random() -> None:
    x, y = _blobs(2020, 64, 10, 9, apart=0.8)
    few = np.full(len(y), -1)
    few[:50] = y[:50]
    (heads,) = _all(Space(x), [_task(few, 10)])
    assert {head.family for head in heads} >= {"ridge", "prototype", "neighbours"}
    best = min(heads, key=lambda head: head.loss)
    right = (best.form.scores(x[50:]).argmax(axis=1) == y[50:]).mean()
    assert right > 0.6


def test_chances_of_a_rare_class_stay_true() -> None:
    rng = np.random.default_rng(10)
    x = rng.normal(size=(3000, 5)).astype(np.float32)
    labels = (x[:, 0] + rng.normal(size=3000) > 2.6).astype(np.int64)
    (draft,) = fit_logistic(Space(x), [_task(labels, 2)], Budget(60))
    assert draft is not None
    (head,) = calibrated("logistic", [_task(labels, 2)], [draft])
    chances = 1 / (1 + np.exp(-head.form.scores(x)[:, 0]))
    assert chances.mean() == pytest.approx(labels.mean(), rel=0.15)
    likely = chances > 0.3
    assert likely.sum() > 30 and chances[likely].mean() == pytest.approx(labels[likely].mean(), abs=0.12)


def test_a_later_family_must_be_better_by_more_than_chance() -> None:
    rng = np.random.default_rng(13)
    first = rng.random(200)
    noise = rng.normal(0, 0.3, 200)
    two, three = ["ridge", "network"], ["ridge", "logistic", "network"]
    assert taken([first, first + noise - noise.mean() - 0.005], two) == 0
    assert taken([first, first - 0.2 + 0.1 * noise], two) == 1
    assert taken([first + 1, first, first], three) == 1
    kin = ["ridge", "self_trained", "network"]
    assert taken([first, first + noise - noise.mean() - 0.005, first - 0.006], kin) == 1
    assert taken([first, first + 0.01, first - 0.005 + noise - noise.mean()], kin) == 0
    assert taken([first, first + 0.01, first - 1], kin) == 2


@pytest.mark.parametrize("classes", [2, 3])
def test_votes_are_those_of_the_nearest_of_other_folds(classes: int) -> None:
    x, y = _blobs(60, 5, classes, 14, apart=0.5)
    task = _task(y, classes)
    (draft,) = fit_neighbours(Space(x), [task], 100)
    unit, count = Space(x).unit, draft.setting["neighbours"]
    assert task.folds is not None
    for row in range(60):
        others = np.flatnonzero(task.folds != task.folds[row])
        near = others[np.argsort(-(unit[others] @ unit[row]), kind="stable")[:count]]
        share = (np.bincount(y[near], minlength=classes) + task.shares()) / (count + 1)
        logs = np.log(share)
        expected = logs[1:] - logs[:1] if classes == 2 else logs
        np.testing.assert_allclose(draft.scores[row], expected, rtol=1e-4, atol=1e-5)


def test_only_tasks_that_lead_their_rival_go_on_to_the_end() -> None:
    rng = np.random.default_rng(15)
    x = rng.normal(size=(1500, 8)).astype(np.float32)
    x[:, 0] = np.sinh(3 * x[:, 0])
    far = (x[:, 0] > 0).astype(np.int64)
    straight = (x[:, 1] + 0.5 * rng.normal(size=1500) > 0).astype(np.int64)
    tasks = [_task(straight, 2), _task(far, 2)]
    rivals = calibrated("ridge", tasks, fit_ridge(Space(x), tasks))
    dropped, kept = fit_logistic(Space(x), tasks, Budget(60), rivals)
    assert dropped is None and kept is not None
    (alone,) = fit_logistic(Space(x), tasks[1:], Budget(60))
    assert alone is not None
    np.testing.assert_allclose(kept.form.scores(x), alone.form.scores(x), rtol=0.05, atol=0.05)
    families = [{head.family for head in heads} for heads in _all(Space(x), tasks)]
    assert "logistic" not in families[0] and "logistic" in families[1]


def test_heads_that_held_out_more_are_compared_on_equal_terms() -> None:
    rng = np.random.default_rng(16)
    x, y = _blobs(1400, 4, 2, 16, apart=0.3)
    task = _task(y, 2)
    ridge, *others = _all(Space(x), [task])[0]
    assert len(ridge.held) == 1400 and others
    rows = common_rows([ridge, *others])
    found = losses_of([ridge, *others], task, rows)[0]
    slope, shift = platt_scaling(ridge.left_out[rows, 0].astype(np.float64), y[rows] == 1)
    scores = slope * ridge.left_out[rows, 0] + shift
    expected = np.logaddexp(0, np.where(y[rows] == 1, -scores, scores))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    # Whatever the first calibration was, the second one undoes it.
    moved = replace(ridge, left_out=(ridge.left_out * 3 + rng.normal()).astype(np.float32))
    np.testing.assert_allclose(losses_of([moved, *others], task, rows)[0], expected, atol=1e-3)


def test_networks_are_left_out_where_an_order_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = _blobs(400, 5, 2, 11)
    monkeypatch.setitem(choice.UNASKED_CPU_S, "network", 1.0)
    one, many = _all(Space(x), [_task(y, 2)]), _all(Space(x), [_task(y, 2)] * 20)
    assert "network" in {head.family for head in one[0]}
    assert "network" not in {head.family for head in many[0]}


def test_with_one_fold_only_ridge_is_left() -> None:
    x, y = _blobs(30, 5, 2, 12)
    (heads,) = _all(Space(x), [_task(y, 2, folds=1)])
    assert [head.family for head in heads] == ["ridge"]
    (drafts,) = (fit_ridge(Space(x), [_task(y, 2, folds=1)]),)
    assert np.isfinite(drafts[0].scores).all()


def test_samples_without_labels_help_where_they_lie_in_clouds() -> None:
    gains = []
    for seed in range(5):
        x, y = _blobs(900, 40, 4, 20 + seed, apart=0.5)
        few = np.full(900, -1)
        few[:20] = y[:20]
        task = _task(few, 4)
        (trained,), (plain,) = fit_self_trained(Space(x), [task]), fit_ridge(Space(x), [task])
        right = [(draft.form.scores(x[20:]).argmax(axis=1) == y[20:]).mean() for draft in (trained, plain)]
        gains.append(right[0] - right[1])
    assert np.mean(gains) > 0.03


def test_self_trained_scores_have_not_seen_the_labels_of_their_fold() -> None:
    x, y = _blobs(300, 20, 3, 30, apart=0.6)
    few = np.full(300, -1)
    few[:40] = y[:40]
    (draft,) = fit_self_trained(Space(x), [_task(few, 3)])
    changed = few.copy()
    changed[:40:5] = (few[:40:5] + 1) % 3
    (other,) = fit_self_trained(Space(x), [_task(changed, 3)])
    fold = draft.held % 5 == 0
    ratio = other.scores[fold] / draft.scores[fold]
    if draft.setting == other.setting:
        np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-6)
    assert not np.allclose(other.scores[~fold], draft.scores[~fold])


def test_weighted_ridge_is_the_solution_of_its_normal_equations() -> None:
    rng = np.random.default_rng(31)
    rows, weight, targets = rng.normal(size=(50, 6)), rng.random(50), rng.normal(size=(50, 2))
    weights, bias = WeightedRidge(rows, weight).solve(targets, 0.3)
    w = weight / weight.sum()
    a = np.hstack([rows, np.ones((50, 1))])
    expected = np.linalg.solve(
        a.T @ (a * w[:, None]) + np.diag([0.3] * 6 + [0.0]), a.T @ (targets * w[:, None])
    )
    np.testing.assert_allclose(np.vstack([weights, bias]), expected, atol=1e-9)


def test_self_training_waits_for_few_labels_and_many_samples() -> None:
    labels = np.full(400, -1)
    labels[:40] = np.arange(40) % 2
    assert may_self_train(_task(labels, 2))
    assert not may_self_train(_task(labels[:120], 2))
    labels[:80] = np.arange(80) % 2
    assert not may_self_train(_task(labels, 2))
    assert not may_self_train(_task(np.where(labels < 0, np.nan, 0.5), 0))
