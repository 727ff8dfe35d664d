"""What an anomaly model must beat: a score that never changes, and the nearest normal image at 8 x 8 pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelworks.algorithms.backbones.patches import embed_images
from modelworks.algorithms.backbones.reference import PixelSource
from modelworks.algorithms.graph import Graph
from modelworks.core.signature import PIXELS, Tensor

_OUTPUTS = [
    Tensor(name="score", datatype="FP32", shape=(-1,)),
    Tensor(name="anomalous", datatype="BOOL", shape=(-1,)),
]
_INPUTS = [Tensor(name=PIXELS, datatype="UINT8", shape=(-1, -1, -1, 3))]
MEMORY = 500


def constant_score() -> bytes:
    """Return a graph from ``pixels`` that finds every image equally strange and alarms for none."""
    graph = Graph()
    rows = graph.op("Shape", PIXELS, start=0, end=1)
    score = graph.op("Expand", graph.constant([0.0], np.float32), rows, out="score")
    graph.op("Greater", score, graph.constant(1, np.float32), out="anomalous")
    return graph.to_bytes(_INPUTS, _OUTPUTS)


def nearest_normal(images: list[npt.NDArray[np.uint8]], false_alarms: float, seed: int) -> bytes:
    """Return a graph from ``pixels`` to the distance of the nearest normal image, both reduced to 8 x 8 pixels.

    Args:
        images: Normal images, each ``uint8 [height, width, 3]``; 500 of them are kept.
        false_alarms: Share of the normal images that lie beyond the threshold, by their nearest other one.
        seed: Chooses which are kept.
    """
    from onnx import load_model_from_string

    small = PixelSource().make(images[:1], seed).onnx
    chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:MEMORY])
    kept = embed_images(small, [images[index] for index in chosen])
    squares = (kept**2).sum(axis=1)
    among = squares[:, None] + squares - 2 * kept @ kept.T
    np.fill_diagonal(among, np.inf)
    threshold = max(1e-6, float(np.sqrt(np.quantile(np.maximum(among.min(axis=1), 0), 1 - false_alarms))))

    graph = Graph()
    (seen,) = graph.adopt(load_model_from_string(small), {PIXELS: PIXELS})
    own = graph.op("ReduceSumSquare", seen, graph.constant([1], np.int64))
    product = graph.op("MatMul", seen, graph.constant(np.ascontiguousarray(-2 * kept.T)))
    distances = graph.op("Add", graph.op("Add", own, graph.constant(squares[None])), product)
    nearest = graph.op("ReduceMin", distances, graph.constant([1], np.int64), keepdims=0)
    score = graph.op(
        "Mul",
        graph.op("Sqrt", graph.op("Relu", nearest)),
        graph.constant(1 / threshold, np.float32),
        out="score",
    )
    graph.op("Greater", score, graph.constant(1, np.float32), out="anomalous")
    return graph.to_bytes(_INPUTS, _OUTPUTS)
