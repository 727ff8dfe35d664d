"""The three models of the benchmark, their inputs, and the signed packages Modelworks serves them from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelworks.core.signature import Signature, Tensor, Tokenizer

ROWS = 64
TREE, CNN, TEXT = "tree", "cnn", "text"
MODELS = (TREE, CNN, TEXT)
TOKENS = 32


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model and 64 rows to ask it.

    Attributes:
        name: ``tree``, ``cnn`` or ``text``.
        onnx: Bytes of the graph.
        signature: Inputs and outputs.
        rows: Input name -> array of 64 rows.
        what: One line for the report.
    """

    name: str
    onnx: bytes
    signature: Signature
    rows: dict[str, npt.NDArray[Any]]
    what: str


def tree_model() -> Model:
    """Return LightGBM through the house's own exporter: 30 numbers, two classes (Wisconsin breast cancer)."""
    from sklearn.datasets import load_breast_cancer

    from modelworks.algorithms.graph import Graph
    from modelworks.algorithms.trees import from_lightgbm, write_trees

    data = load_breast_cancer()
    features = data.data.astype(np.float32)
    import lightgbm

    booster = lightgbm.train(
        {"objective": "binary", "num_leaves": 31, "verbose": -1, "num_threads": 1, "seed": 0},
        lightgbm.Dataset(features, data.target),
        num_boost_round=100,
    )
    graph = Graph()
    raw = write_trees(graph, from_lightgbm(booster.model_to_string(), 1), "numbers")
    positive = graph.op("Sigmoid", raw)
    negative = graph.op("Sub", graph.constant(1.0, np.float32), positive)
    graph.op("Concat", negative, positive, axis=1, out="probabilities")
    names = tuple(str(name).replace(" ", "_") for name in data.feature_names)
    inputs = [Tensor(name="numbers", datatype="FP32", shape=(-1, 30), columns=names)]
    outputs = [Tensor(name="probabilities", datatype="FP32", shape=(-1, 2))]
    return Model(
        name=TREE,
        onnx=graph.to_bytes(inputs, outputs),
        signature=Signature(
            inputs=tuple(inputs), outputs=tuple(outputs), classes=tuple(map(str, data.target_names))
        ),
        rows={"numbers": features[:ROWS]},
        what="LightGBM, 100 trees of up to 31 leaves, 30 numbers",
    )


def cnn_model() -> Model:
    """Return a small residual-free CNN on 64 x 64 RGB pixels, its scaling inside the graph; weights are random."""
    from modelworks.algorithms.graph import FLOAT, Graph

    random = np.random.default_rng(0)
    graph = Graph()
    state = graph.op("Div", graph.cast("pixels", FLOAT), graph.constant(255.0, np.float32))
    state = graph.op("Transpose", state, perm=[0, 3, 1, 2])
    width = 3
    for wider in (16, 32, 64):
        weights = random.standard_normal((wider, width, 3, 3)) * (2 / (9 * width)) ** 0.5
        state = graph.op(
            "Conv", state, graph.constant(weights, np.float32), graph.constant(np.zeros(wider), np.float32),
            pads=[1, 1, 1, 1], strides=[1, 1],
        )  # fmt: skip
        state = graph.op("MaxPool", graph.op("Relu", state), kernel_shape=[2, 2], strides=[2, 2])
        width = wider
    state = graph.op("Flatten", graph.op("GlobalAveragePool", state))
    weights = random.standard_normal((width, 10)) * 0.3
    state = graph.op("MatMul", state, graph.constant(weights, np.float32))
    graph.op("Softmax", state, axis=-1, out="probabilities")
    inputs = [Tensor(name="pixels", datatype="UINT8", shape=(-1, -1, -1, 3), columns=("image",))]
    outputs = [Tensor(name="probabilities", datatype="FP32", shape=(-1, 10))]
    return Model(
        name=CNN,
        onnx=graph.to_bytes(inputs, outputs),
        signature=Signature(
            inputs=tuple(inputs), outputs=tuple(outputs), classes=tuple(f"c{i}" for i in range(10))
        ),
        rows={"pixels": random.integers(0, 256, (ROWS, 64, 64, 3), dtype=np.uint8)},
        what="CNN, 3 convolutions (16, 32, 64), 64 x 64 RGB as UINT8, scaling in the graph",
    )


