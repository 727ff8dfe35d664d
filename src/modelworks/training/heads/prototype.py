"""The family ``prototype``: a sample belongs to the class whose mean is nearest; for few labels.

Two looks at the samples are compared: centred and of unit length, and along principal axes with large ones shrunk.

Source: Snell, Swersky & Zemel (2017), Prototypical networks; Wang et al. (2019), SimpleShot; Friedman (1989),
Regularized discriminant analysis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelworks.training.heads.fitted import Draft, compared, score_loss
from modelworks.training.heads.forms import LinearForm
from modelworks.training.heads.space import Space
from modelworks.training.heads.task import Doubles, Floats, HeadTask, Rows

SHRINKS = (0.01, 0.1, 1.0, 10.0)
PLAIN = (1e4,)
"""Shrinking that leaves distances as they are."""
ROWS_PER_AXIS = 3
"""Samples per axis below which axes are not shrunk: they would fit the very samples that are held out."""
_SCALES = np.geomspace(0.5, 64.0, 15)


def fit_prototypes(space: Space, tasks: Sequence[HeadTask]) -> list[Draft]:
    """Fit every task with classes; the look with the least held-out log loss is taken.

    A prototype is the mean of its class pulled to the mean of all, as if one sample stood there.
    """
    looks = [_Look({"look": "unit length"}, space.unit, space, None)]
    for shrink in SHRINKS if len(space.embeddings) >= ROWS_PER_AXIS * len(space.variance) else PLAIN:
        scale = (1 / np.sqrt(space.variance + shrink)).astype(np.float32)
        looks.append(_Look({"look": "axes", "shrink": shrink}, space.axes * scale, space, scale))
    best: list[tuple[float, Draft]] = []
    for number, look in enumerate(looks):
        stacked = _Stacked(look.seen, tasks)
        found = [stacked.held(index) for index in range(len(tasks))]
        for index, (loss, suited) in enumerate(_scales(tasks, found)):
            if number == 0 or loss < best[index][0]:
                weights, bias = stacked.prototypes(index)
                scores, held = found[index]
                draft = Draft(
                    form=look.form((weights * suited).astype(np.float32), (bias * suited).astype(np.float32)),
                    scores=scores * suited,
                    held=held,
                    setting=look.setting,
                )
                best[index : index + 1] = [(loss, draft)]
    return [draft for _, draft in best]


def _scales(tasks: Sequence[HeadTask], found: Sequence[tuple[Doubles, Rows]]) -> list[tuple[float, float]]:
    """Return the least loss and its scale: distances are no logits, they are compared at what suits each look best.

    Two-class scores are compared after Platt scaling, all tasks at once.
    """
    binary = [index for index, task in enumerate(tasks) if task.classes == 2]
    losses = compared(
        [found[index][0] for index in binary],
        [tasks[index] for index in binary],
        [found[index][1] for index in binary],
    )
    scaled = {index: (float(loss.mean()), 1.0) for index, loss in zip(binary, losses, strict=True)}
    return [
        scaled[index]
        if index in scaled
        else min((score_loss(scores * scale, task, held), float(scale)) for scale in _SCALES)
        for index, (task, (scores, held)) in enumerate(zip(tasks, found, strict=True))
    ]


@dataclass(frozen=True, eq=False)
class _Look:
    """Samples as they are compared, and the way from weights over them to a form over embeddings."""

    setting: dict[str, Any]
    seen: Floats
    space: Space
    scale: Floats | None

    def form(self, weights: Floats, bias: Floats) -> LinearForm:
        if self.scale is None:
            return LinearForm(weights=weights, bias=bias, centre=self.space.centre)
        return self.space.linear(self.scale[:, None] * weights, bias)


class _Stacked:
    """The class sums of all tasks as columns, whole and without each fold."""

    def __init__(self, seen: Floats, tasks: Sequence[HeadTask]) -> None:
        self.seen, self.tasks = seen, tasks
        ends = np.cumsum([task.classes for task in tasks])
        self.blocks = [
            slice(int(end) - task.classes, int(end)) for end, task in zip(ends, tasks, strict=True)
        ]
        members = np.zeros((len(seen), int(ends[-1])), np.float32)
        self.fold_of = np.full((len(seen), len(tasks)), -1, np.int64)
        for index, (task, block) in enumerate(zip(tasks, self.blocks, strict=True)):
            known = np.flatnonzero(task.labelled)
            assert task.folds is not None
            members[known, block.start + task.labels[known].astype(np.int64)] = 1
            self.fold_of[known, index] = task.folds[known]
        self.sums, self.counts = seen.T @ members, members.sum(axis=0)
        self.without: dict[int, tuple[Floats, Floats]] = {}
        for fold in np.unique(self.fold_of[self.fold_of >= 0]):
            wide = np.repeat(self.fold_of == fold, [task.classes for task in tasks], axis=1)
            part = members * wide
            self.without[int(fold)] = (self.sums - seen.T @ part, self.counts - part.sum(axis=0))

    def prototypes(self, index: int) -> tuple[Floats, Floats]:
        """Return weights and bias of a task that has seen all its samples."""
        block = self.blocks[index]
        return _scores_of(self.sums[:, block], self.counts[block])

    def held(self, index: int) -> tuple[Doubles, Rows]:
        """Return the scores of a task's samples without their fold, and the samples."""
        block, rows = self.blocks[index], np.flatnonzero(self.fold_of[:, index] >= 0)
        outputs = self.tasks[index].outputs
        found = np.empty((len(rows), outputs))
        folds = self.fold_of[rows, index]
        for fold in np.unique(folds):
            sums, counts = self.without[int(fold)]
            weights, bias = _scores_of(sums[:, block], counts[block])
            found[folds == fold] = self.seen[rows[folds == fold]] @ weights + bias
        return found, rows


def _scores_of(sums: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Return the linear scores that order classes by distance to their prototypes; two classes give one score."""
    means = sums / (counts + 1)
    bias = -0.5 * np.einsum("rc,rc->c", means, means)
    if len(counts) == 2:
        return means[:, 1:] - means[:, :1], bias[1:] - bias[:1]
    return means, bias
