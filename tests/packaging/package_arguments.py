"""What a small package is built from."""

from __future__ import annotations

from typing import Any

from modelworks.core.estimator import FittedModel
from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.core.signature import DATETIMES, NUMBERS, STRINGS, Signature, Tensor
from modelworks.core.task import Task, TaskKind
from modelworks.core.verdict import Check, Measure, Verdict, VerdictKind
from modelworks.packaging import SigningKey

SIGNATURE = Signature(
    inputs=(
        Tensor(name=NUMBERS, datatype="FP32", shape=(-1, 2), columns=("age", "income")),
        Tensor(name=STRINGS, datatype="BYTES", shape=(-1, 1), columns=("city",)),
        Tensor(name=DATETIMES, datatype="INT64", shape=(-1, 1), columns=("joined",)),
    ),
    outputs=(
        Tensor(name="probabilities", datatype="FP32", shape=(-1, 2)),
        Tensor(name="label", datatype="BYTES", shape=(-1,)),
    ),
    classes=("no", "yes"),
)

SCHEMA = Schema(
    columns=(
        Column(name="age", kind=ColumnKind.NUMBER),
        Column(name="income", kind=ColumnKind.NUMBER, missing=3),
        Column(name="city", kind=ColumnKind.CATEGORY, levels=("Bern", "Basel")),
        Column(name="joined", kind=ColumnKind.DATETIME),
        Column(name="churn", kind=ColumnKind.CATEGORY, levels=("no", "yes")),
    ),
    rows=200,
)

ROWS: list[dict[str, Any]] = [
    {"age": 31, "income": 52_000.5, "city": "Bern", "joined": "2024-03-01T00:00:00", "churn": "no"},
    {"age": 64, "income": None, "city": "Basel", "joined": "2019-07-15T12:30:00", "churn": "yes"},
    {"age": None, "income": 1000.0, "city": None, "joined": None, "churn": "no"},
]


def evaluation() -> dict[str, Any]:
    measures = [
        Measure(name="roc_auc", value=0.91, low=0.88, high=0.94, n=400).to_json(),
        Measure(name="log_loss", value=0.31, low=0.28, high=0.35, n=400, higher_is_better=False).to_json(),
    ]
    slices = [{"slice": "city=Bern", "n": 120, "value": 0.9, "low": 0.85, "high": 0.95}]
    return {"kind": "binary", "metric": "roc_auc", "n": 400, "measures": measures, "slices": slices}


VERDICT = Verdict(
    kind=VerdictKind.RELEASED,
    cause="Every condition of the gate holds.",
    checks=(Check(name="roc_auc >= 0.8", outcome="passed", detail="0.91 [0.88, 0.94]"),),
)


def build_arguments(onnx_bytes: bytes, key: SigningKey) -> dict[str, Any]:
    return {
        "model": FittedModel(
            onnx=onnx_bytes, signature=SIGNATURE, diagnostics={"chosen": "linear", "folds": 5}
        ),
        "task": Task(name="churn", data="churn.csv", target="churn", kind=TaskKind.BINARY),
        "schema": SCHEMA,
        "evaluation": evaluation(),
        "verdict": VERDICT,
        "profile": {
            "rows": 200,
            "columns": [{"name": "age", "kind": "number", "missing": 0}],
            "drift": {"age": 0.2},
        },
        "lineage": {
            "dataset": {"digest": "ab" * 32, "name": "churn.csv", "rows": 200, "licence": "CC-BY-4.0"},
            "recipe": {"name": "tables.portfolio", "version": 1},
            "steps": {"ingest": "cd" * 32},
        },
        "measured": {"latency_ms": {"p50": 0.02, "p99": 0.05}},
        "cost": {"cpu_s": 1.25, "total": 0.0001, "currency": "USD"},
        "examples": ROWS,
        "key": key,
        "created": 1_700_000_000.0,
    }
