"""A head: the small graph from an embedding to the answers of one task, and what is known about its fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.backbones.fusion import fuse, payload_inputs
from modelworks.algorithms.graph import INT64, Graph
from modelworks.core.backbone import EMBEDDING, Backbone
from modelworks.core.estimator import FittedModel
from modelworks.core.signature import Signature, Tensor
from modelworks.core.task import TaskKind
from modelworks.training.decision import Decision
from modelworks.training.heads.forms import TINY, Form, LinearForm, NeighbourForm

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class FittedHead:
    """A fitted head.

    Attributes:
        onnx: Graph from ``embedding`` FP32 [rows, width] to the outputs of the task's kind.
        backbone: Name of the backbone it sits on.
        outputs: Its outputs.
        classes: Class or label names.
        diagnostics: As ``FittedModel.diagnostics``.
    """

    onnx: bytes = field(repr=False)
    backbone: str
    outputs: tuple[Tensor, ...]
    classes: tuple[str, ...]
    diagnostics: dict[str, Any] = field(default_factory=dict)

    def fused(self, backbone: Backbone, column: str) -> FittedModel:
        """Return the whole model: one graph from the payload ``column`` to the answers."""
        return FittedModel(
            onnx=fuse(backbone.onnx, self.onnx),
            signature=self.signature(backbone, column),
            diagnostics=self.diagnostics,
        )

    def signature(self, backbone: Backbone, column: str) -> Signature:
        """Return the signature of the whole model."""
        return Signature(
            inputs=payload_inputs(backbone, column),
            outputs=self.outputs,
            classes=self.classes,
            tokenizer=backbone.tokenizer,
        )


def embedding_input(width: int) -> Tensor:
    """Return the one input of a head's graph."""
    return Tensor(name=EMBEDDING, datatype="FP32", shape=(-1, width))


def linear_head(
    kind: TaskKind,
    weights: Floats,
    bias: Floats,
    classes: Sequence[str],
    decision: Decision | None = None,
) -> tuple[bytes, tuple[Tensor, ...]]:
    """Write ``embedding @ weights + bias`` and the outputs of the kind; returns the graph and its outputs.

    Args:
        kind: Binary, multiclass, multilabel or regression.
        weights: ``[width, outputs]``; one output for binary and regression.
        bias: ``[outputs]``.
        classes: Class or label names.
        decision: How labels are read off; ``None`` for the most probable class, or one half.
    """
    found = decision or usual_decision(kind, classes)
    moved = found != usual_decision(kind, classes)
    form = _shape(kind, weights.shape, tuple(classes), bool(found.factors), moved)
    return form.filled(weights, bias, _numbers(found)), form.outputs


def head_graph(
    kind: TaskKind, forms: Sequence[Form], classes: Sequence[str], decision: Decision
) -> tuple[bytes, tuple[Tensor, ...]]:
    """Write a head of any family; returns the graph and its outputs.

    Args:
        kind: Binary, multiclass, multilabel or regression.
        forms: One form; for a task of several labels one per label, each with one output.
        classes: Class or label names.
        decision: How labels are read off.
    """
    plain = [form for form in forms if isinstance(form, LinearForm) and form.centre is None]
    if len(plain) == len(forms):
        weights = np.concatenate([form.weights for form in plain], axis=1)
        return linear_head(kind, weights, np.concatenate([form.bias for form in plain]), classes, decision)
    graph = Graph()
    scores = graph.concat([write_scores(graph, form) for form in forms])
    outputs = write_answers(graph, scores, kind, classes, decision)
    return graph.to_bytes([embedding_input(_width(forms[0]))], outputs), outputs


def write_scores(graph: Graph, form: Form) -> str:
    """Add what a form computes from the input ``embedding``; returns its scores ``[rows, outputs]``."""
    if isinstance(form, LinearForm):
        seen = EMBEDDING if form.centre is None else _directions(graph, form.centre)
        return graph.op("Gemm", seen, graph.constant(form.weights), graph.constant(form.bias))
    if isinstance(form, NeighbourForm):
        return _votes(graph, form)
    first = graph.op("Gemm", EMBEDDING, graph.constant(form.first), graph.constant(form.first_bias))
    units = graph.op("Relu", first)
    return graph.op("Gemm", units, graph.constant(form.second), graph.constant(form.second_bias))


def _width(form: Form) -> int:
    if isinstance(form, LinearForm):
        return len(form.weights)
    return len(form.centre) if isinstance(form, NeighbourForm) else len(form.first)


def _directions(graph: Graph, centre: Floats) -> str:
    moved = graph.op("Sub", EMBEDDING, graph.constant(centre))
    length = graph.op("ReduceL2", moved, graph.constant([1], np.int64))
    return graph.op("Div", moved, graph.op("Max", length, graph.constant(TINY, np.float32)))


