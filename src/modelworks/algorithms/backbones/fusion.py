"""Putting a head on a backbone: one graph from the payload to the answers, the part below ``embedding`` unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from modelworks.core.backbone import EMBEDDING, Backbone
from modelworks.core.signature import Tensor

_DATATYPES = {1: "FP32", 2: "UINT8", 7: "INT64", 8: "BYTES", 9: "BOOL"}
_NODE, _CONSTANT, _INPUT, _OUTPUT, _GRAPH = 1, 5, 11, 12, 7
"""Numbers of the fields of a graph, and of the graph in a model (onnx.proto)."""

_OURS = "head."
"""What every name of the head begins with, so that no backbone, whoever wrote it, has the same."""


def payload_inputs(backbone: Backbone, column: str) -> tuple[Tensor, ...]:
    """Return the inputs of a backbone's graph as tensors that are fed from ``column``."""
    return _inputs(backbone.onnx, column)


@lru_cache(maxsize=8)
def _inputs(onnx_bytes: bytes, column: str) -> tuple[Tensor, ...]:
    import onnx

    graph = onnx.load_model_from_string(onnx_bytes).graph
    constants = {item.name for item in graph.initializer}
    return tuple(
        Tensor(
            name=item.name,
            datatype=_DATATYPES[item.type.tensor_type.elem_type],
            shape=(-1, *(dim.dim_value or -1 for dim in item.type.tensor_type.shape.dim[1:])),
            columns=(column,),
        )
        for item in graph.input
        if item.name not in constants
    )


def fuse(backbone: bytes, head: bytes) -> bytes:
    """Return one graph: the backbone, and on its ``embedding`` the head.

    The backbone's bytes are copied as they are and not parsed again for every head: a field that may occur many times
    is written in the order of its parts, so that the head's nodes and constants stand behind the backbone's.

    Args:
        backbone: Graph with the output ``embedding``.
        head: Graph from the input ``embedding`` FP32 [rows, width] to any outputs.
    """
    import onnx

    model, graph = _parts(backbone)
    above = onnx.load_model_from_string(head)
    kept = {EMBEDDING, "", *(item.name for item in above.graph.output)}

    def renamed(name: str) -> str:
        return name if name in kept else _OURS + name

    for node in above.graph.node:
        node.name = ""
        for names in (node.input, node.output):
            names[:] = [renamed(name) for name in names]
    for constant in above.graph.initializer:
        constant.name = renamed(constant.name)
    own = _written(above.graph)
    pieces = {number: [part] for number, part in graph.items()}
    for number in (_NODE, _CONSTANT):
        pieces.setdefault(number, []).append(own.get(number, b""))
    pieces[_OUTPUT] = [own[_OUTPUT]]
    body = [part for number in sorted(pieces) for part in pieces[number]]
    shell = onnx.ModelProto()
    shell.ParseFromString(b"".join(model.values()))
    _adopt_opsets(shell, above)
    written = {number: [part] for number, part in _written(shell).items()}
    written[_GRAPH] = [bytes([_GRAPH << 3 | 2]), _varint(sum(map(len, body))), *body]
    # Joined once: copying the constants of a large backbone is what fusing costs.
    return b"".join(part for number in sorted(written) for part in written[number])


def stands_on(whole: bytes, backbone: bytes) -> bool:
    """Say whether a graph begins with a backbone, bit for bit: its inputs, its nodes and its constants, in their order.

    What is known of the backbone's embeddings then holds for the whole graph; only what stands on them is its own.
    """
    import onnx

    _, below = _parts(backbone)
    found = onnx.load_model_from_string(whole).graph
    known = _names(backbone)
    own = {name for node in found.node[known.nodes :] for name in node.output}
    if len(found.input) != known.inputs or own & known.taken:
        return False
    runs = _runs(whole)
    return all(
        number in runs and whole.startswith(below[number], runs[number])
        for number in (_INPUT, _NODE, _CONSTANT)
        if number in below
    )


@dataclass(frozen=True)
class _Names:
    nodes: int
    inputs: int
    taken: frozenset[str]


@lru_cache(maxsize=4)
def _names(backbone: bytes) -> _Names:
    """Return how many nodes and inputs a backbone has, and the names of the values it computes or holds."""
    import onnx

    graph = onnx.load_model_from_string(backbone).graph
    taken = {name for node in graph.node for name in node.output} | {item.name for item in graph.initializer}
    return _Names(len(graph.node), len(graph.input), frozenset(taken))


@lru_cache(maxsize=4)
def _parts(backbone: bytes) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """Return the fields of a model but its graph, and those of its graph: number -> bytes, tags included."""
    import onnx

    model = onnx.load_model_from_string(backbone)
    graph = _written(model.graph)
    model.ClearField("graph")
    return _written(model), graph


def _written(message: Any) -> dict[int, bytes]:
    """Return the fields of a message as they are written one after the other: number -> bytes, tags included."""
    found = {}
    for field, value in message.ListFields():
        alone = type(message)()
        if field.is_repeated:
            getattr(alone, field.name).extend(value)
        elif field.message_type is not None:
            getattr(alone, field.name).CopyFrom(value)
        else:
            setattr(alone, field.name, value)
        found[field.number] = bytes(alone.SerializeToString(deterministic=True))
    return found


def _runs(model: bytes) -> dict[int, int]:
    """Return where each field of a model's graph begins; one that is written in two runs is left out.

    Source: https://protobuf.dev/programming-guides/encoding/.
    """
    graph = next((start, end) for number, _, start, end in _fields(model, 0, len(model)) if number == _GRAPH)
    begins: dict[int, int] = {}
    last, torn = 0, set()
    for number, tag, _, _ in _fields(model, *graph):
        if number != last and number in begins:
            torn.add(number)
        begins.setdefault(number, tag)
        last = number
    return {number: start for number, start in begins.items() if number not in torn}


def _fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, place of the tag, and begin and end of the value of every field."""
    while position < end:
        begin = position
        tag, position = _read_varint(data, position)
        size = {1: 8, 5: 4}.get(tag & 7, 0)
        if tag & 7 == 2:
            size, position = _read_varint(data, position)
        elif tag & 7 == 0:
            size = _read_varint(data, position)[1] - position
        yield tag >> 3, begin, position, position + size
        position += size


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _adopt_opsets(whole: Any, above: Any) -> None:
    """Take over operator domains that only the head uses; a shared one keeps the backbone's version."""
    known = {item.domain for item in whole.opset_import}
    used = {node.domain for node in above.graph.node}
    for item in above.opset_import:
        if item.domain not in known and item.domain in used:
            whole.opset_import.append(item)
