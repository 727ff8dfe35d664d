"""Putting a head on a backbone: one graph from the payload to the answers, the part below ``embedding`` unchanged."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from modelworks.core.backbone import EMBEDDING, Backbone
from modelworks.core.signature import Tensor

_DATATYPES = {1: "FP32", 2: "UINT8", 7: "INT64", 8: "BYTES", 9: "BOOL"}
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

    Args:
        backbone: Graph with the output ``embedding``.
        head: Graph from the input ``embedding`` FP32 [rows, width] to any outputs.
    """
    import onnx

    whole = onnx.load_model_from_string(backbone)
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
    whole.graph.node.extend(above.graph.node)
    whole.graph.initializer.extend(above.graph.initializer)
    del whole.graph.output[:]
    whole.graph.output.extend(above.graph.output)
    _adopt_opsets(whole, above)
    return bytes(whole.SerializeToString(deterministic=True))


def stands_on(whole: bytes, backbone: bytes) -> bool:
    """Say whether a graph begins with a backbone, bit for bit: its inputs, its nodes and its constants, in their order.

    What is known of the backbone's embeddings then holds for the whole graph; only what stands on them is its own.
    """
    import onnx

    found = onnx.load_model_from_string(whole).graph
    below = onnx.load_model_from_string(backbone).graph
    parts = ((found.input, below.input), (found.node, below.node), (found.initializer, below.initializer))
    own = {name for node in found.node[len(below.node) :] for name in node.output}
    taken = {name for node in below.node for name in node.output} | {item.name for item in below.initializer}
    return (
        len(found.input) == len(below.input)
        and not own & taken
        and all(
            len(ours) >= len(theirs)
            and all(
                one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
                for one, other in zip(ours, theirs, strict=False)
            )
            for ours, theirs in parts
        )
    )


def _adopt_opsets(whole: Any, above: Any) -> None:
    """Take over operator domains that only the head uses; a shared one keeps the backbone's version."""
    known = {item.domain for item in whole.opset_import}
    used = {node.domain for node in above.graph.node}
    for item in above.opset_import:
        if item.domain not in known and item.domain in used:
            whole.opset_import.append(item)