def _votes(graph: Graph, form: NeighbourForm) -> str:
    near = graph.op("MatMul", _directions(graph, form.centre), graph.constant(form.memory.T))
    count = graph.constant([form.count], np.int64)
    _, places = graph.ops("TopK", near, count, outs=(None, None), axis=1)
    votes = graph.op("Gather", graph.constant(form.values), places, axis=0)
    found = graph.op("ReduceMean", votes, graph.constant([1], np.int64), keepdims=0)
    if len(form.prior):
        every = np.float32(form.count / (form.count + 1))
        share = graph.op(
            "Add", graph.scaled(found, float(every)), graph.constant(form.prior / (form.count + 1))
        )
        found = graph.op("Log", share)
        if len(form.prior) == 2:
            found = graph.op("MatMul", found, graph.constant([[-1.0], [1.0]], np.float32))
    return graph.op("Add", graph.op("Mul", found, graph.constant(form.slope)), graph.constant(form.shift))


def usual_decision(kind: TaskKind, classes: Sequence[str]) -> Decision:
    """Return the decision of the most probable class, or of one half."""
    return Decision((0.5,) * len(classes) if kind is TaskKind.MULTILABEL else (0.5,))


def _numbers(decision: Decision) -> Floats:
    return np.array(decision.factors or decision.thresholds, np.float32)


@dataclass(frozen=True)
class _Shape:
    """The bytes of a head's graph and where its numbers stand: hundreds of heads differ in nothing else."""

    onnx: bytes
    places: tuple[int, ...]
    outputs: tuple[Tensor, ...]

    def filled(self, *numbers: Floats) -> bytes:
        whole = bytearray(self.onnx)
        for start, array in zip(self.places, numbers, strict=False):
            raw = np.ascontiguousarray(array, "<f4").tobytes()
            whole[start : start + len(raw)] = raw
        return bytes(whole)


@lru_cache(maxsize=32)
def _shape(
    kind: TaskKind, shape: tuple[int, int], classes: tuple[str, ...], factors: bool, moved: bool
) -> _Shape:
    rng = np.random.default_rng(0)
    while True:
        weights = rng.standard_normal(shape, np.float32)
        bias = rng.standard_normal(shape[1], np.float32)
        marks = [weights.tobytes(), bias.tobytes()]
        count = len(classes) if factors or kind is TaskKind.MULTILABEL else 1
        numbers = rng.random(count).astype(np.float32)
        decision = usual_decision(kind, classes)
        if moved:
            decision = Decision((), tuple(numbers.tolist())) if factors else Decision(tuple(numbers.tolist()))
        if moved and (factors or kind in {TaskKind.BINARY, TaskKind.MULTILABEL}):
            marks.append(numbers.tobytes())
        graph = Graph()
        scores = graph.op("Gemm", EMBEDDING, graph.constant(weights), graph.constant(bias))
        outputs = write_answers(graph, scores, kind, classes, decision)
        onnx = graph.to_bytes([embedding_input(shape[0])], outputs)
        if all(onnx.count(mark) == 1 for mark in marks):
            return _Shape(onnx, tuple(onnx.index(mark) for mark in marks), outputs)


def write_answers(
    graph: Graph, scores: str, kind: TaskKind, classes: Sequence[str], decision: Decision | None = None
) -> tuple[Tensor, ...]:
    """Add the public outputs of a kind to logits (predictions for regression) ``[rows, outputs]``.

    The most probable class is named by ``ArgMax``: heads of that form share one product in the engine.
    """
    decision = decision or usual_decision(kind, classes)
    if kind is TaskKind.REGRESSION:
        graph.op("Squeeze", scores, graph.constant([1], np.int64), out="prediction")
        return (Tensor(name="prediction", datatype="FP32", shape=(-1,)),)
    count = len(classes)
    if kind is TaskKind.MULTILABEL:
        chances = graph.op("Sigmoid", scores, out="probabilities")
        graph.op("GreaterOrEqual", chances, graph.constant(decision.thresholds, np.float32), out="labels")
        return (
            Tensor(name="probabilities", datatype="FP32", shape=(-1, count)),
            Tensor(name="labels", datatype="BOOL", shape=(-1, count)),
        )
    if kind is TaskKind.BINARY:
        chance = graph.op("Sigmoid", scores)
        rest = graph.op("Sub", graph.constant(1.0, np.float32), chance)
        graph.op("Concat", rest, chance, axis=1, out="probabilities")
        chances = "probabilities"
        if decision != usual_decision(kind, classes):
            above = graph.op("GreaterOrEqual", chance, graph.constant(decision.thresholds, np.float32))
            chances = graph.op("Concat", graph.op("Not", above), above, axis=1)
            chances = graph.cast(chances, INT64)
    else:
        chances = graph.op("Softmax", scores, axis=1, out="probabilities")
        if decision.factors:
            chances = graph.op("Mul", chances, graph.constant(decision.factors, np.float32))
    code = graph.op("ArgMax", chances, axis=1, keepdims=0)
    graph.op("Gather", graph.strings(list(classes), (count,)), code, out="label")
    return (
        Tensor(name="probabilities", datatype="FP32", shape=(-1, count)),
        Tensor(name="label", datatype="BYTES", shape=(-1,)),
    )
