"""The small network: its gradients, what it learns, and that it repeats itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelworks.core.budget import Budget
from modelworks.core.task import TaskKind
from modelworks.training.network import Network, Schedule, _gradients, _start, fit_network
from modelworks.training.problem import Problem

GENERATOR = np.random.default_rng(5)
INPUTS = GENERATOR.normal(size=(300, 4)).astype(np.float32)
SIGNAL = np.sin(2 * INPUTS[:, 0]) + INPUTS[:, 1] * INPUTS[:, 2]
FOLDS = (np.arange(300) % 5).astype(np.int8)
PROBLEMS = {
    "regression": Problem(
        kind=TaskKind.REGRESSION, target=(SIGNAL - SIGNAL.mean()) / SIGNAL.std(), folds=FOLDS, classes=0
    ),
    "binary": Problem(kind=TaskKind.BINARY, target=(SIGNAL > 0).astype(np.int64), folds=FOLDS, classes=2),
    "multiclass": Problem(
        kind=TaskKind.MULTICLASS, target=np.digitize(SIGNAL, [-0.5, 0.5]), folds=FOLDS, classes=3
    ),
}


@pytest.mark.parametrize("kind", PROBLEMS)
def test_gradients_are_those_of_the_loss(kind: str) -> None:
    problem, rows = PROBLEMS[kind], np.arange(40)
    schedule = Schedule(hidden=5, dropout=0.0)
    generator = np.random.default_rng(0)
    parameters = [value.astype(np.float64) for value in _start(4, problem, rows, schedule, generator)]
    part = (INPUTS[None, :40], problem, rows[None], problem.row_weight(rows)[None], schedule, generator)
    found = _gradients(parameters, *part)

    def loss(values: list[np.ndarray]) -> float:
        network = Network(weights=tuple(values[::2]), shifts=tuple(values[1::2]))
        half = 0.5 if problem.kind is TaskKind.REGRESSION else 1.0
        return half * problem.loss(network.scores(INPUTS[:40]), rows)

    for index, gradient in enumerate(found):
        spot = np.unravel_index(int(np.abs(gradient).argmax()), gradient.shape)
        moved = [value.copy() for value in parameters]
        moved[index][spot] += 1e-3
        up = loss(moved)
        moved[index][spot] -= 2e-3
        assert (up - loss(moved)) / 2e-3 == pytest.approx(float(gradient[spot]), rel=0.02, abs=1e-4)


@pytest.mark.parametrize("kind", PROBLEMS)
def test_it_learns_what_a_line_cannot(kind: str) -> None:
    problem = PROBLEMS[kind]
    train, valid = problem.parts(0)
    schedule = Schedule(batch=64, epochs=80, patience=20)
    network = fit_network(INPUTS, problem, train, valid, schedule, 0, Budget(60))
    constant = np.broadcast_to(problem.base_scores(train), (len(valid), problem.outputs))
    assert problem.loss(network.scores(INPUTS[valid]), valid) < 0.7 * problem.loss(constant, valid)
    again = fit_network(INPUTS, problem, train, valid, schedule, 0, Budget(60))
    assert all(np.array_equal(a, b) for a, b in zip(network.weights, again.weights, strict=True))


def test_rows_without_weight_do_not_count() -> None:
    problem = PROBLEMS["binary"]
    lied = np.arange(300) % 3 == 0
    weight = np.where(lied, 0.0, 1.5)
    wrong = replace(problem, target=np.where(lied, 1 - problem.target, problem.target), weight=weight)
    train, valid = wrong.parts(0)
    network = fit_network(INPUTS, wrong, train, valid, Schedule(batch=64), 0, Budget(60))
    assert problem.loss(network.scores(INPUTS[valid]), valid) < 0.69
