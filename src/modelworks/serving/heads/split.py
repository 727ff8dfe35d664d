"""Taking a fused graph apart at its ``embedding``: the backbone below it, a linear or small-MLP head above it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelworks.core.digest import digest_bytes
from modelworks.core.signature import Signature
from modelworks.serving.tensors import Array

EMBEDDING = "embedding"
_FINISH = frozenset(
    ("Softmax", "Sigmoid", "ArgMax", "Gather", "Sub", "Concat", "Squeeze", "Reshape", "Identity", "Unsqueeze")
)


@dataclass(frozen=True, eq=False)
class Head:
    """A small model on an embedding.

    Attributes:
        weights: ``[outputs, inputs]`` of the last layer.
        bias: ``[outputs]``.
        hidden: Weights ``[width, d]`` and bias ``[width]`` of a ReLU layer before it, or ``None``.
        kind: ``softmax``, ``sigmoid`` (one logit, two classes) or ``identity`` (regression).
        signature: Of the fused graph.
    """

    weights: Array
    bias: Array
    hidden: tuple[Array, Array] | None
    kind: str
    signature: Signature

    @property
    def shape(self) -> tuple[int, int, int]:
        """Outputs, width of the hidden layer (0: none), size of the embedding: heads of one shape are stacked."""
        if self.hidden is None:
            return self.weights.shape[0], 0, self.weights.shape[1]
        return self.weights.shape[0], self.hidden[0].shape[0], self.hidden[0].shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of its weights."""
        hidden = self.hidden[0].nbytes + self.hidden[1].nbytes if self.hidden else 0
        return int(self.weights.nbytes + self.bias.nbytes + hidden)


@dataclass(frozen=True)
class Split:
    """A fused graph in two parts.

    Attributes:
        digest: SHA-256 of the backbone's own bytes: computed from what was verified, never taken on trust.
        backbone: Graph from the inputs to ``embedding``.
        head: The rest.
    """

    digest: str
    backbone: bytes = field(repr=False)
    head: Head


def split_head(onnx_bytes: bytes, signature: Signature) -> Split | None:
    """Return the parts of a fused graph, or ``None`` if it is not a backbone with a head of a known form.

    The form: a value named ``embedding`` ``[rows, d]``; above it only one or two linear layers (MatMul and Add, or
    Gemm; ReLU between them), then softmax, a sigmoid of one logit, or nothing, and a label by ArgMax and Gather.
    Whether the parts together really answer as the whole is checked by the caller on real rows.
    """
    if EMBEDDING.encode() not in onnx_bytes:
        return None
    import onnx

    model = onnx.load_model_from_string(onnx_bytes)
    producer = {name: node for node in model.graph.node for name in node.output}
    if EMBEDDING not in producer or model.functions or any(_holds_graphs(node) for node in model.graph.node):
        return None
    below = _ancestors(producer, EMBEDDING)
    above = [node for node in model.graph.node if id(node) not in below]
    constants = {item.name: item for item in model.graph.initializer}
    inputs = {item.name for item in model.graph.input} - set(constants)
    made_below = {name for node in model.graph.node if id(node) in below for name in node.output}
    crossing = {name for node in above for name in node.input if name in made_below or name in inputs}
    if crossing != {EMBEDDING}:
        return None
    head = _read_head(above, constants, signature)
    if head is None:
        return None
    backbone = _backbone(model, below)
    return Split(digest_bytes(backbone), backbone, head)


def _holds_graphs(node: Any) -> bool:
    return any(item.HasField("g") or item.graphs for item in node.attribute)


def _ancestors(producer: dict[str, Any], name: str) -> set[int]:
    found: set[int] = set()
    waiting = [name]
    while waiting:
        node = producer.get(waiting.pop())
        if node is not None and id(node) not in found:
            found.add(id(node))
            waiting.extend(node.input)
    return found


