"""The portfolio as data: which members run on a table of a given size, with which settings, on how many folds.

Learned with ``benchmarks/portfolio`` (report of 2026-11-24): the grid of boosted settings is flat, a rate of 0.1 gives
the loss of 0.05 for half the cost, a second booster is worth one per cent at most; another family is worth more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.tables.boosted import BoostedTrees
from modelworks.algorithms.tables.kernel import KernelMachine
from modelworks.algorithms.tables.linear import LinearModel
from modelworks.core.task import TaskKind
from modelworks.training.problem import Problem

LINEAR, BOOSTED, KERNEL = "linear", "boosted", "kernel"
LARGE = 20_000
MANY_CLASSES = 5


@dataclass(frozen=True, kw_only=True)
class Portfolio:
    """Members and folds for one table.

    Attributes:
        members: Names, in the order in which they run.
        folds: Folds that are run; every fold model answers in the shipped graph.
        columns: Most columns of the basis.
        booster: LightGBM parameters.
        rounds: Most boosting rounds.
        landmarks: Most landmarks of the kernel machine.
        penalties: Ridge penalties of the linear model, strongest first.
        kernel_penalties: Ridge penalties of the kernel machine, strongest first.
    """

    members: tuple[str, ...]
    folds: int
    columns: int = 384
    booster: dict[str, Any] = field(default_factory=dict)
    rounds: int = 600
    landmarks: int = 500
    penalties: tuple[float, ...] = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3)
    kernel_penalties: tuple[float, ...] = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01)


def portfolio_for(problem: Problem, order: tuple[str, ...] = ()) -> Portfolio:
    """Choose the portfolio for a problem.

    Args:
        problem: Rows, outputs and kind decide.
        order: Members that memory advises: they run in this order and the others do not.
    """
    rows, outputs = problem.rows, problem.outputs
    many = outputs > MANY_CLASSES
    small = rows < 3000
    folds = 5 if small else 3 if rows < 8000 else 2 if rows <= LARGE else 1
    if many:
        folds = min(folds, 3 if rows < 1000 else 2 if rows < 6000 else 1)
    members = [LINEAR, BOOSTED, KERNEL] if rows <= LARGE else [BOOSTED]
    if problem.kind is TaskKind.MULTILABEL:
        members = [LINEAR, KERNEL] if rows <= LARGE else [LINEAR]
    advised = [name for name in order if name in members]
    return Portfolio(
        members=tuple(advised or members),
        folds=folds,
        columns=160 if many and rows > 1000 else 384,
        booster={
            "learning_rate": 0.15 if many else 0.1 if rows <= LARGE else 0.08,
            "num_leaves": 16 if small else 31,
            "min_data_in_leaf": 8 if small else 20,
            "feature_fraction": 0.6 if small else 0.8,
            "bagging_fraction": 0.85,
            "bagging_freq": 1,
            "lambda_l2": 1.0,
        },
        rounds=200 if many else 400 if outputs > 1 else 800,
        landmarks=350 if many and rows > 5000 else 500,
        penalties=(30.0, 3.0, 0.3) if many else (100.0, 30.0, 10.0, 3.0, 1.0, 0.3),
        kernel_penalties=(0.3, 0.03) if many else (3.0, 1.0, 0.3, 0.1, 0.03, 0.01),
    )


def build_member(
    name: str,
    portfolio: Portfolio,
    problem: Problem,
    table: npt.NDArray[np.float32],
    smooth: npt.NDArray[np.float32],
    seed: int,
) -> LinearModel | BoostedTrees | KernelMachine:
    """Make a member of the portfolio.

    Args:
        name: One of ``portfolio.members``.
        portfolio, problem: Settings and what to learn.
        table: Encoded table ``[rows, features]`` with NaN.
        smooth: Basis of the table ``[rows, columns]`` without gaps.
        seed: Seed of random choices.
    """
    if name == LINEAR:
        return LinearModel(name=name, problem=problem, features=smooth, penalties=portfolio.penalties)
    if name == KERNEL:
        return KernelMachine(
            name=name,
            problem=problem,
            features=smooth,
            seed=seed,
            landmarks=portfolio.landmarks,
            penalties=portfolio.kernel_penalties,
        )
    return BoostedTrees(
        name=name,
        problem=problem,
        features=table,
        seed=seed,
        settings=portfolio.booster,
        rounds=portfolio.rounds,
        patience=20,
    )
