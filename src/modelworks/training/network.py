"""A small fully connected network trained with plain NumPy: two hidden layers, several members at once.

Adam (Kingma and Ba 2015) with a learning rate that falls along a cosine, decoupled weight decay (Loshchilov and Hutter
2019) and dropout. The members of one fit differ in their start and in the order of rows; their scores are averaged.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelworks.core.budget import Budget
from modelworks.training.problem import Floats, Problem, Rows

Singles = npt.NDArray[np.float32]

_BETA_1, _BETA_2, _TINY = 0.9, 0.99, 1e-8


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a network is trained.

    Attributes:
        hidden: Units of each of the two hidden layers.
        members: Networks trained side by side.
        epochs: Most passes over the rows.
        patience: Passes without gain on the held-out rows before training ends; the best pass is kept.
        batch: Rows per step.
        rate: Highest learning rate.
        decay: Decoupled weight decay.
        dropout: Share of hidden units left out at a step.
    """

    hidden: int = 64
    members: int = 1
    epochs: int = 40
    patience: int = 8
    batch: int = 256
    rate: float = 0.01
    decay: float = 0.1
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Network:
    """Layers of all members: ``weights`` are float32 ``[members, from, to]``, ``shifts`` ``[members, 1, to]``."""

    weights: tuple[Singles, ...]
    shifts: tuple[Singles, ...]

    def scores(self, features: Singles) -> Floats:
        """Return the members' mean score ``[rows, outputs]``."""
        layer = np.broadcast_to(features, (len(self.weights[0]), *features.shape))
        for weight, shift in zip(self.weights[:-1], self.shifts[:-1], strict=True):
            layer = layer @ weight + shift
            layer = layer * _logistic(layer)
        return np.asarray((layer @ self.weights[-1] + self.shifts[-1]).astype(np.float64).mean(axis=0))


def _logistic(values: Singles) -> Singles:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -30, 30))), dtype=np.float32)


def fit_network(
    features: Singles,
    problem: Problem,
    rows: Rows,
    valid: Rows,
    schedule: Schedule,
    seed: int,
    budget: Budget,
) -> Network:
    """Fit on some rows.

    Args:
        features: float32 ``[rows of the problem, columns]`` without gaps, of about unit scale.
        problem: Target and weights.
        rows: Rows to learn from.
        valid: Rows that decide when to stop.
        schedule: How to train.
        seed: Seed of the start, of the order of rows and of dropout.
        budget: Checked at every epoch.
    """
    generator = np.random.default_rng(seed)
    parameters = _start(features.shape[1], problem, rows, schedule, generator)
    first = [np.zeros_like(value) for value in parameters]
    second = [np.zeros_like(value) for value in parameters]
    weight = problem.row_weight(rows)
    batch = min(schedule.batch, len(rows))
    per_epoch = len(rows) // batch
    total = schedule.epochs * per_epoch
    step, best, best_loss, since = 0, _network(parameters), np.inf, 0
    for _ in range(schedule.epochs):
        budget.check()
        orders = np.stack([generator.permutation(len(rows)) for _ in range(schedule.members)])
        for begin in range(per_epoch):
            part = orders[:, begin * batch : (begin + 1) * batch]
            step += 1
            gradients = _gradients(
                parameters, features[rows[part]], problem, rows[part], weight[part], schedule, generator
            )
            rate = schedule.rate * _shape(step / total)
            for index, gradient in enumerate(gradients):
                first[index] += (1 - _BETA_1) * (gradient - first[index])
                second[index] += (1 - _BETA_2) * (np.square(gradient) - second[index])
                size = np.sqrt(second[index] / (1 - _BETA_2**step)) + _TINY
                parameters[index] -= rate * (first[index] / (1 - _BETA_1**step)) / size
                if index % 2 == 0:
                    parameters[index] *= np.float32(1 - rate * schedule.decay)
        now = _network(parameters)
        loss = problem.loss(now.scores(features[valid]), valid)
        since += 1
        if loss < best_loss:
            best, best_loss, since = now, loss, 0
        elif since >= schedule.patience:
            break
    return best


def _network(parameters: list[Singles]) -> Network:
    copied = [value.copy() for value in parameters]
    return Network(weights=tuple(copied[::2]), shifts=tuple(copied[1::2]))


def _shape(progress: float) -> float:
    """Return the share of the highest rate: a short rise, then a cosine."""
    if progress < 0.1:
        return progress / 0.1
    return 0.5 * (1 + float(np.cos(np.pi * (progress - 0.1) / 0.9)))


def _start(
    columns: int, problem: Problem, rows: Rows, schedule: Schedule, generator: np.random.Generator
) -> list[Singles]:
    sizes = (columns, schedule.hidden, schedule.hidden, problem.outputs)
    parameters: list[Singles] = []
    for layer, (source, target) in enumerate(itertools.pairwise(sizes)):
        spread = (2.0 / source) ** 0.5 if layer < 2 else 0.1 / source**0.5
        drawn = generator.normal(0, spread, (schedule.members, source, target))
        parameters.append(drawn.astype(np.float32))
        shift = np.zeros((schedule.members, 1, target))
        if layer == 0:
            shift = generator.normal(0, 0.5, shift.shape)
        if layer == 2:
            shift = shift + problem.base_scores(rows)
        parameters.append(shift.astype(np.float32))
    return parameters


def _gradients(
    parameters: list[Singles],
    inputs: Singles,
    problem: Problem,
    rows: npt.NDArray[np.int64],
    weight: Floats,
    schedule: Schedule,
    generator: np.random.Generator,
) -> list[Singles]:
    """Return the gradient of the mean loss by every parameter; ``inputs`` is ``[members, batch, columns]``."""
    layers, slopes = [inputs], []
    keep = 1 - schedule.dropout
    for index in (0, 2):
        before = layers[-1] @ parameters[index] + parameters[index + 1]
        gate = _logistic(before)
        after = before * gate
        slope = gate + after * (1 - gate)
        if schedule.dropout:
            mask = (generator.random(before.shape, dtype=np.float32) < keep) / np.float32(keep)
            after, slope = after * mask, slope * mask
        layers.append(after)
        slopes.append(slope)
    scores = layers[-1] @ parameters[4] + parameters[5]
    members, batch, outputs = scores.shape
    residual = problem.residuals(scores.reshape(-1, outputs).astype(np.float64), rows.ravel())
    pull = (residual * weight.reshape(-1, 1) / batch).reshape(members, batch, outputs).astype(np.float32)
    found: list[Singles] = []
    for index in (4, 2, 0):
        below = layers[index // 2]
        found = [below.transpose(0, 2, 1) @ pull, pull.sum(axis=1, keepdims=True), *found]
        if index:
            pull = (pull @ parameters[index].transpose(0, 2, 1)) * slopes[index // 2 - 1]
    return found
