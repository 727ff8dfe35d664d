"""From held-out scores to calibrated heads: all tasks of an order at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelworks.training.calibration import log_sum_exp, platt_many, softplus, vector_scaling
from modelworks.training.heads.forms import Form
from modelworks.training.heads.task import Doubles, Floats, HeadTask, Rows

TRUST = 30.0
"""Of scores that are logits already, because log loss fitted them: few held-out rows do not move them far."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A head before calibration.

    Attributes:
        form: What it computes, fitted on every labelled sample.
        scores: Scores ``[held, outputs]`` of samples that the same procedure had not seen.
        held: Those samples, ascending.
        trust: How far the scores are logits already (``platt_many``).
        setting: What was chosen: plain JSON data.
    """

    form: Form
    scores: Floats | Doubles
    held: Rows
    trust: float = 0.0
    setting: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Head:
    """A calibrated head.

    Attributes:
        name: Name of its task.
        family: Family that fitted it.
        form: What it computes.
        left_out: Calibrated held-out logits (predictions for regression) ``[held, outputs]``.
        held: Samples of ``left_out``, ascending.
        loss: Log loss of ``left_out``, or mean squared error for regression.
        row_losses: The same of every held sample.
        rows: Number of labelled samples.
        setting: What was chosen: plain JSON data.
    """

    name: str
    family: str
    form: Form
    left_out: Floats
    held: Rows
    loss: float
    rows: int
    row_losses: Floats | Doubles
    setting: dict[str, Any] = field(default_factory=dict)

    def at(self, rows: Rows) -> Floats:
        """Return the held-out scores of some of the held samples."""
        return (
            self.left_out if len(rows) == len(self.held) else self.left_out[np.searchsorted(self.held, rows)]
        )


def compared(
    scores: Sequence[Floats | Doubles], tasks: Sequence[HeadTask], rows: Sequence[Rows]
) -> list[Floats | Doubles]:
    """Return the losses of held-out scores, each calibrated on the very rows it is compared on.

    A scaling has seen the rows it was fitted on. Where one family held out every sample and another a fifth of them,
    losses on that fifth are compared fairly only if both scalings have seen it and nothing else.

    Args:
        scores: ``[rows, outputs]`` of every task.
        tasks: The tasks.
        rows: Samples of the scores of every task.
    """
    return [found.losses for found in _scaled(tasks, scores, rows, 0.0)]


def score_loss(scores: Floats | Doubles, task: HeadTask, rows: Rows) -> float:
    """Return the log loss of logits, or the mean squared error, on ``rows``."""
    return float(row_losses(scores, task, rows).mean())


def row_losses(scores: Floats | Doubles, task: HeadTask, rows: Rows) -> Doubles:
    """Return the log loss of logits, or the squared error, of each of ``rows``."""
    values = scores.astype(np.float64)
    if task.classes == 0:
        return np.asarray((values[:, 0] - task.labels[rows]) ** 2)
    if task.classes == 2:
        sign = np.where(task.labels[rows] == 1, 1.0, -1.0)
        return np.asarray(softplus(-sign * values[:, 0]))
    truth = task.labels[rows].astype(np.int64)
    return np.asarray(log_sum_exp(values) - values[np.arange(len(truth)), truth])


def calibrated(family: str, tasks: Sequence[HeadTask], drafts: Sequence[Draft]) -> list[Head]:
    """Turn drafts into heads: Platt scaling for two classes, vector scaling for several, on held-out scores.

    Source: Platt (1999); Guo et al. (2017), On calibration of modern neural networks.
    """
    trust = drafts[0].trust if drafts else 0.0
    scaled = _scaled(tasks, [draft.scores for draft in drafts], [draft.held for draft in drafts], trust)
    return [
        Head(
            name=task.name,
            family=family,
            form=draft.form.scaled(found.slopes, found.shifts) if task.classes else draft.form,
            left_out=found.scores,
            held=draft.held,
            loss=found.loss,
            row_losses=found.losses,
            rows=task.known,
            setting=draft.setting,
        )
        for task, draft, found in zip(tasks, drafts, scaled, strict=True)
    ]


@dataclass(frozen=True)
class _Scaled:
    """Scores after calibration, how they were moved, and their losses one by one and in the mean."""

    slopes: Doubles
    shifts: Doubles
    scores: Floats
    losses: Floats | Doubles
    loss: float


def _scaled(
    tasks: Sequence[HeadTask], scores: Sequence[Floats | Doubles], rows: Sequence[Rows], trust: float
) -> list[_Scaled]:
    binary = [index for index, task in enumerate(tasks) if task.classes == 2]
    together = _together(
        [tasks[index] for index in binary],
        [scores[index] for index in binary],
        [rows[index] for index in binary],
        trust,
    )
    found = dict(zip(binary, together, strict=True))
    return [
        found[index] if index in found else _alone(task, scores[index].astype(np.float64), rows[index], trust)
        for index, task in enumerate(tasks)
    ]


def _alone(task: HeadTask, scores: Doubles, rows: Rows, trust: float) -> _Scaled:
    slopes, shifts = np.ones(1), np.zeros(1)
    if task.classes:
        slopes, shifts = vector_scaling(scores, task.labels[rows].astype(np.int64), trust)
        scores = scores * slopes + shifts
    losses = row_losses(scores, task, rows)
    return _Scaled(slopes, shifts, scores.astype(np.float32), losses, float(losses.mean()))


def _together(
    tasks: Sequence[HeadTask], scores: Sequence[Floats | Doubles], rows: Sequence[Rows], trust: float
) -> list[_Scaled]:
    """Scale the scores of all two-class tasks at once; tasks are held on rows of their own."""
    if not tasks:
        return []
    counts = [len(held) for held in rows]
    longest = max(counts)
    # One task after the other in memory; what a task lacks of the longest counts for nothing.
    values = np.zeros((len(tasks), longest), np.float32)
    positive, known = np.zeros(values.shape, bool), np.ones(values.shape, bool)
    for row, (task, own, held, count) in enumerate(zip(tasks, scores, rows, counts, strict=True)):
        values[row, :count] = own[:, 0]
        labels = task.labels if count == len(task.labels) else task.labels[held]
        np.equal(labels, 1, out=positive[row, :count])
        known[row, count:] = False
    slopes, shifts = platt_many(values.T, positive.T, known.T, trust)
    values *= slopes[:, None].astype(np.float32)
    values += shifts[:, None].astype(np.float32)
    losses = softplus(np.where(positive, -values, values))
    means = (losses.sum(axis=1, where=known, dtype=np.float64) / np.array(counts)).tolist()
    return [
        _Scaled(
            slopes[row : row + 1],
            shifts[row : row + 1],
            values[row, :count, None],
            losses[row, :count],
            means[row],
        )
        for row, count in enumerate(counts)
    ]
