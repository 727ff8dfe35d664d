"""What every row of the benchmark says: accuracy with its interval, log loss, size, single-row time."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from modelworks.compute.feeds import answer, pack_columns
from modelworks.compute.runtime import GraphSession, single_row_latency_ms
from modelworks.core.estimator import FittedModel
from modelworks.data.samples.training import TrainingSamples
from modelworks.evaluation import compare

RESULTS = Path(__file__).parent / "results" / "2026-11-25.jsonl"


def against(model: FittedModel, other: FittedModel, test: TrainingSamples) -> str:
    """Return the paired difference in accuracy of two models on the test samples, with its 95 % limits."""
    outputs = [
        answer(GraphSession(item.onnx), item.signature, {test.column: test.payload}, test.rows)
        for item in (model, other)
    ]
    found = compare(test.kind, outputs[0], outputs[1], test.target, test.classes, metric="accuracy")
    return f"{found['difference']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"


def measured(model: FittedModel, test: TrainingSamples) -> dict[str, Any]:
    """Score a shipped graph on the test samples (exact binomial interval, 95 %)."""
    from scipy.stats import binomtest

    session = GraphSession(model.onnx)
    found = answer(session, model.signature, {test.column: test.payload}, test.rows)
    right = found["label"] == np.array(test.classes, object)[test.target]
    chances = np.clip(found["probabilities"][np.arange(test.rows), test.target].astype(np.float64), 1e-7, 1)
    interval = binomtest(int(right.sum()), test.rows).proportion_ci(method="exact")
    feeds = pack_columns(model.signature, {test.column: test.payload[:1]}, 1)
    latency = single_row_latency_ms(session, feeds, repeats=100, clock=time.thread_time)
    return {
        "accuracy": round(float(right.mean()), 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
        "log_loss": round(float(-np.log(chances).mean()), 4),
        "size_mb": round(len(model.onnx) / 1e6, 3),
        "p50_ms": round(latency["p50"], 3),
    }


def record(row: dict[str, Any], results: Path = RESULTS) -> None:
    """Append a row to the results at once, and show it."""
    results.parent.mkdir(exist_ok=True)
    with results.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)
