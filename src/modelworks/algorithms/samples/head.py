"""A head: the small graph from an embedding to the answers of one task, and what is known about its fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.backbones.fusion import fuse, payload_inputs
from modelworks.algorithms.graph import Graph
from modelworks.core.backbone import EMBEDDING, Backbone
from modelworks.core.estimator import FittedModel
from modelworks.core.signature import Signature, Tensor
from modelworks.core.task import TaskKind

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
    kind: TaskKind, weights: Floats, bias: Floats, classes: Sequence[str]
) -> tuple[bytes, tuple[Tensor, ...]]:
    """Write ``embedding @ weights + bias`` and the outputs of the kind; returns the graph and its outputs.

    Args:
        kind: Binary, multiclass, multilabel or regression.
        weights: ``[width, outputs]``; one output for binary and regression.
        bias: ``[outputs]``.
        classes: Class or label names.
    """
    form = _form(kind, weights.shape, tuple(classes))
    return form.filled(weights, bias), form.outputs


@dataclass(frozen=True)
class _Form:
    """The bytes of a head's graph and where its numbers stand: hundreds of heads differ in nothing else."""

    onnx: bytes
    weights_at: int
    bias_at: int
    outputs: tuple[Tensor, ...]

    def filled(self, weights: Floats, bias: Floats) -> bytes:
        whole = bytearray(self.onnx)
        for start, array in ((self.weights_at, weights), (self.bias_at, bias)):
            raw = np.ascontiguousarray(array, "<f4").tobytes()
            whole[start : start + len(raw)] = raw
        return bytes(whole)


@lru_cache(maxsize=32)
def _form(kind: TaskKind, shape: tuple[int, int], classes: tuple[str, ...]) -> _Form:
    rng = np.random.default_rng(0)
    while True:
        weights = rng.standard_normal(shape, np.float32)
        bias = rng.standard_normal(shape[1], np.float32)
        graph = Graph()
        scores = graph.op("Gemm", EMBEDDING, graph.constant(weights), graph.constant(bias))
        outputs = write_answers(graph, scores, kind, classes)
        onnx = graph.to_bytes([embedding_input(shape[0])], outputs)
        marks = [weights.tobytes(), bias.tobytes()]
        if all(onnx.count(mark) == 1 for mark in marks):
            return _Form(onnx, onnx.index(marks[0]), onnx.index(marks[1]), outputs)


def write_answers(graph: Graph, scores: str, kind: TaskKind, classes: Sequence[str]) -> tuple[Tensor, ...]:
    """Add the public outputs of a kind to logits (predictions for regression) ``[rows, outputs]``."""
    if kind is TaskKind.REGRESSION:
        graph.op("Squeeze", scores, graph.constant([1], np.int64), out="prediction")
        return (Tensor(name="prediction", datatype="FP32", shape=(-1,)),)
    count = len(classes)
    if kind is TaskKind.MULTILABEL:
        chances = graph.op("Sigmoid", scores, out="probabilities")
        graph.op("GreaterOrEqual", chances, graph.constant(0.5, np.float32), out="labels")
        return (
            Tensor(name="probabilities", datatype="FP32", shape=(-1, count)),
            Tensor(name="labels", datatype="BOOL", shape=(-1, count)),
        )
    if kind is TaskKind.BINARY:
        chance = graph.op("Sigmoid", scores)
        rest = graph.op("Sub", graph.constant(1.0, np.float32), chance)
        chances = graph.op("Concat", rest, chance, axis=1, out="probabilities")
    else:
        chances = graph.op("Softmax", scores, axis=1, out="probabilities")
    code = graph.op("ArgMax", chances, axis=1, keepdims=0)
    graph.op("Gather", graph.strings(list(classes), (count,)), code, out="label")
    return (
        Tensor(name="probabilities", datatype="FP32", shape=(-1, count)),
        Tensor(name="label", datatype="BYTES", shape=(-1,)),
    )
