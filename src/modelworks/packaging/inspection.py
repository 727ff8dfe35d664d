"""What a graph may hold: checked on the bytes, before any native parser sees them (checklist S11)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from modelworks.core.errors import TrustError, close_matches
from modelworks.packaging import trees, wire
from modelworks.packaging.operators import ALLOWED, STANDARD_DOMAINS
from modelworks.packaging.wire import BYTES, FIXED32, FIXED64, VARINT, Field, WireError

MODEL_FIELDS = {
    1: Field("ir_version", VARINT), 2: Field("producer_name", BYTES), 3: Field("producer_version", BYTES),
    4: Field("domain", BYTES), 5: Field("model_version", VARINT), 6: Field("doc_string", BYTES),
    7: Field("graph", BYTES), 8: Field("opset_import", BYTES, True), 14: Field("metadata_props", BYTES, True),
    20: Field("training_info", BYTES, True), 25: Field("functions", BYTES, True),
}  # fmt: skip
OPSET_FIELDS = {1: Field("domain", BYTES), 2: Field("version", VARINT)}
GRAPH_FIELDS = {
    1: Field("node", BYTES, True), 2: Field("name", BYTES), 5: Field("initializer", BYTES, True),
    10: Field("doc_string", BYTES), 11: Field("input", BYTES, True), 12: Field("output", BYTES, True),
    13: Field("value_info", BYTES, True), 15: Field("sparse_initializer", BYTES, True),
}  # fmt: skip
VALUE_FIELDS = {1: Field("name", BYTES), 2: Field("type", BYTES), 3: Field("doc_string", BYTES)}
TYPE_FIELDS = {1: Field("tensor_type", BYTES), 6: Field("denotation", BYTES)}
TENSOR_TYPE_FIELDS = {1: Field("elem_type", VARINT), 2: Field("shape", BYTES)}
SHAPE_FIELDS = {1: Field("dim", BYTES, True)}
DIM_FIELDS = {1: Field("dim_value", VARINT), 2: Field("dim_param", BYTES), 3: Field("denotation", BYTES)}
NODE_FIELDS = {
    1: Field("input", BYTES, True), 2: Field("output", BYTES, True), 3: Field("name", BYTES),
    4: Field("op_type", BYTES), 5: Field("attribute", BYTES, True), 6: Field("doc_string", BYTES),
    7: Field("domain", BYTES), 8: Field("overload", BYTES),
}  # fmt: skip
ATTRIBUTE_FIELDS = {
    1: Field("name", BYTES), 2: Field("f", FIXED32), 3: Field("i", VARINT), 4: Field("s", BYTES), 5: Field("t", BYTES),
    6: Field("g", BYTES), 7: Field("floats", FIXED32, True), 8: Field("ints", VARINT, True),
    9: Field("strings", BYTES, True, True), 10: Field("tensors", BYTES, True), 11: Field("graphs", BYTES, True),
    13: Field("doc_string", BYTES), 20: Field("type", VARINT), 21: Field("ref_attr_name", BYTES),
    22: Field("sparse_tensor", BYTES), 23: Field("sparse_tensors", BYTES, True),
}  # fmt: skip
TENSOR_FIELDS = {
    1: Field("dims", VARINT, True), 2: Field("data_type", VARINT), 3: Field("segment", BYTES),
    4: Field("float_data", FIXED32, True), 5: Field("int32_data", VARINT, True),
    6: Field("string_data", BYTES, True, True),
    7: Field("int64_data", VARINT, True), 8: Field("name", BYTES), 9: Field("raw_data", BYTES),
    10: Field("double_data", FIXED64, True), 11: Field("uint64_data", VARINT, True), 12: Field("doc_string", BYTES),
    13: Field("external_data", BYTES, True), 14: Field("data_location", VARINT),
}  # fmt: skip

ELEMENT_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
STRING_TYPE = 8
_TYPED = {"float_data": "float32", "int32_data": "int32", "int64_data": "int64", "double_data": "float64",
          "uint64_data": "uint64"}  # fmt: skip
_NEWEST_IR = 13


@dataclass(frozen=True, kw_only=True)
class GraphLimits:
    """How large a graph may be.

    Attributes:
        bytes: Bytes of the whole file.
        nodes: Nodes.
        constants: Initialisers and constant tensors.
        attribute_values: Numbers and texts in node attributes.
        rank: Axes of a tensor.
        dimension: Length of one declared axis.
    """

    bytes: int = 512 * 2**20
    nodes: int = 20_000
    constants: int = 20_000
    attribute_values: int = 50_000_000
    rank: int = 8
    dimension: int = 2**31


def inspect_bytes(onnx: bytes, limits: GraphLimits) -> dict[str, Any]:
    """Check a graph; returns ``{operators, nodes, constants, constant_bytes, opsets, inputs, outputs, bytes}``.

    Raises:
        TrustError: It holds something that is not allowed; the message says what.
    """
    if len(onnx) > limits.bytes:
        raise refuse(f"it has {len(onnx):,} bytes; {limits.bytes:,} are allowed")
    try:
        return _Inspector(limits).model(memoryview(onnx))
    except WireError as error:
        raise refuse(f"its bytes are not a plain ONNX model: {error}") from None


def refuse(why: str) -> TrustError:
    """Return the error for a graph that is not opened."""
    return TrustError(
        f"model.onnx is refused: {why}.",
        code="MW3201",
        where="model.onnx",
        hint="export it again with standard operators and with its weights inside the file",
    )


class _Inspector:
    def __init__(self, limits: GraphLimits) -> None:
        self.limits = limits
        self.operators: Counter[str] = Counter()
        self.constants = 0
        self.constant_bytes = 0
        self.attribute_values = 0

    def model(self, data: memoryview) -> dict[str, Any]:
        model = wire.read_message(data, MODEL_FIELDS)
        if model.get("functions"):
            raise refuse("it defines functions of its own")
        if model.get("training_info"):
            raise refuse("it carries training information")
        if not 3 <= _single(model, "ir_version") <= _NEWEST_IR:
            raise refuse(f"its format version is not between 3 and {_NEWEST_IR}")
        opsets = dict(self._opset(item) for item in model.get("opset_import", []))
        if "graph" not in model:
            raise refuse("it holds no graph")
        inputs, outputs = self._graph(model["graph"][0], opsets)
        return {
            "operators": dict(sorted(self.operators.items())),
            "nodes": sum(self.operators.values()),
            "constants": self.constants,
            "constant_bytes": self.constant_bytes,
            "opsets": opsets,
            "inputs": inputs,
            "outputs": outputs,
            "bytes": len(data),
        }

    def _opset(self, data: memoryview) -> tuple[str, int]:
        item = wire.read_message(data, OPSET_FIELDS)
        domain, version = _text(item, "domain"), _single(item, "version")
        if domain not in STANDARD_DOMAINS:
            raise refuse(
                f"it uses the operator domain '{domain:.60}'; only ai.onnx and ai.onnx.ml are allowed"
            )
        if not 1 <= version <= STANDARD_DOMAINS[domain]:
            raise refuse(f"it uses version {version} of the operator domain '{domain or 'ai.onnx'}'")
        return domain or "ai.onnx", version

    def _graph(self, data: memoryview, opsets: dict[str, int]) -> tuple[list[str], list[str]]:
        graph = wire.read_message(data, GRAPH_FIELDS)
        if graph.get("sparse_initializer"):
            raise refuse("it holds sparse constants")
        if len(graph.get("node", [])) > self.limits.nodes:
            raise refuse(f"it has {len(graph['node']):,} nodes; {self.limits.nodes:,} are allowed")
        for item in graph.get("initializer", []):
            self._tensor(item)
        for item in graph.get("node", []):
            self._node(item, opsets)
        for item in graph.get("value_info", []):
            self._value(item)
        inputs = [self._value(item) for item in graph.get("input", [])]
        return inputs, [self._value(item) for item in graph.get("output", [])]

    def _node(self, data: memoryview, opsets: dict[str, int]) -> None:
        node = wire.read_message(data, NODE_FIELDS)
        domain, name = _text(node, "domain"), _text(node, "op_type")
        if domain not in ALLOWED or (domain or "ai.onnx") not in opsets:
            raise refuse(
                f"a node uses the operator domain '{domain:.60}'; only ai.onnx and ai.onnx.ml are allowed"
            )
        if name not in ALLOWED[domain]:
            near = close_matches(name[:60], ALLOWED[domain])
            raise refuse(f"the operator '{name:.60}' is not on the list of allowed operators.{near}")
        if node.get("overload"):
            raise refuse("a node names an overload of a function")
        self.operators[f"{domain or 'ai.onnx'}.{name}"] += 1
        attributes: dict[str, dict[str, list[Any]]] = {}
        for item in node.get("attribute", []):
            attribute = wire.read_message(item, ATTRIBUTE_FIELDS)
            key = _text(attribute, "name")
            if key in attributes:
                raise refuse(f"a node has the attribute '{key:.60}' twice")
            self._attribute(attribute)
            attributes[key] = attribute
        if name.startswith("TreeEnsemble"):
            trees.check_ensemble(name, attributes)

    def _attribute(self, attribute: dict[str, list[Any]]) -> None:
        for name, what in (
            ("g", "a subgraph"), ("graphs", "subgraphs"), ("ref_attr_name", "a reference to a function's attribute"),
            ("sparse_tensor", "a sparse constant"), ("sparse_tensors", "sparse constants"),
        ):  # fmt: skip
            if attribute.get(name):
                raise refuse(f"a node carries {what}")
        self.attribute_values += wire.count_texts(attribute.get("strings", []))
        for name in ("floats", "ints"):
            self.attribute_values += sum(wire.count(value) for value in attribute.get(name, ()))
        if self.attribute_values > self.limits.attribute_values:
            raise refuse(f"its nodes carry more than {self.limits.attribute_values:,} values")
        for item in attribute.get("t", []) + attribute.get("tensors", []):
            self._tensor(item)

    def _tensor(self, data: memoryview) -> None:
        tensor = wire.read_message(data, TENSOR_FIELDS)
        if tensor.get("external_data") or _single(tensor, "data_location"):
            raise refuse("a constant is kept in another file (external data)")
        if tensor.get("segment"):
            raise refuse("a constant is kept in segments")
        self.constants += 1
        if self.constants > self.limits.constants:
            raise refuse(f"it has more than {self.limits.constants:,} constants")
        dims = wire.numbers(tensor.get("dims", []), "int64").tolist()
        if len(dims) > self.limits.rank or any(not 0 <= size <= self.limits.dimension for size in dims):
            raise refuse(f"a constant has the shape {dims!r:.80}")
        elements = 1
        for size in dims:
            elements *= size
        self.constant_bytes += _check_elements(tensor, elements)

    def _value(self, data: memoryview) -> str:
        value = wire.read_message(data, VALUE_FIELDS)
        for item in value.get("type", []):
            kind = wire.read_message(item, TYPE_FIELDS)
            for tensor in kind.get("tensor_type", []):
                shape = wire.read_message(tensor, TENSOR_TYPE_FIELDS).get("shape", [])
                self._shape(shape[0] if shape else memoryview(b""))
        return _text(value, "name")

    def _shape(self, data: memoryview) -> None:
        dims = wire.read_message(data, SHAPE_FIELDS).get("dim", [])
        sizes = [_single(wire.read_message(item, DIM_FIELDS), "dim_value") for item in dims]
        if len(sizes) > self.limits.rank or any(size > self.limits.dimension for size in sizes):
            raise refuse(f"a value is declared with the shape {sizes!r:.80}")


def _check_elements(tensor: dict[str, list[Any]], elements: int) -> int:
    """Raise unless a tensor holds exactly ``elements`` values; returns their bytes."""
    kind = _single(tensor, "data_type")
    if kind == STRING_TYPE:
        texts = tensor.get("string_data", [])
        found, size = wire.count_texts(texts), wire.text_bytes(texts)
    elif kind not in ELEMENT_BYTES:
        raise refuse(f"a constant has the element type {kind}")
    elif "raw_data" in tensor:
        found, rest = divmod(len(tensor["raw_data"][0]), ELEMENT_BYTES[kind])
        found, size = found + (1 if rest else 0), len(tensor["raw_data"][0])
    else:
        counts = [len(wire.numbers(tensor[name], form)) for name, form in _TYPED.items() if name in tensor]  # type: ignore[arg-type]
        found, size = sum(counts), sum(counts) * ELEMENT_BYTES[kind]
    if found != elements:
        raise refuse(f"a constant claims {elements:,} values and holds {found:,}")
    return size


def _single(message: dict[str, list[Any]], name: str) -> int:
    values = message.get(name)
    return wire.signed(values[0]) if values else 0


def _text(message: dict[str, list[Any]], name: str) -> str:
    values = message.get(name)
    return wire.text(values[0], 4096) if values else ""
