"""Baselines every model must beat: the constant, the best single-feature rule and a plain linear model."""

from __future__ import annotations

import numpy as np

from modelworks.algorithms.graph import Graph
from modelworks.algorithms.tables.basis import fit_basis
from modelworks.algorithms.tables.encoder import Encoder, fit_encoder
from modelworks.algorithms.tables.linear import LinearModel
from modelworks.algorithms.tables.outputs import write_outputs
from modelworks.algorithms.tables.problem import problem_of
from modelworks.core.budget import Budget
from modelworks.core.estimator import FittedModel
from modelworks.core.signature import Signature
from modelworks.data import TrainingTable
from modelworks.training.decision import choose_decision
from modelworks.training.problem import Floats, Problem


def fit_baselines(train: TrainingTable, budget: Budget, seed: int) -> dict[str, FittedModel]:
    """Fit the baselines, each a graph over the same inputs as the model it is compared with.

    Returns:
        ``constant`` and ``linear``.
    """
    problem = problem_of(train)
    encoder = fit_encoder(train)
    table = encoder.transform(train.columns, train.rows)
    found = {"constant": _constant(train, problem, encoder)}
    basis = fit_basis(table, encoder.features, max_columns=64)
    linear = LinearModel(
        name="linear", problem=problem, features=basis.transform(table), penalties=(10.0, 1.0)
    )
    fits = {fold: linear.fit_fold(fold, budget) for fold in problem.fold_numbers}
    graph = Graph()
    model = linear.finish(fits, budget)
    scores = linear.write(graph, model, basis.write(graph, encoder.write(graph)), 1.0)
    oof = np.zeros((problem.rows, problem.outputs))
    for fold, fit in fits.items():
        oof[problem.parts(fold)[1]] = fit.scores
    found["linear"] = _finish(graph, scores, train, problem, encoder, oof)
    return found


def _constant(train: TrainingTable, problem: Problem, encoder: Encoder) -> FittedModel:
    graph = Graph()
    encoded = encoder.write(graph)
    rows = graph.op("Shape", encoded, end=1)
    shape = graph.op("Concat", rows, graph.constant([problem.outputs], np.int64), axis=0)
    base = problem.base_scores()
    scores = graph.op("Expand", graph.constant(base[None, :], np.float32), shape)
    return _finish(graph, scores, train, problem, encoder, np.tile(base, (problem.rows, 1)))


def _finish(
    graph: Graph, scores: str, train: TrainingTable, problem: Problem, encoder: Encoder, oof: Floats
) -> FittedModel:
    decision = choose_decision(problem, oof, np.arange(problem.rows), None)
    outputs = write_outputs(graph, scores, problem, train.classes, decision)
    signature = Signature(inputs=encoder.tensors, outputs=outputs, classes=train.classes)
    return FittedModel(
        onnx=graph.finish(signature),
        signature=signature,
        diagnostics={"oof_loss": problem.reported(problem.loss(oof)), "folds": len(problem.fold_numbers)},
    )
