"""From pooled scores to the public outputs of a table model (names in ``core/signature.py``)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.graph import INT64, Graph
from modelworks.core.signature import Tensor
from modelworks.core.task import TaskKind
from modelworks.training.decision import Decision
from modelworks.training.problem import Problem, sigmoid, softmax


def write_outputs(
    graph: Graph, scores: str, problem: Problem, classes: Sequence[str], decision: Decision
) -> tuple[Tensor, ...]:
    """Add the outputs of the task kind; returns their tensors."""
    if problem.kind is TaskKind.REGRESSION:
        return (_write_number(graph, scores, problem),)
    if problem.kind is TaskKind.MULTILABEL:
        chances = graph.op("Sigmoid", scores, out="probabilities")
        graph.op("GreaterOrEqual", chances, graph.constant([decision.thresholds], np.float32), out="labels")
        return (
            Tensor(name="probabilities", datatype="FP32", shape=(-1, len(classes))),
            Tensor(name="labels", datatype="BOOL", shape=(-1, len(classes))),
        )
    names = graph.strings(list(classes), (len(classes),))
    if problem.kind is TaskKind.BINARY:
        chance = graph.op("Sigmoid", scores)
        rest = graph.op("Sub", graph.constant(1.0, np.float32), chance)
        graph.op("Concat", rest, chance, axis=1, out="probabilities")
        above = graph.op("GreaterOrEqual", chance, graph.constant(decision.thresholds[0], np.float32))
        code = graph.op("Squeeze", graph.cast(above, INT64), graph.constant([1], np.int64))
    else:
        chances = graph.op("Softmax", scores, axis=1, out="probabilities")
        if decision.factors:
            chances = graph.op("Mul", chances, graph.constant([decision.factors], np.float32))
        code = graph.op("ArgMax", chances, axis=1, keepdims=0)
    graph.op("Gather", names, code, out="label")
    return (
        Tensor(name="probabilities", datatype="FP32", shape=(-1, len(classes))),
        Tensor(name="label", datatype="BYTES", shape=(-1,)),
    )


def _raw(graph: Graph, scores: str, problem: Problem) -> str:
    scaled = graph.op("Mul", scores, graph.constant(problem.spread, np.float32))
    return graph.op("Add", scaled, graph.constant(problem.centre, np.float32))


def _write_number(graph: Graph, scores: str, problem: Problem) -> Tensor:
    graph.op("Squeeze", _raw(graph, scores, problem), graph.constant([1], np.int64), out="prediction")
    return Tensor(name="prediction", datatype="FP32", shape=(-1,))


def write_quantiles(graph: Graph, quantiles: str, problem: Problem, levels: int) -> Tensor:
    """Add the output ``quantiles`` in the target's unit from standardised quantiles ``[rows, levels]``."""
    graph.rename(_raw(graph, quantiles, problem), "quantiles")
    return Tensor(name="quantiles", datatype="FP32", shape=(-1, levels))


def native_outputs(
    scores: npt.NDArray[np.float64], problem: Problem, classes: Sequence[str], decision: Decision
) -> dict[str, npt.NDArray[np.generic]]:
    """Compute the same outputs in NumPy (for the parity gate)."""
    if problem.kind is TaskKind.REGRESSION:
        return {"prediction": (problem.centre + problem.spread * scores[:, 0]).astype(np.float32)}
    if problem.kind is TaskKind.MULTILABEL:
        chances = sigmoid(scores)
        return {"probabilities": chances.astype(np.float32), "labels": chances >= decision.thresholds}
    names = np.array(classes, dtype=object)
    if problem.kind is TaskKind.BINARY:
        chance = sigmoid(scores)
        both = np.concatenate([1 - chance, chance], axis=1)
        return {
            "probabilities": both.astype(np.float32),
            "label": names[(chance[:, 0] >= decision.thresholds[0]).astype(int)],
        }
    chances = softmax(scores)
    favoured = chances * (decision.factors or 1.0)
    return {"probabilities": chances.astype(np.float32), "label": names[favoured.argmax(axis=1)]}
