"""The family ``logistic``: penalised logistic and softmax regression of all tasks, folds and penalties as one stack.

Newton's method with steps by preconditioned conjugate gradients. In the principal axes of the shared embeddings every
task's Hessian is close to a diagonal one, so that a few products with all columns at once suffice.

Source: Komarek & Moore (2005), Making logistic regression a core data mining tool with TR-IRLS; Böhning (1992),
Multinomial logistic regression algorithm; Saerens, Latinne & Decaestecker (2002) on shifts of the class shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modelworks.core.budget import Budget
from modelworks.training.heads.fitted import Draft, score_loss
from modelworks.training.heads.space import Space
from modelworks.training.heads.task import Doubles, Floats, HeadTask, Rows

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
RARE = 0.2
"""Share of the rarest class below which rows that weigh all classes alike are tried too."""
_OUTER, _INNER = 12, 12
_BLOCK = 6_000_000
"""Numbers in one stack of scores."""


@dataclass(frozen=True)
class _Column:
    """One problem of the stack: a task on some rows with one setting."""

    task: int
    rows: Rows
    penalty: float
    even: bool


def fit_logistic(space: Space, tasks: Sequence[HeadTask], budget: Budget) -> list[Draft]:
    """Fit every task with classes; the penalty, and whether rare rows weigh more, by held-out log loss.

    Where rows weigh all classes alike, the shift of the class shares is taken back from the scores before they are
    compared, so that the better direction wins and not the better guess of the shares.
    """
    first = [
        _Column(index, learn, penalty, False)
        for index, task in enumerate(tasks)
        for penalty in PENALTIES
        for learn, _ in task.parts
    ]
    found = _held(space, tasks, _fit(space, tasks, first, budget), first)
    penalties = [
        min(PENALTIES, key=lambda value: found[index, value, False][0]) for index in range(len(tasks))
    ]
    second = [
        _Column(index, learn, penalties[index], True)
        for index, task in enumerate(tasks)
        if task.shares().min() * task.classes / 2 < RARE
        for learn, _ in task.parts
    ]
    if second:
        found |= _held(space, tasks, _fit(space, tasks, second, budget), second)
    last = []
    for index, task in enumerate(tasks):
        plain, even = found[index, penalties[index], False], found.get((index, penalties[index], True))
        last.append(
            _Column(
                index,
                np.flatnonzero(task.labelled),
                penalties[index],
                even is not None and even[0] < plain[0],
            )
        )
    weights = _fit(space, tasks, last, budget)
    return [
        Draft(
            form=space.linear(weight[:-1], weight[-1]),
            scores=found[column.task, column.penalty, column.even][1],
            held=found[column.task, column.penalty, column.even][2],
            setting={"penalty": column.penalty, "classes_alike": column.even},
        )
        for column, weight in zip(last, weights, strict=True)
    ]


def _held(
    space: Space, tasks: Sequence[HeadTask], weights: Sequence[Doubles], columns: Sequence[_Column]
) -> dict[tuple[int, float, bool], tuple[float, Floats, Rows]]:
    """Return loss, scores and rows that were held out for each task and setting."""
    parts: dict[tuple[int, float, bool], list[tuple[Floats, Rows]]] = {}
    for column, weight in zip(columns, weights, strict=True):
        key = (column.task, column.penalty, column.even)
        _, held = tasks[column.task].parts[len(parts.setdefault(key, []))]
        scores = space.axes[held] @ weight[:-1].astype(np.float32) + weight[-1].astype(np.float32)
        parts[key].append((scores, held))
    found = {}
    for key, pieces in parts.items():
        rows = np.concatenate([held for _, held in pieces])
        order = np.argsort(rows)
        scores = np.concatenate([values for values, _ in pieces])[order]
        found[key] = (score_loss(scores, tasks[key[0]], rows[order]), scores, rows[order])
    return found


def _fit(
    space: Space, tasks: Sequence[HeadTask], columns: Sequence[_Column], budget: Budget
) -> list[Doubles]:
    """Solve every column; returns weights over axes with the intercept last ``[rank + 1, outputs]``."""
    found: dict[int, Doubles] = {}
    for outputs in sorted({tasks[column.task].outputs for column in columns}):
        chosen = [i for i, column in enumerate(columns) if tasks[column.task].outputs == outputs]
        step = max(1, _BLOCK // (len(space.embeddings) * outputs))
        for start in range(0, len(chosen), step):
            budget.check()
            part = chosen[start : start + step]
            solved = _solve(space, tasks, [columns[i] for i in part])
            found.update(zip(part, np.moveaxis(solved, 1, 0), strict=True))
    return [found[index] for index in range(len(columns))]


def _solve(space: Space, tasks: Sequence[HeadTask], columns: Sequence[_Column]) -> Doubles:
    n, outputs = len(space.embeddings), tasks[columns[0].task].outputs
    rows = np.unique(np.concatenate([column.rows for column in columns]))
    truth = np.zeros((len(rows), len(columns), outputs), np.float32)
    weight = np.zeros((len(rows), len(columns)), np.float32)
    back = np.zeros((len(columns), outputs))
    for at, column in enumerate(columns):
        task = tasks[column.task]
        places = np.searchsorted(rows, column.rows)
        truth[places, at] = task.truth(column.rows)
        each = np.ones(len(places))
        if column.even:
            shares = task.shares()
            each = 1.0 / shares[task.labels[column.rows].astype(np.int64)]
            logs = np.log(shares)
            back[at] = logs if outputs > 1 else logs[1] - logs[0]
        weight[places, at] = each / each.sum()
    axes = space.axes if len(rows) == n else space.axes[rows]
    penalty = np.array([column.penalty for column in columns], np.float32)
    solved = newton(axes, space.variance, truth, weight, penalty)
    solved[-1] += back
    return solved


def newton(axes: Floats, variance: Doubles, truth: Floats, weight: Floats, penalty: Floats) -> Doubles:
    """Return the weights of least penalised log loss of every column.

    Args:
        axes: ``[n, rank]``, uncorrelated.
        variance: Of each axis ``[rank]``.
        truth: ``[n, columns, outputs]``: 0 or 1; one output is logistic, several are softmax.
        weight: Of each row in each column ``[n, columns]``, summing to 1.
        penalty: Half of this times the squared weights is added to each column's loss ``[columns]``.

    Returns:
        ``[rank + 1, columns, outputs]``, the intercept last.
    """
    n, columns, outputs = truth.shape
    design = np.hstack([axes, np.ones((n, 1), np.float32)])
    ridge = np.zeros((design.shape[1], columns, 1), np.float32)
    ridge[:-1] = penalty[:, None]
    solved = np.zeros((design.shape[1], columns, outputs), np.float32)
    share = np.clip(np.einsum("nc,nco->co", weight, truth), 1e-3, 1 - 1e-3)
    solved[-1] = np.log(share / (1 - share)) if outputs == 1 else np.log(share)
    scores = np.broadcast_to(solved[-1], truth.shape).copy()
    loss = _loss(scores, truth, weight, solved, ridge)
    active = np.arange(columns)
    for _ in range(_OUTER):
        y, w, v, r = truth[:, active], weight[:, active, None], solved[:, active], ridge[:, active]
        p = _chances(scores[:, active])
        gradient = _back(design, w * (p - y)) + r * v
        bend = np.einsum("nco->co", w * p * (1 - p))
        diagonal = np.append(variance, 1.0).astype(np.float32)[:, None, None] * bend + r + 1e-6
        step = _conjugate(design, w, p, r, gradient, diagonal)
        moved = _forward(design, step)
        size = np.ones(len(active), np.float32)
        for _ in range(12):
            trial = scores[:, active] - size[:, None] * moved
            new = _loss(trial, y, w[..., 0], v - size[:, None] * step, r)
            worse = new > loss[active] + 1e-7
            if not worse.any():
                break
            size = np.where(worse, size / 2, size).astype(np.float32)
        size = np.where(worse, 0, size).astype(np.float32)
        solved[:, active] = v - size[:, None] * step
        scores[:, active] = scores[:, active] - size[:, None] * moved
        new = np.where(worse, loss[active], new)
        still = loss[active] - new > 1e-4 * np.maximum(new, 1e-3)
        loss[active] = new
        active = active[still]
        if not len(active):
            break
    return solved.astype(np.float64)


def _forward(design: Floats, weights: Floats) -> Floats:
    return (design @ weights.reshape(len(weights), -1)).reshape(len(design), *weights.shape[1:])


def _back(design: Floats, values: Floats) -> Floats:
    return (design.T @ values.reshape(len(values), -1)).reshape(design.shape[1], *values.shape[1:])


def _chances(scores: Floats) -> Floats:
    if scores.shape[2] == 1:
        return np.asarray(1 / (1 + np.exp(-np.clip(scores, -60, 60))), np.float32)
    raised = np.exp(scores - scores.max(axis=2, keepdims=True))
    return np.asarray(raised / raised.sum(axis=2, keepdims=True), np.float32)


def _loss(scores: Floats, truth: Floats, weight: Floats, solved: Floats, ridge: Floats) -> Doubles:
    if scores.shape[2] == 1:
        rows = (np.logaddexp(np.float32(0), scores) - truth * scores)[..., 0]
    else:
        top = scores.max(axis=2)
        rows = (
            top
            + np.log(np.exp(scores - top[..., None]).sum(axis=2))
            - np.einsum("nco,nco->nc", truth, scores)
        )
    return np.asarray(
        np.einsum("nc,nc->c", weight, rows, dtype=np.float64)
        + 0.5 * np.einsum("rco,rco->c", ridge * solved, solved, dtype=np.float64)
    )


def _conjugate(
    design: Floats, w: Floats, p: Floats, ridge: Floats, gradient: Floats, diagonal: Floats
) -> Floats:
    """Solve (Hessian) x = gradient in every column to a tenth of its size."""

    def dot(one: Floats, other: Floats) -> Floats:
        return np.asarray(np.einsum("rco,rco->c", one, other), np.float32)

    x = np.zeros_like(gradient)
    residual = gradient.copy()
    z = residual / diagonal
    direction, power = z, dot(residual, z)
    aim = 1e-2 * power
    for _ in range(_INNER):
        ahead = _forward(design, direction)
        if p.shape[2] > 1:
            ahead = ahead - np.einsum("nco,nco->nc", p, ahead)[..., None]
            bent = w * p * ahead
        else:
            bent = w * p * (1 - p) * ahead
        turned = _back(design, bent) + ridge * direction + np.float32(1e-6) * direction
        length = np.asarray(power / np.maximum(dot(direction, turned), 1e-30), np.float32)
        x = x + length[:, None] * direction
        residual = residual - length[:, None] * turned
        z = np.asarray(residual / diagonal, np.float32)
        new = dot(residual, z)
        if (new <= aim).all():
            break
        again = np.asarray(new / np.maximum(power, 1e-30), np.float32)
        direction = np.asarray(z + again[:, None] * direction, np.float32)
        power = new
    return x
