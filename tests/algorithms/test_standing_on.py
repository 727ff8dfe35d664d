"""A fused graph holds its backbone bit for bit; a graph that does not is told apart."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from modelworks.algorithms.backbones.fusion import fuse, stands_on
from modelworks.algorithms.graph import Graph
from modelworks.algorithms.samples.head import embedding_input, linear_head
from modelworks.core.signature import Tensor
from modelworks.core.task import TaskKind


def _backbone(seed: int = 0) -> bytes:
    graph = Graph()
    weights = np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32)
    seen = graph.op("MatMul", "x", graph.constant(weights))
    graph.op("LeakyRelu", seen, out="embedding", alpha=0.1)
    return graph.to_bytes([Tensor(name="x", datatype="FP32", shape=(-1, 3))], [embedding_input(4)])


def _head(seed: int = 1) -> bytes:
    rng = np.random.default_rng(seed)
    weights, bias = rng.normal(size=(4, 1)).astype(np.float32), rng.normal(size=1).astype(np.float32)
    return linear_head(TaskKind.BINARY, weights, bias, ("no", "yes"))[0]


def test_whatever_the_head_the_backbone_is_seen() -> None:
    backbone = _backbone()
    assert stands_on(fuse(backbone, _head(1)), backbone)
    assert stands_on(fuse(backbone, _head(2)), backbone)
    assert not stands_on(fuse(_backbone(3), _head(1)), backbone)
    assert not stands_on(_head(1), backbone)


@pytest.mark.parametrize("what", ["constant", "attribute", "order", "input", "shadow"])
def test_the_smallest_change_below_is_seen(what: str) -> None:
    backbone = _backbone()
    model = onnx.load_model_from_string(fuse(backbone, _head()))
    if what == "constant":
        data = bytearray(model.graph.initializer[0].raw_data)
        data[0] ^= 1
        model.graph.initializer[0].raw_data = bytes(data)
    elif what == "attribute":
        model.graph.node[1].attribute[0].f = 0.1000001
    elif what == "order":
        nodes = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([nodes[1], nodes[0], *nodes[2:]])
    elif what == "input":
        model.graph.input.append(onnx.helper.make_tensor_value_info("more", 1, [None, 3]))
    else:
        model.graph.node[-1].output[0] = "embedding"
    assert not stands_on(model.SerializeToString(), backbone)


def test_a_fused_graph_is_written_as_onnx_itself_writes_it() -> None:
    data = fuse(_backbone(), _head())
    model = onnx.load_model_from_string(data)
    onnx.checker.check_model(model)
    assert model.SerializeToString(deterministic=True) == data
    assert [node.op_type for node in model.graph.node][:2] == ["MatMul", "LeakyRelu"]
    assert [item.name for item in model.graph.output] == [
        item.name for item in onnx.load_model_from_string(_head()).graph.output
    ]
