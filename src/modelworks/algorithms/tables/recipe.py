"""The table recipe: encode once, fit a small fixed portfolio fold by fold, pool, and write one ONNX graph."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelworks.algorithms.graph import Graph
from modelworks.algorithms.tables.basis import fit_basis
from modelworks.algorithms.tables.boosted import BoostedTrees
from modelworks.algorithms.tables.encoder import fit_encoder
from modelworks.algorithms.tables.linear import LinearModel
from modelworks.algorithms.tables.outputs import write_outputs
from modelworks.algorithms.tables.problem import SUPPORTED, problem_of
from modelworks.algorithms.trees import merge, write_trees
from modelworks.core.budget import Budget
from modelworks.core.estimator import Card, FittedModel
from modelworks.core.signature import Signature
from modelworks.core.task import Limits, TaskKind
from modelworks.data import TrainingTable
from modelworks.training.pool import pool_weights, pooled

CARD = Card(
    name="tables.portfolio",
    version=1,
    kinds=SUPPORTED,
    summary="A small fixed portfolio of linear models and boosted trees, pooled and calibrated out of fold.",
    source="Erickson et al. 2020 (AutoGluon); Salinas and Erickson 2023 (TabRepo); Ke et al. 2017 (LightGBM)",
)


@dataclass(frozen=True, kw_only=True)
class TableRecipe:
    """Makes a model of a table.

    Attributes:
        limits: Size, latency and budget the model must keep.
        metric: Metric of the task; steers the decision threshold.
        order: Names of members to try first (from memory of earlier tasks); empty = the portfolio's own order.
        keep_oof: Whether ``diagnostics["oof"]`` holds the out-of-fold predictions.
    """

    limits: Limits = field(default_factory=Limits)
    metric: str | None = None
    order: tuple[str, ...] = ()
    keep_oof: bool = False

    @property
    def card(self) -> Card:
        return CARD

    def fit(
        self, train: TrainingTable, valid: TrainingTable | None, budget: Budget, seed: int
    ) -> FittedModel:
        """Fit a model; see ``core.estimator.Estimator``."""
        cpu_parts: dict[str, float] = {}
        clock = time.process_time

        mark = clock()
        problem = problem_of(train)
        encoder = fit_encoder(train)
        table = encoder.transform(train.columns, train.rows)
        basis = fit_basis(table, encoder.features)
        smooth = basis.transform(table)
        cpu_parts["encode"] = clock() - mark

        linear = LinearModel(name="linear", problem=problem, features=smooth)
        members: list[Any] = [linear]
        small = train.rows < 3000
        boosted = BoostedTrees(
            name="boosted",
            problem=problem,
            features=table,
            seed=seed,
            settings={
                "learning_rate": 0.05,
                "num_leaves": 16 if small else 31,
                "min_data_in_leaf": 8 if small else 20,
                "feature_fraction": 0.6,
                "bagging_fraction": 0.85,
                "bagging_freq": 1,
                "lambda_l2": 1.0,
            },
        )
        if problem.kind is not TaskKind.MULTILABEL:
            members.append(boosted)
        fits = {}
        scores = []
        for member in members:
            mark = clock()
            folds = {fold: member.fit_fold(fold, budget) for fold in problem.fold_numbers}
            fits[member.name] = member.settle(folds, budget)
            whole = np.zeros((problem.rows, problem.outputs))
            for fold, fit in fits[member.name].items():
                whole[problem.parts(fold)[1]] = fit.scores
            scores.append(whole)
            cpu_parts[member.name] = clock() - mark
        everything = np.arange(problem.rows)
        weights = pool_weights(scores, problem, everything, floor=0.05)
        oof = pooled(scores, weights)

        mark = clock()
        graph = Graph()
        encoded = encoder.write(graph)
        terms = []
        for member, weight in zip(members, weights.tolist(), strict=True):
            if not weight:
                continue
            if isinstance(member, LinearModel):
                terms.append(member.write(graph, fits[member.name], basis.write(graph, encoded), weight))
            else:
                parts = member.trees(fits[member.name])
                terms.append(write_trees(graph, merge(parts).scaled(weight / len(parts)), encoded))
        outputs = write_outputs(graph, graph.total(terms), problem, train.classes, 0.5)
        signature = Signature(inputs=encoder.tensors, outputs=outputs, classes=train.classes)
        onnx = graph.finish(signature)
        cpu_parts["export"] = clock() - mark
        return FittedModel(
            onnx=onnx,
            signature=signature,
            diagnostics={
                "members": [
                    {
                        "name": member.name,
                        "oof_loss": problem.reported(problem.loss(score)),
                        "cpu_s": cpu_parts[member.name],
                        "weight": float(weight),
                        "kept": bool(weight),
                    }
                    for member, score, weight in zip(members, scores, weights, strict=True)
                ],
                "oof_loss": problem.reported(problem.loss(oof)),
                "chosen": "pool",
                "threshold": 0.5,
                "folds": len(problem.fold_numbers),
                "cpu_parts": cpu_parts,
            },
        )
