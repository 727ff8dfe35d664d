"""The family ``logistic``: penalised logistic and softmax regression of all tasks, folds and penalties as one stack.

Where a rival stands (the ridge head of the same task), tasks race: a few steps with the penalty that the rival points
to show whether a task can gain at all, and only those that may are fitted to the end.

Source: Böhning (1992), Multinomial logistic regression algorithm; Maron & Moore (1994), Hoeffding races.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modelworks.core.budget import Budget
from modelworks.training.heads.descent import STEPS, Stack, minimise
from modelworks.training.heads.fitted import TRUST, Draft, Head, compared, score_loss
from modelworks.training.heads.space import Space
from modelworks.training.heads.task import Doubles, Floats, HeadTask, Rows

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
LEAD = 2.0
"""Standard errors of the difference by which held-out losses must be lower than those of a cheaper family."""
_FIRST_STEPS, _FIRST_LEAD = 2, 1.0
_FIRST_AXES = 0.1
"""Variance, of 1 in the mean, of the axes along which tasks race: penalties shrink what the others hold."""
_BLOCK = 6_000_000
"""Numbers in one stack of scores."""

_Key = tuple[int, float]
_Held = tuple[float, Floats, Rows]


@dataclass(frozen=True, eq=False)
class _Axes:
    """Samples ``[n, rank]`` along axes in the order of their variance, the largest last."""

    seen: Floats
    variance: Doubles

    def leading(self) -> _Axes:
        start = int(np.searchsorted(self.variance, _FIRST_AXES))
        return _Axes(np.ascontiguousarray(self.seen[:, start:]), self.variance[start:])


@dataclass(frozen=True)
class _Column:
    """One problem of the stack: a task on some rows with one setting."""

    task: int
    rows: Rows
    penalty: float


def fit_logistic(
    space: Space, tasks: Sequence[HeadTask], budget: Budget, rivals: Sequence[Head] | None = None
) -> list[Draft | None]:
    """Fit every task with classes; the penalty by held-out log loss.

    Args:
        space: The samples.
        tasks: With classes and folds.
        budget: Checked between blocks.
        rivals: A head of a cheaper family for every task; ``None`` to fit all tasks to the end.

    Returns:
        One draft per task; ``None`` where it would not lead its rival by ``LEAD`` standard errors.
    """
    axes = _Axes(space.axes, space.variance)
    places = dict.fromkeys(range(len(tasks)), len(PENALTIES) // 2)
    if rivals is not None:
        places = {index: _pointed(tasks[index], rivals[index]) for index in places}
        first = _columns(tasks, {index: [PENALTIES[at]] for index, at in places.items()})
        tried = _tried(axes.leading(), tasks, first, budget, _FIRST_STEPS)
        tried = {key: tried[key] for key in _leading(tasks, rivals, tried, _FIRST_LEAD)}
        places = {index: places[index] for index, _ in tried}
    best, found = _climbed(axes, tasks, places, budget, every=rivals is None)
    if rivals is not None:
        best = _leading(tasks, rivals, {key: found[key] for key in best}, LEAD)
    last = [_Column(key[0], np.flatnonzero(tasks[key[0]].labelled), key[1]) for key in best]
    drafts: list[Draft | None] = [None] * len(tasks)
    for key, weight in zip(best, _fit(axes, tasks, last, budget), strict=True):
        _, scores, held = found[key]
        drafts[key[0]] = Draft(
            form=space.linear(weight[:-1], weight[-1]),
            scores=scores,
            held=held,
            trust=TRUST,
            setting={"penalty": key[1]},
        )
    return drafts


def _climbed(
    axes: _Axes, tasks: Sequence[HeadTask], places: dict[int, int], budget: Budget, *, every: bool
) -> tuple[list[_Key], dict[_Key, _Held]]:
    """Return the penalty of least held-out loss of each task, and what was held out: every one, or a climb from one."""
    found: dict[_Key, _Held] = {}
    places = dict(places)
    while True:
        near = {
            index: PENALTIES if every else PENALTIES[max(0, at - 1) : at + 2] for index, at in places.items()
        }
        missing = {
            index: [value for value in values if (index, value) not in found]
            for index, values in near.items()
        }
        columns = _columns(tasks, missing)
        if not columns:
            return [(index, PENALTIES[at]) for index, at in places.items()], found
        found |= _tried(axes, tasks, columns, budget)
        for index, values in near.items():
            least = min(values, key=lambda value: found[index, value][0])
            places[index] = PENALTIES.index(least)


def _columns(tasks: Sequence[HeadTask], wanted: Mapping[int, Sequence[float]]) -> list[_Column]:
    return [
        _Column(index, learn, penalty)
        for index, penalties in wanted.items()
        for penalty in penalties
        for learn, _ in tasks[index].parts
    ]


def _pointed(task: HeadTask, rival: Head) -> int:
    """Return which penalty the rival's points to: log loss is bent less than squares, by the variance of the truth."""
    shares = task.shares()
    bend = float((shares * (1 - shares)).mean())
    wanted = float(rival.setting.get("penalty", 1.0)) * bend
    return int(np.argmin([abs(np.log(value / max(wanted, 1e-12))) for value in PENALTIES]))