def _backbone(model: Any, below: set[int]) -> bytes:
    """Return the graph up to the embedding; equal parts of different graphs give equal bytes."""
    import onnx

    nodes = [node for node in model.graph.node if id(node) in below]
    used = {name for node in nodes for name in node.input}
    made = onnx.GraphProto(name="backbone")
    made.node.extend(nodes)
    for number, node in enumerate(made.node):
        node.name = f"n{number}"
        node.doc_string = ""
    made.input.extend(item for item in model.graph.input if item.name in used)
    made.initializer.extend(item for item in model.graph.initializer if item.name in used)
    made.output.append(onnx.helper.make_tensor_value_info(EMBEDDING, onnx.TensorProto.FLOAT, ["rows", None]))
    opsets = sorted(model.opset_import, key=lambda item: item.domain)
    whole = onnx.helper.make_model(made, opset_imports=opsets, ir_version=model.ir_version)
    whole.producer_name = ""
    return bytes(whole.SerializeToString(deterministic=True))


def _read_head(nodes: list[Any], constants: dict[str, Any], signature: Signature) -> Head | None:
    by_input: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            by_input.setdefault(name, []).append(node)
    first = _layer(EMBEDDING, by_input, constants)
    if first is None:
        return None
    name, weights, bias, used = first
    hidden = None
    after = by_input.get(name, [])
    if len(after) == 1 and after[0].op_type == "Relu":
        second = _layer(after[0].output[0], by_input, constants)
        if second is None:
            return None
        hidden, used = (weights, bias), [*used, after[0], *second[3]]
        name, weights, bias, _ = second
    rest = [node for node in nodes if all(node is not other for other in used)]
    kind = _finish(rest, weights.shape[0], signature)
    if kind is None:
        return None
    return Head(weights, bias, hidden, kind, signature)


def _layer(
    name: str, by_input: dict[str, list[Any]], constants: dict[str, Any]
) -> tuple[str, Array, Array, list[Any]] | None:
    """Return output name, weights ``[outputs, inputs]``, bias and nodes of the linear layer that reads ``name``."""
    from onnx import numpy_helper

    readers = by_input.get(name, [])
    if len(readers) != 1 or readers[0].input[0] != name:
        return None
    node = readers[0]
    if node.op_type == "Gemm" and node.input[1] in constants:
        options = {item.name: item.f if item.type == 1 else item.i for item in node.attribute}
        if options.get("alpha", 1.0) != 1.0 or options.get("beta", 1.0) != 1.0 or options.get("transA", 0):
            return None
        weights = numpy_helper.to_array(constants[node.input[1]])
        weights = weights if options.get("transB", 0) else weights.T
        if len(node.input) == 3 and node.input[2] not in constants:
            return None
        bias = (
            numpy_helper.to_array(constants[node.input[2]])
            if len(node.input) == 3
            else np.zeros(len(weights))
        )
        return _checked(node.output[0], weights, bias, [node])
    if node.op_type != "MatMul" or node.input[1] not in constants:
        return None
    weights = numpy_helper.to_array(constants[node.input[1]]).T
    adders = by_input.get(node.output[0], [])
    if len(adders) == 1 and adders[0].op_type == "Add":
        other = [item for item in adders[0].input if item != node.output[0]]
        if len(other) == 1 and other[0] in constants:
            bias = numpy_helper.to_array(constants[other[0]])
            return _checked(adders[0].output[0], weights, bias, [node, adders[0]])
    return _checked(node.output[0], weights, np.zeros(len(weights)), [node])


def _checked(
    name: str, weights: Array, bias: Array, nodes: list[Any]
) -> tuple[str, Array, Array, list[Any]] | None:
    bias = np.ravel(bias)
    if weights.ndim != 2 or weights.dtype != np.float32 or len(bias) != len(weights):
        return None
    return name, np.ascontiguousarray(weights), bias.astype(np.float32), nodes


def _finish(nodes: list[Any], outputs: int, signature: Signature) -> str | None:
    """Return what turns logits into answers, or ``None`` if it is more than these heads do."""
    operators = {node.op_type for node in nodes}
    if not operators <= _FINISH:
        return None
    names = {tensor.name for tensor in signature.outputs}
    classes = len(signature.classes)
    if names == {"prediction"} and outputs == 1 and not operators & {"Softmax", "Sigmoid", "ArgMax", "Sub"}:
        return "identity"
    if not names <= {"probabilities", "label"} or ("label" in names and "ArgMax" not in operators):
        return None
    if "Softmax" in operators and "Sigmoid" not in operators and outputs == classes:
        return "softmax"
    if "Sigmoid" in operators and "Softmax" not in operators and (outputs, classes) == (1, 2):
        return "sigmoid"
    return None
