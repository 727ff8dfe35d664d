"""From held-out scores to calibrated heads: all tasks of an order at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelworks.training.calibration import log_sum_exp, platt_many, vector_scaling
from modelworks.training.heads.forms import Form
from modelworks.training.heads.task import Doubles, Floats, HeadTask, Rows


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A head before calibration.

    Attributes:
        form: What it computes, fitted on every labelled sample.
        scores: Scores ``[held, outputs]`` of samples that the same procedure had not seen.
        held: Those samples, ascending.
        setting: What was chosen: plain JSON data.
    """

    form: Form
    scores: Floats | Doubles
    held: Rows
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
    row_losses: Doubles
    setting: dict[str, Any] = field(default_factory=dict)

    def losses(self, rows: Rows) -> Doubles:
        """Return the held-out loss of some of the held samples, one by one."""
        return (
            self.row_losses
            if len(rows) == len(self.held)
            else self.row_losses[np.searchsorted(self.held, rows)]
        )


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
        return np.asarray(np.logaddexp(0.0, -sign * values[:, 0]))
    truth = task.labels[rows].astype(np.int64)
    return np.asarray(log_sum_exp(values) - values[np.arange(len(truth)), truth])


def calibrated(family: str, tasks: Sequence[HeadTask], drafts: Sequence[Draft]) -> list[Head]:
    """Turn drafts into heads: Platt scaling for two classes, vector scaling for several, on held-out scores.

    Source: Platt (1999); Guo et al. (2017), On calibration of modern neural networks.
    """
    scales: dict[int, tuple[Doubles, Doubles]] = {}
    binary = [index for index, task in enumerate(tasks) if task.classes == 2]
    if binary:
        slope, shift = _platt([tasks[index] for index in binary], [drafts[index] for index in binary])
        scales = {index: (slope[at : at + 1], shift[at : at + 1]) for at, index in enumerate(binary)}
    heads = []
    for index, (task, draft) in enumerate(zip(tasks, drafts, strict=True)):
        form, scores = draft.form, draft.scores.astype(np.float64)
        if task.classes > 2:
            scales[index] = vector_scaling(scores, task.labels[draft.held].astype(np.int64))
        if index in scales:
            slopes, shifts = scales[index]
            form, scores = form.scaled(slopes, shifts), scores * slopes + shifts
        losses = row_losses(scores, task, draft.held)
        heads.append(
            Head(
                name=task.name,
                family=family,
                form=form,
                left_out=scores.astype(np.float32),
                held=draft.held,
                loss=float(losses.mean()),
                row_losses=losses,
                rows=int(task.labelled.sum()),
                setting=draft.setting,
            )
        )
    return heads


def _platt(tasks: Sequence[HeadTask], drafts: Sequence[Draft]) -> tuple[Doubles, Doubles]:
    """Fit every binary task's scaling at once; tasks are held on rows of their own."""
    longest = max(len(draft.held) for draft in drafts)
    scores = np.zeros((longest, len(tasks)))
    positive, known = np.zeros(scores.shape, bool), np.zeros(scores.shape, bool)
    for column, (task, draft) in enumerate(zip(tasks, drafts, strict=True)):
        count = len(draft.held)
        scores[:count, column] = draft.scores[:, 0]
        positive[:count, column] = task.labels[draft.held] == 1
        known[:count, column] = True
    return platt_many(scores, positive, known)
