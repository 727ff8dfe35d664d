"""Small real graphs and packages for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from package_graphs import table_graph

from modelworks.core.estimator import FittedModel
from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.core.signature import DATETIMES, NUMBERS, STRINGS, Signature, Tensor
from modelworks.core.task import Task, TaskKind
from modelworks.core.verdict import Check, Measure, Verdict, VerdictKind
from modelworks.packaging import Package, SigningKey, TrustPolicy, build, open_package

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


@pytest.fixture(scope="session")
def onnx_bytes() -> bytes:
    return table_graph().SerializeToString(deterministic=True)


@pytest.fixture(scope="session")
def key() -> SigningKey:
    return SigningKey.from_seed(bytes(range(32)))


@pytest.fixture(scope="session")
def trust(key: SigningKey) -> TrustPolicy:
    return TrustPolicy(keys={key.id: key.public})


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


@pytest.fixture(scope="session")
def package_folder(tmp_path_factory: pytest.TempPathFactory, onnx_bytes: bytes, key: SigningKey) -> Path:
    folder = tmp_path_factory.mktemp("packages") / "churn"
    build(folder, **build_arguments(onnx_bytes, key))
    return folder


@pytest.fixture(scope="session")
def package(package_folder: Path, trust: TrustPolicy) -> Package:
    return open_package(package_folder, trust)


@pytest.fixture
def copy_package(package_folder: Path, tmp_path: Path) -> Callable[[], Path]:
    """Return a function that makes a fresh copy to damage."""
    made = 0

    def copy() -> Path:
        nonlocal made
        made += 1
        target = tmp_path / f"copy{made}"
        target.mkdir()
        for path in package_folder.iterdir():
            (target / path.name).write_bytes(path.read_bytes())
        return target

    return copy