def _leading(
    tasks: Sequence[HeadTask], rivals: Sequence[Head], found: dict[_Key, _Held], lead: float
) -> list[_Key]:
    """Return what leads the rival of its task by so many standard errors of held-out losses."""
    own = [tasks[key[0]] for key in found]
    rows = [held for _, _, held in found.values()]
    ours = compared([scores for _, scores, _ in found.values()], own, rows)
    theirs = compared([rivals[key[0]].at(held) for key, held in zip(found, rows, strict=True)], own, rows)
    return [key for key, one, other in zip(found, ours, theirs, strict=True) if leads(one, other, lead)]


def leads(losses: Floats | Doubles, others: Floats | Doubles, lead: float) -> bool:
    """Say whether losses are lower by more than ``lead`` standard errors of the difference, sample by sample."""
    if len(losses) < 2:
        return False
    apart = np.subtract(others, losses, dtype=np.float64)
    return bool(apart.mean() > lead * apart.std(ddof=1) / np.sqrt(len(apart)))


def _tried(
    axes: _Axes, tasks: Sequence[HeadTask], columns: Sequence[_Column], budget: Budget, steps: int = STEPS
) -> dict[_Key, _Held]:
    """Fit columns; returns loss, scores and rows that were held out for each task and setting.

    Columns that hold out the same rows are one product.
    """
    weights = _fit(axes, tasks, columns, budget, steps)
    together: dict[bytes, list[int]] = {}
    places: list[Rows] = []
    counts: dict[_Key, int] = {}
    for at, column in enumerate(columns):
        key = (column.task, column.penalty)
        part = counts[key] = counts.get(key, -1) + 1
        places.append(tasks[column.task].parts[part][1])
        together.setdefault(places[at].tobytes(), []).append(at)
    scores: dict[int, Floats] = {}
    for members in together.values():
        wide = np.concatenate([weights[at] for at in members], axis=1).astype(np.float32)
        values = axes.seen[places[members[0]]] @ wide[:-1] + wide[-1]
        ends = np.cumsum([weights[at].shape[1] for at in members])
        scores.update(zip(members, np.split(values, ends[:-1], axis=1), strict=True))
    pieces: dict[_Key, list[int]] = {}
    for at, column in enumerate(columns):
        pieces.setdefault((column.task, column.penalty), []).append(at)
    found = {}
    for key, members in pieces.items():
        rows = np.concatenate([places[at] for at in members])
        order = np.argsort(rows)
        own = np.concatenate([scores[at] for at in members])[order]
        found[key] = (score_loss(own, tasks[key[0]], rows[order]), own, rows[order])
    return found


def _fit(
    axes: _Axes, tasks: Sequence[HeadTask], columns: Sequence[_Column], budget: Budget, steps: int = STEPS
) -> list[Doubles]:
    """Solve every column; returns weights over axes with the intercept last ``[rank + 1, outputs]``."""
    found: dict[int, Doubles] = {}
    for outputs in sorted({tasks[column.task].outputs for column in columns}):
        chosen = [i for i, column in enumerate(columns) if tasks[column.task].outputs == outputs]
        step = max(1, _BLOCK // (len(axes.seen) * outputs))
        for start in range(0, len(chosen), step):
            budget.check()
            part = chosen[start : start + step]
            solved = _solve(axes, tasks, [columns[i] for i in part], steps)
            found.update(zip(part, np.moveaxis(solved, 1, 0), strict=True))
    return [found[index] for index in range(len(columns))]


def _solve(axes: _Axes, tasks: Sequence[HeadTask], columns: Sequence[_Column], steps: int) -> Doubles:
    n, outputs = len(axes.seen), tasks[columns[0].task].outputs
    kinds = {column.rows.tobytes(): column.rows for column in columns}
    rows = columns[0].rows if len(kinds) == 1 else np.unique(np.concatenate(list(kinds.values())))
    truth = np.zeros((len(columns), outputs, len(rows)), np.float32)
    weight = np.zeros((len(columns), len(rows)), np.float32)
    found: dict[bytes, Rows | slice] = {
        key: slice(None) if len(kinds) == 1 else np.searchsorted(rows, own) for key, own in kinds.items()
    }
    for at, column in enumerate(columns):
        task = tasks[column.task]
        places = found[column.rows.tobytes()]
        truth[at][:, places] = task.truth(column.rows).T
        weight[at, places] = 1 / len(column.rows)
    stack = Stack(
        axes=axes.seen if len(rows) == n else axes.seen[rows],
        variance=axes.variance,
        truth=np.ascontiguousarray(np.moveaxis(truth, 2, 0)),
        weight=np.ascontiguousarray(weight.T),
        penalty=np.array([column.penalty for column in columns], np.float32),
    )
    return minimise(stack, steps).astype(np.float64)
