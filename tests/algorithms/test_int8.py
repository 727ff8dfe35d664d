"""Int8: kept when it passes the gate, is as good and faster; refused, with the cause, when one of the three fails."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modelworks.algorithms.quantise import Judged, choose_precision
from modelworks.compute.embedding import objects
from modelworks.compute.feeds import answer
from modelworks.compute.quantising import quantised, side_by_side_ms
from modelworks.compute.runtime import GraphSession
from modelworks.core.budget import Budget
from modelworks.core.errors import ExecutionError
from modelworks.core.estimator import FittedModel
from modelworks.core.task import Bound, TaskKind
from modelworks.data.samples.training import TrainingSamples

pytest.importorskip("torch", reason="needs the extra 'torch'")

GATE = (Bound.parse("accuracy", ">= 0.9"),)
FAST = {"first_ms": 2.0, "second_ms": 1.0, "ratio": 0.5, "low": 0.45, "high": 0.55}
SLOW = FAST | {"second_ms": 2.4, "ratio": 1.2, "high": 1.3}


def _images(rows: int, seed: int) -> TrainingSamples:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, rows)
    images = rng.integers(0, 90, (rows, 16, 16, 3)).astype(np.uint8)
    for row, code in enumerate(codes):
        images[row, 4:12, code * 5 : code * 5 + 5] += 140
    return TrainingSamples(
        payload=objects(list(images)), column="x", modality="image", kind=TaskKind.MULTICLASS, target=codes,
        classes=("a", "b", "c"), weight=None, folds=(np.arange(rows) % 5).astype(np.int8),
    )  # fmt: skip


@functools.cache
def _fitted() -> FittedModel:
    from modelworks.algorithms.deep.images import DeepImages

    return DeepImages(side=16, width=8, epochs=15, trials=0).fit(_images(200, 0), None, Budget(600), 0)


def _judged(**more: Any) -> Judged:
    rows = _images(400, 1)
    return Judged(
        payload=rows.payload, target=rows.target, kind=rows.kind, classes=rows.classes, gate=GATE, **more
    )


def _chosen(calibration: Any, speed: dict[str, Any], **more: Any) -> FittedModel:
    return choose_precision(
        _fitted(), calibration, _judged(metric="accuracy", **more), Budget(60), timer=lambda *_: speed
    )


def test_an_int8_graph_that_passes_and_is_faster_is_kept() -> None:
    model = _chosen(_images(100, 2).payload, FAST)
    facts = model.diagnostics["int8"]
    assert facts["kept"], facts["why"]
    assert len(model.onnx) < 0.5 * len(_fitted().onnx)
    assert facts["float_size_mb"] == len(_fitted().onnx) / 1e6 > 2 * facts["size_mb"]
    import onnx

    graph = onnx.load_model_from_string(model.onnx).graph
    assert {node.domain for node in graph.node} <= {"", "ai.onnx.ml"}
    assert "QuantizeLinear" in {node.op_type for node in graph.node}
    rows = _images(40, 3)
    found = answer(GraphSession(model.onnx), model.signature, {"x": rows.payload}, rows.rows)
    assert np.mean(found["label"] == np.array(rows.classes, object)[rows.target]) > 0.9


def test_an_int8_graph_that_fails_the_gate_is_refused() -> None:
    # Ranges taken from images of nothing but grey cut off everything that is not.
    grey = objects([np.full((16, 16, 3), 128, np.uint8)] * 20)
    model = _chosen(grey, FAST)
    assert model.onnx == _fitted().onnx
    assert not model.diagnostics["int8"]["kept"]
    assert "does not pass the gate (accuracy >= 0.9" in model.diagnostics["int8"]["why"]


def test_an_int8_graph_that_is_slower_or_not_shown_as_good_is_refused() -> None:
    calibration = _images(100, 2).payload
    slower = _chosen(calibration, SLOW)
    assert slower.onnx == _fitted().onnx
    assert slower.diagnostics["int8"]["why"].startswith("not faster: 1.20 times")
    strict = _chosen(calibration, FAST, margin=0.0)
    assert strict.diagnostics["int8"]["why"].startswith("not shown to be as good")


def test_equal_calibration_gives_equal_bytes_and_a_graph_without_products_is_named() -> None:
    feeds = [{"pixels": np.stack(list(_images(8, 4).payload))}]
    assert quantised(_fitted().onnx, feeds) == quantised(_fitted().onnx, feeds)
    from modelworks.algorithms.graph import Graph
    from modelworks.core.signature import Tensor

    graph = Graph()
    graph.op("Relu", "x", out="y")
    plain = graph.to_bytes(
        [Tensor(name="x", datatype="FP32", shape=(-1, 2))], [Tensor(name="y", datatype="FP32", shape=(-1, 2))]
    )
    with pytest.raises(ExecutionError, match="no convolution"):
        quantised(plain, [{"x": np.zeros((1, 2), np.float32)}])
    model = choose_precision(replace(_fitted(), onnx=plain), _images(4, 0).payload, _judged(), Budget(60))
    assert not model.diagnostics["int8"]["kept"]


def test_the_timer_measures_both_graphs_in_turns() -> None:
    feeds = {"pixels": np.stack(list(_images(1, 4).payload))}
    found = side_by_side_ms(_fitted().onnx, _fitted().onnx, feeds, blocks=5, repeats=3)
    assert 0 < found["low"] <= found["ratio"] <= found["high"]
    assert min(found["first_ms"], found["second_ms"]) > 0
