"""The family ``network``: one layer of rectified units per task, all tasks trained side by side as one stack.

Source: Rumelhart, Hinton & Williams (1986); Kingma & Ba (2015), Adam; Loshchilov & Hutter (2019), decoupled decay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modelworks.core.budget import Budget
from modelworks.training.heads.fitted import TRUST, Draft, score_loss
from modelworks.training.heads.forms import NetworkForm
from modelworks.training.heads.space import Space
from modelworks.training.heads.task import Floats, HeadTask, Rows

UNITS, AXES, STEPS = 16, 64, 150
DECAYS = (0.3, 3.0)
LEAST = 300
"""Labelled samples below which a layer of units is not worth a try."""
MOST = 6000
"""Samples that are learned from, at most."""
_RATE = 0.02
_BLOCK = 8_000_000


@dataclass(frozen=True)
class _Column:
    task: int
    rows: Rows
    decay: float


def network_cpu_s(task: HeadTask) -> float:
    """Return about how many CPU-seconds a task takes: a declared figure, so that choices do not hang on a clock."""
    known = min(int(task.labelled.sum()), MOST)
    return 6e-10 * known * AXES * UNITS * STEPS * (len(DECAYS) * len(task.parts) + 1)


def fit_networks(space: Space, tasks: Sequence[HeadTask], seed: int, budget: Budget) -> list[Draft]:
    """Fit every task; the decay of the weights by held-out loss.

    The start of a task's weights depends on the seed alone, so that other tasks change nothing.
    """
    parts = [task.parts for task in tasks]
    columns = [
        _Column(index, _thinned(learn), decay)
        for index, found in enumerate(parts)
        for decay in DECAYS
        for learn, _ in found
    ]
    seen = _Seen(space)
    trained = iter(seen.fit(tasks, columns, seed, budget))
    best: list[tuple[float, float, Floats]] = []
    held: list[Rows] = []
    for task, found in zip(tasks, parts, strict=True):
        rows = np.concatenate([out for _, out in found])
        order = np.argsort(rows)
        tried = []
        for decay in DECAYS:
            scores = np.concatenate([next(trained).scores(space.embeddings[out]) for _, out in found])[order]
            tried.append((score_loss(scores, task, rows[order]), decay, scores))
        best.append(min(tried, key=lambda item: item[0]))
        held.append(rows[order])
    last = [
        _Column(index, _thinned(np.flatnonzero(task.labelled)), best[index][1])
        for index, task in enumerate(tasks)
    ]
    return [
        Draft(
            form=form,
            scores=best[index][2],
            held=held[index],
            trust=TRUST,
            setting={"units": UNITS, "axes": seen.rank, "decay": best[index][1]},
        )
        for index, form in enumerate(seen.fit(tasks, last, seed, budget))
    ]


def _thinned(rows: Rows) -> Rows:
    return rows if len(rows) <= MOST else rows[np.linspace(0, len(rows) - 1, MOST).astype(np.int64)]


class _Seen:
    """The leading axes, the large ones shrunk, and the way back to embeddings."""

    def __init__(self, space: Space) -> None:
        self.space = space
        order = np.argsort(-space.variance)[:AXES]
        self.rank = len(order)
        scale = (space.variance[order] + 1e-3) ** -0.25
        scale /= np.sqrt((space.variance[order] * scale**2).mean())
        self.axes = np.ascontiguousarray(space.axes[:, order] * scale, np.float32)
        back = np.zeros((len(space.variance), self.rank))
        back[order, np.arange(self.rank)] = scale
        self.back = space.projection(back)

    def fit(
        self, tasks: Sequence[HeadTask], columns: Sequence[_Column], seed: int, budget: Budget
    ) -> list[NetworkForm]:
        """Train a network for every column."""
        found: dict[int, NetworkForm] = {}
        kinds = sorted({(tasks[column.task].outputs, tasks[column.task].classes == 0) for column in columns})
        for outputs, number in kinds:
            chosen = [
                index
                for index, column in enumerate(columns)
                if (tasks[column.task].outputs, tasks[column.task].classes == 0) == (outputs, number)
            ]
            step = max(1, _BLOCK // (len(self.axes) * (UNITS + outputs)))
            for start in range(0, len(chosen), step):
                part = chosen[start : start + step]
                forms = self._train(tasks, [columns[index] for index in part], outputs, number, seed, budget)
                found.update(zip(part, forms, strict=True))
        return [found[index] for index in range(len(columns))]

    def _train(
        self,
        tasks: Sequence[HeadTask],
        columns: Sequence[_Column],
        outputs: int,
        number: bool,
        seed: int,
        budget: Budget,
    ) -> list[NetworkForm]:
        rows = np.unique(np.concatenate([column.rows for column in columns]))
        axes, count = self.axes[rows], len(columns)
        truth = np.zeros((count, len(rows), outputs), np.float32)
        weight = np.zeros((count, len(rows), 1), np.float32)
        middle, spread = np.zeros((count, 1, outputs)), np.ones((count, 1, outputs))
        for at, column in enumerate(columns):
            places = np.searchsorted(rows, column.rows)
            values = tasks[column.task].truth(column.rows)
            if number:
                middle[at], spread[at] = values.mean(axis=0), max(float(values.std()), 1e-12)
                values = (values - middle[at]) / spread[at]
            truth[at, places], weight[at, places] = values, 1 / len(places)
        decay = np.array([column.decay for column in columns], np.float32)[:, None, None]
        first, shift, second, bias = _train_stack(axes, truth, weight, decay, number, seed, budget)
        forms = []
        for at in range(count):
            wide = self.back @ first[at]
            forms.append(
                NetworkForm(
                    first=wide.astype(np.float32),
                    first_bias=(shift[at, 0] - self.space.factor.mean @ wide).astype(np.float32),
                    second=(second[at] * spread[at]).astype(np.float32),
                    second_bias=(bias[at, 0] * spread[at, 0] + middle[at, 0]).astype(np.float32),
                )
            )
        return forms


def _train_stack(
    axes: Floats, truth: Floats, weight: Floats, decay: Floats, number: bool, seed: int, budget: Budget
) -> tuple[Floats, Floats, Floats, Floats]:
    """Train all columns with full batches; returns the layers ``[columns, from, to]``."""
    count, outputs = len(truth), truth.shape[2]
    rng = np.random.default_rng(seed)
    start = rng.standard_normal((axes.shape[1], UNITS)) * (2 / axes.shape[1]) ** 0.5
    ahead = rng.standard_normal((UNITS, outputs)) * (0.1 / UNITS**0.5)
    parameters = [
        np.repeat(start[None], count, axis=0).astype(np.float32),
        np.zeros((count, 1, UNITS), np.float32),
        np.repeat(ahead[None], count, axis=0).astype(np.float32),
        np.zeros((count, 1, outputs), np.float32),
    ]
    slow = [np.zeros_like(value) for value in parameters]
    large = [np.zeros_like(value) for value in parameters]
    for step in range(1, STEPS + 1):
        budget.check()
        units = np.maximum(axes @ parameters[0] + parameters[1], 0)
        error = weight * (_answers(units @ parameters[2] + parameters[3], number) - truth)
        behind = (error @ parameters[2].transpose(0, 2, 1)) * (units > 0)
        gradients = (
            axes.T @ behind,
            behind.sum(axis=1, keepdims=True),
            units.transpose(0, 2, 1) @ error,
            error.sum(axis=1, keepdims=True),
        )
        rate = _RATE * 0.5 * (1 + np.cos(np.pi * (step - 1) / STEPS)) * min(1.0, step / 10)
        for index, gradient in enumerate(gradients):
            slow[index] += 0.1 * (gradient - slow[index])
            large[index] += 0.02 * (gradient**2 - large[index])
            size = np.sqrt(large[index] / (1 - 0.98**step)) + 1e-8
            parameters[index] -= np.float32(rate) * (slow[index] / (1 - 0.9**step)) / size
            if index % 2 == 0:
                parameters[index] *= 1 - np.float32(rate) * decay
    return parameters[0], parameters[1], parameters[2], parameters[3]


def _answers(scores: Floats, number: bool) -> Floats:
    if number:
        return scores
    if scores.shape[2] == 1:
        return np.asarray(1 / (1 + np.exp(-np.clip(scores, -60, 60))), np.float32)
    raised = np.exp(scores - scores.max(axis=2, keepdims=True))
    return np.asarray(raised / raised.sum(axis=2, keepdims=True), np.float32)
