"""The family ``self_trained``: a ridge head that few labels start, and that learns from what it says of the others.

Samples without a label for the task are given the chances that the head of the round before gives them; all of them
together weigh less than the labelled ones. Chances are first evened out over the classes, so that no class swallows
the rest.

Source: Scudder (1965), Probability of error of some adaptive pattern-recognition machines; Lee (2013), Pseudo-label;
Asano, Rupprecht & Vedaldi (2020) on even classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from modelworks.training.heads.fitted import Draft, score_loss
from modelworks.training.heads.forms import LinearForm
from modelworks.training.heads.space import Space
from modelworks.training.heads.task import Doubles, HeadTask, Rows

MOST_A_CLASS = 20
"""Labelled samples per class, in the mean, up to which samples without a label are worth asking."""
TIMES = 3
"""So many samples without a label there must be for one with."""
ASKED, AXES, ROUNDS = 1200, 256, 4
PENALTIES = (1.0, 0.1)
"""Relative to the mean square of the labelled samples; the first head is fitted with the first."""
SHARE = 0.3
"""Weight of all asked samples together beside that of the labelled ones."""
CPU_S = 0.1
"""About what a task takes: a declared figure, so that choices do not hang on a clock."""
_SHARPNESS = 10.0
_SCALES = (1.0, 2.0, 4.0, 8.0)


def may_self_train(task: HeadTask) -> bool:
    """Say whether a task of classes has few labels, and many samples without one."""
    few = task.known <= MOST_A_CLASS * task.classes
    return few and len(task.labels) >= (TIMES + 1) * task.known


def fit_self_trained(space: Space, tasks: Sequence[HeadTask]) -> list[Draft]:
    """Fit every task; the penalty by held-out log loss.

    A held-out fold loses its labels in every round: its samples are asked like those that never had one.
    """
    kept = min(AXES, len(space.variance))
    right = space.factor.right[:, -kept:]
    seen = (space.unit @ right.astype(np.float32)).astype(np.float64)
    return [_fit(space, _Problem(task, seen), right) for task in tasks]


def _fit(space: Space, problem: _Problem, right: Doubles) -> Draft:
    task = problem.task
    held = np.concatenate([out for _, out in task.parts])
    order = np.argsort(held)
    pieces: list[list[Doubles]] = [[] for _ in PENALTIES]
    for learned, out in task.parts:
        for piece, (weights, bias) in zip(pieces, problem.solve(learned, PENALTIES), strict=True):
            piece.append(problem.seen[out] @ weights + bias)
    tried = []
    for number, piece in enumerate(pieces):
        scores = np.concatenate(piece)[order]
        tried += [(score_loss(scores * scale, task, held[order]), number, scale) for scale in _SCALES]
    _, number, scale = min(tried)
    ((weights, bias),) = problem.solve(np.flatnonzero(task.labelled), [PENALTIES[number]])
    return Draft(
        form=LinearForm(
            weights=(right @ weights * scale).astype(np.float32),
            bias=(bias * scale).astype(np.float32),
            centre=space.centre,
        ),
        scores=np.concatenate(pieces[number])[order] * scale,
        held=held[order],
        setting={"penalty": PENALTIES[number], "asked": len(problem.asked), "rounds": ROUNDS},
    )


@dataclass(frozen=True, eq=False)
class _Problem:
    """A task over samples along the leading axes ``[n, k]``."""

    task: HeadTask
    seen: Doubles

    @cached_property
    def asked(self) -> Rows:
        """Samples that never had a label, thinned evenly."""
        rows = np.flatnonzero(~self.task.labelled)
        return rows if len(rows) <= ASKED else rows[np.linspace(0, len(rows) - 1, ASKED).astype(np.int64)]

    def solve(self, learned: Rows, penalties: Sequence[float]) -> list[tuple[Doubles, Doubles]]:
        """Return weights ``[k, outputs]`` and bias of the last round for each penalty; two classes have one output."""
        classes = self.task.classes
        truth = (self.task.labels[learned, None] == np.arange(classes)).astype(np.float64)
        own = WeightedRidge(self.seen[learned], np.ones(len(learned)))
        asked = self.seen[self.asked]
        both = WeightedRidge(
            np.vstack([self.seen[learned], asked]),
            np.concatenate([np.ones(len(learned)), np.full(len(asked), SHARE * len(learned) / len(asked))]),
        )
        first, found = own.solve(truth, PENALTIES[0] * own.spread), []
        for penalty in penalties:
            weights, bias = first
            for _ in range(ROUNDS):
                said = even_chances(_SHARPNESS * (asked @ weights + bias))
                weights, bias = both.solve(np.vstack([truth, said]), penalty * own.spread)
            if classes == 2:
                weights, bias = weights[:, 1:] - weights[:, :1], bias[1:] - bias[:1]
            found.append((weights, bias))
        return found


class WeightedRidge:
    """Weighted ridge regression of many targets on one set of rows."""

    def __init__(self, rows: Doubles, weight: Doubles) -> None:
        self.weight = weight / weight.sum()
        self.mean = self.weight @ rows
        self.centred = rows - self.mean
        self.scatter = (self.centred * self.weight[:, None]).T @ self.centred
        self.spread = float(np.trace(self.scatter)) / len(rows)

    def solve(self, targets: Doubles, penalty: float) -> tuple[Doubles, Doubles]:
        mean = self.weight @ targets
        aim = (self.centred * self.weight[:, None]).T @ (targets - mean)
        weights = np.linalg.solve(self.scatter + penalty * np.eye(len(self.scatter)), aim)
        return weights, mean - self.mean @ weights


def even_chances(scores: Doubles) -> Doubles:
    """Return chances ``[rows, classes]`` of scores, moved half a step towards classes of equal size."""
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances = raised / raised.sum(axis=1, keepdims=True)
    chances = chances / chances.sum(axis=0, keepdims=True)
    return np.asarray(chances / chances.sum(axis=1, keepdims=True))
