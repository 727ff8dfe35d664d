"""A package of the MiniLM sentence encoder with a linear head: 88 MB, texts in, four classes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

NAME = "sentences"
CLASSES = ("north", "east", "south", "west")
SAID = (
    "the pump runs hot and the seal leaks a little oil on every start of the early shift near the north gate "
    "pressure falls below four bar while valve seven stays open and the alarm keeps silent for an hour"
)


def texts(count: int, words: int, seed: int = 0) -> list[str]:
    """Return made-up sentences of about as many tokens as words."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(SAID.split(), words)) for _ in range(count)]


def write_sentences(folder: Path, *, rounded: bool = False) -> Path:
    """Build and sign ``<folder>/packages/sentences`` with the key in ``<folder>/home/keys``.

    Args:
        folder: Where it goes.
        rounded: Round the weights to half precision first (kept as FP32), so that the package compresses to half.
    """
    import onnx

    from modelworks.algorithms.backbones.minilm import MinilmSource
    from modelworks.algorithms.samples.head import FittedHead, linear_head
    from modelworks.core.schema import Column, ColumnKind, Schema
    from modelworks.core.task import Task, TaskKind
    from modelworks.core.verdict import Measure, Verdict, VerdictKind
    from modelworks.packaging.builder import build
    from modelworks.packaging.keys import SigningKey

    backbone = MinilmSource().make((), 0)
    random = np.random.default_rng(0)
    weights = random.standard_normal((backbone.width, len(CLASSES))).astype(np.float32)
    onnx_bytes, outputs = linear_head(
        TaskKind.MULTICLASS, weights, np.zeros(len(CLASSES), np.float32), CLASSES
    )
    model = FittedHead(onnx=onnx_bytes, backbone=backbone.name, outputs=outputs, classes=CLASSES).fused(
        backbone, "text"
    )
    if rounded:
        whole = onnx.load_model_from_string(model.onnx)
        for tensor in whole.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            if values.dtype == np.float32 and values.size > 1024:
                tensor.CopyFrom(
                    onnx.numpy_helper.from_array(values.astype(np.float16).astype(np.float32), tensor.name)
                )
        model = type(model)(onnx=whole.SerializeToString(deterministic=True), signature=model.signature)
    measure = Measure(name="accuracy", value=0.9, low=0.8, high=0.95, n=100, higher_is_better=True).to_json()
    rows: list[dict[str, Any]] = [{"text": text} for text in texts(3, 16)]
    path = folder / "packages" / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    build(
        path,
        model=model,
        task=Task(name=NAME, data="benchmark", target="target", kind=TaskKind.MULTICLASS),
        schema=Schema(columns=(Column(name="text", kind=ColumnKind.TEXT),)),
        evaluation={
            "kind": "multiclass",
            "metric": "accuracy",
            "n": 100,
            "measures": [measure],
            "slices": [],
        },
        verdict=Verdict(kind=VerdictKind.RELEASED, cause="Every condition holds."),
        profile={"columns": {}},
        lineage={"dataset": {"digest": "0" * 64, "name": "benchmark"}, "recipe": {"name": "benchmark"}},
        measured={"latency_ms": {"p50": 9.0, "p99": 12.0}},
        cost={},
        examples=rows,
        key=SigningKey.load_or_create(folder / "home" / "keys"),
        created=1_700_000_000.0,
    )
    return path