def text_model() -> Model:
    """Return the MiniLM sentence encoder (6 layers, 384 wide) on 32 tokens."""
    from modelworks.algorithms.backbones.bert import load_text_encoder, shipped_minilm

    encoder = load_text_encoder(shipped_minilm())
    data = encoder.tokenizer.encode()
    random = np.random.default_rng(0)
    inputs = (
        Tensor(name="token_ids", datatype="INT64", shape=(-1, -1), columns=("text",)),
        Tensor(name="attention", datatype="INT64", shape=(-1, -1), columns=("text",)),
    )
    return Model(
        name=TEXT,
        onnx=encoder.onnx,
        signature=Signature(
            inputs=inputs,
            outputs=(Tensor(name="embedding", datatype="FP32", shape=(-1, 384)),),
            tokenizer=Tokenizer(
                sha256=hashlib.sha256(data).hexdigest(), max_tokens=encoder.max_tokens, data=data
            ),
        ),
        rows={
            "token_ids": random.integers(1000, 20000, (ROWS, TOKENS)),
            "attention": np.ones((ROWS, TOKENS), np.int64),
        },
        what=f"MiniLM sentence encoder, 6 layers, 384 wide, {TOKENS} tokens",
    )


MAKERS = {TREE: tree_model, CNN: cnn_model, TEXT: text_model}


def write_models(folder: Path) -> dict[str, Model]:
    """Write ``<name>.onnx`` and ``<name>.json`` (names and types, for the peers) and sign packages of tree and CNN."""
    made = {name: make() for name, make in MAKERS.items()}
    for model in made.values():
        (folder / f"{model.name}.onnx").write_bytes(model.onnx)
        (folder / f"{model.name}.json").write_text(json.dumps(model.signature.to_json()))
        if model.signature.tokenizer is not None:
            (folder / f"{model.name}.tokenizer.json").write_bytes(model.signature.tokenizer.data)
        write_triton(folder, model)
        if model.name != TEXT:
            write_package(folder, model)
    return made


def write_triton(folder: Path, model: Model) -> None:
    """Write ``<folder>/triton/<name>``: a model repository for Triton's Python backend, as the exporter does.

    Only the queue waits for nobody: the exporter's half millisecond would be in every answer to one connection.
    """
    from modelworks.packaging.exporters import triton

    place = folder / "triton" / model.name / model.name
    (place / "1").mkdir(parents=True)
    config = triton.model_config(model.name, model.signature, triton.PYTHON, "0" * 64)
    queue = "dynamic_batching { max_queue_delay_microseconds: 500 }"
    assert queue in config
    (place / "config.pbtxt").write_text(config.replace(queue, "dynamic_batching { }"))
    (place / "labels.txt").write_text("".join(f"{name}\n" for name in model.signature.classes))
    (place / "1" / "model.onnx").write_bytes(model.onnx)
    (place / "1" / "model.py").write_bytes(triton.model_script())
    digest = hashlib.sha256(model.onnx).hexdigest()
    (place / "manifest.json").write_text(json.dumps({"files": {"model.onnx": {"sha256": digest}}}))


def write_package(folder: Path, model: Model) -> None:
    """Build and sign ``<folder>/packages/<name>`` with the key in ``<folder>/home/keys``."""
    from modelworks.core.estimator import FittedModel
    from modelworks.core.schema import Column, ColumnKind, Schema
    from modelworks.core.task import Task, TaskKind
    from modelworks.core.verdict import Measure, Verdict, VerdictKind
    from modelworks.packaging.builder import build
    from modelworks.packaging.keys import SigningKey

    columns = model.signature.columns
    measure = Measure(name="accuracy", value=0.9, low=0.8, high=0.95, n=100, higher_is_better=True).to_json()
    kind = ColumnKind.IMAGE if model.name == CNN else ColumnKind.NUMBER
    values = next(iter(model.rows.values()))
    rows: list[dict[str, Any]] = [
        {columns[0]: row.tolist()} if model.name == CNN else dict(zip(columns, row.tolist(), strict=True))
        for row in values[:4]
    ]
    (folder / "packages").mkdir(exist_ok=True)
    build(
        folder / "packages" / model.name,
        model=FittedModel(onnx=model.onnx, signature=model.signature),
        task=Task(name=model.name, data="benchmark", target="target", kind=TaskKind.BINARY),
        schema=Schema(columns=tuple(Column(name=column, kind=kind) for column in columns)),
        evaluation={"kind": "binary", "metric": "accuracy", "n": 100, "measures": [measure], "slices": []},
        verdict=Verdict(kind=VerdictKind.RELEASED, cause="Every condition holds."),
        profile={"columns": {}},
        lineage={"dataset": {"digest": "0" * 64, "name": "benchmark"}, "recipe": {"name": "benchmark"}},
        measured={"latency_ms": {"p50": 0.01, "p99": 0.02}},
        cost={},
        examples=rows,
        key=SigningKey.load_or_create(folder / "home" / "keys"),
        created=1_700_000_000.0,
    )
