"""A loaded graph keeps nothing of the file it came from."""

from __future__ import annotations

import sys

import numpy as np

from modelworks.algorithms.graph import Graph
from modelworks.compute.runtime import GraphSession
from modelworks.core.signature import Tensor


def test_a_session_does_not_keep_the_bytes_it_was_made_from() -> None:
    graph = Graph()
    graph.op("Mul", "x", graph.constant(np.arange(4), np.float32), out="y")
    onnx = graph.to_bytes(
        [Tensor(name="x", datatype="FP32", shape=(-1, 4))], [Tensor(name="y", datatype="FP32", shape=(-1, 4))]
    )
    before = sys.getrefcount(onnx)
    session = GraphSession(onnx)
    assert sys.getrefcount(onnx) == before
    assert session.run({"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[0.0, 1.0, 2.0, 3.0]]
