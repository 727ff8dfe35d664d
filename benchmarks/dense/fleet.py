"""Three hundred signed packages of five sizes, and the skewed trace that asks for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.serving import wire
from benchmarks.serving.models import Model, write_package
from modelworks.core.signature import Signature, Tensor

COLUMNS = 30
SHAPES = ((50, 31), (100, 31), (200, 31), (300, 31), (500, 63))
"""Trees and leaves of the five sizes."""
_MARK = np.float32(0.7310585)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The packages.

    Attributes:
        folder: ``packages/<name>``, and ``<name>.onnx`` and ``<name>.json`` for the peers.
        models: What each is, in order of name.
        bytes: Bytes of all graphs.
    """

    folder: Path
    models: list[Model]
    bytes: int


def rows() -> npt.NDArray[np.float32]:
    """Return 64 rows."""
    return np.random.default_rng(1).standard_normal((64, COLUMNS)).astype(np.float32)


def make_fleet(folder: Path, count: int) -> Fleet:
    """Write ``count`` packages; packages of one size differ in one constant, so in their bytes and their answers."""
    (folder / "home").mkdir(exist_ok=True)
    names = tuple(f"c{index}" for index in range(COLUMNS))
    signature = Signature(
        inputs=(Tensor(name="numbers", datatype="FP32", shape=(-1, COLUMNS), columns=names),),
        outputs=(Tensor(name="probabilities", datatype="FP32", shape=(-1, 2)),),
        classes=("no", "yes"),
    )
    templates = [_template(signature, trees, leaves) for trees, leaves in SHAPES]
    models = []
    for index in range(count):
        shape = index % len(SHAPES)
        onnx = templates[shape].replace(_MARK.tobytes(), np.float32(index / count - 0.5).tobytes())
        trees, leaves = SHAPES[shape]
        model = Model(
            name=f"m{index:03}", onnx=onnx, signature=signature, rows={"numbers": rows()},
            what=f"LightGBM, {trees} trees of up to {leaves} leaves",
        )  # fmt: skip
        write_package(folder, model)
        (folder / f"{model.name}.onnx").write_bytes(onnx)
        (folder / f"{model.name}.json").write_text(json.dumps(signature.to_json()))
        models.append(model)
    return Fleet(folder=folder, models=models, bytes=sum(len(model.onnx) for model in models))


def _template(signature: Signature, trees: int, leaves: int) -> bytes:
    import lightgbm

    from modelworks.algorithms.graph import Graph
    from modelworks.algorithms.trees import from_lightgbm, write_trees

    random = np.random.default_rng(0)
    features = random.standard_normal((6000, COLUMNS)).astype(np.float32)
    target = (features[:, 0] * features[:, 1] + features[:, 2] + random.standard_normal(6000) > 0).astype(int)
    settings = {
        "objective": "binary", "num_leaves": leaves, "min_data_in_leaf": 5, "learning_rate": 0.02, "verbose": -1,
        "num_threads": 1, "seed": 0,
    }  # fmt: skip
    booster = lightgbm.train(settings, lightgbm.Dataset(features, target), num_boost_round=trees)
    graph = Graph()
    raw = write_trees(graph, from_lightgbm(booster.model_to_string(), 1), "numbers")
    positive = graph.op("Sigmoid", graph.op("Add", raw, graph.constant(_MARK, np.float32)))
    negative = graph.op("Sub", graph.constant(1.0, np.float32), positive)
    graph.op("Concat", negative, positive, axis=1, out="probabilities")
    made = graph.to_bytes(list(signature.inputs), list(signature.outputs))
    assert made.count(_MARK.tobytes()) == 1
    return made


def trace(models: list[Model], length: int, exponent: float = 1.0) -> list[int]:
    """Return which model each request asks: Zipf, the ranks shuffled so that popularity says nothing of size."""
    random = np.random.default_rng(7)
    shares = 1.0 / np.arange(1, len(models) + 1) ** exponent
    ranked = random.permutation(len(models))
    drawn = random.choice(len(models), size=length, p=shares / shares.sum())
    return [int(ranked[rank]) for rank in drawn]


def requests(models: list[Model], order: list[int], headers: dict[str, str]) -> list[bytes]:
    """Return the trace as HTTP requests of one row."""
    sent = {**headers, "Content-Type": "application/json"}
    feeds = wire.feeds_of(models[0], 1)
    made: dict[tuple[int, int], bytes] = {}
    found = []
    for number, index in enumerate(order):
        key = (index, number % 8)
        if key not in made:
            body = wire.json_body(models[index], feeds[key[1]])
            made[key] = wire.http_request(f"/v2/models/{models[index].name}/infer", sent, body)
        found.append(made[key])
    return found
