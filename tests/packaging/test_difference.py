"""Comparing two packages, and showing one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import package_arguments as given
import pytest
from onnx import helper
from package_graphs import table_graph

from modelworks.core.estimator import FittedModel
from modelworks.core.verdict import Measure
from modelworks.packaging import Package, SigningKey, TrustPolicy, build, diff, diff_text, open_package, show


@pytest.fixture
def other(key: SigningKey, trust: TrustPolicy, tmp_path: Path) -> Package:
    """Return a package with another graph, other classes, data, metrics and speed."""
    graph: onnx.ModelProto = table_graph()
    for node in graph.graph.node:
        if "label" in node.output:
            next(item for item in node.attribute if item.name == "values_strings").strings[1] = b"maybe"
    graph.graph.node[0].doc_string = "changed"
    graph.graph.node.insert(3, helper.make_node("Identity", ["scaled"], ["unused"]))
    arguments = given.build_arguments(graph.SerializeToString(), key)
    signature = replace(given.SIGNATURE, classes=("no", "maybe"))
    arguments["model"] = FittedModel(
        onnx=graph.SerializeToString(), signature=signature, diagnostics={"chosen": "trees"}
    )
    arguments["evaluation"] = {
        **given.evaluation(),
        "measures": [
            Measure(name="roc_auc", value=0.97, low=0.95, high=0.99, n=400).to_json(),
            Measure(name="accuracy", value=0.9, low=0.8, high=0.95, n=400).to_json(),
        ],
    }
    arguments["lineage"] = {**arguments["lineage"], "dataset": {"digest": "cd" * 32}}
    arguments["measured"] = {"latency_ms": {"p50": 0.1, "p99": 0.5}}
    build(tmp_path / "other", **arguments)
    return open_package(tmp_path / "other", trust)


def test_a_package_equals_itself(package: Package) -> None:
    found = diff(package, package)
    assert found["same"] and all(found["files"].values()) and found["operators"] == {}
    assert "same package" in diff_text(found)


def test_every_difference_is_named(package: Package, other: Package) -> None:
    found = diff(package, other)
    assert not found["same"]
    metrics = {item["name"]: item for item in found["metrics"]}
    assert metrics["roc_auc"]["overlap"] is False
    assert metrics["log_loss"]["other"] is None and metrics["accuracy"]["one"] is None
    assert found["classes"] == {"added": ["maybe"], "removed": ["yes"]}
    assert found["inputs"] == {"added": [], "removed": [], "retyped": []}
    assert found["dataset"] == {"one": "ab" * 32, "other": "cd" * 32, "equal": False}
    assert found["latency_ms_p99"] == {"one": 0.05, "other": 0.5, "equal": False}
    assert found["operators"] == {"ai.onnx.Identity": [0, 1]}
    assert found["files"]["predict.py"] and not found["files"]["model.onnx"]
    text = diff_text(found)
    for said in (
        "roc_auc: 0.91 [0.88, 0.94] -> 0.97 [0.95, 0.99]  (intervals do not overlap)",
        "classes added: maybe",
        "ai.onnx.Identity: 0 -> 1",
        "accuracy: absent -> 0.9",
    ):
        assert said in text


def test_columns_that_come_go_or_change_are_named(package: Package) -> None:
    inputs = package.signature.inputs
    changed = (
        replace(inputs[0], columns=("age",), shape=(-1, 1)),
        replace(inputs[1], columns=("city", "income"), shape=(-1, 2)),
        replace(inputs[2], columns=("left",)),
    )
    manifest = replace(
        package.manifest, signature=replace(package.signature, inputs=changed), digest="0" * 64
    )
    found = diff(package, replace(package, manifest=manifest))
    assert found["inputs"] == {"added": ["left"], "removed": ["joined"], "retyped": ["income"]}
    assert "inputs retyped: income" in diff_text(found)


def test_showing_reads_off_the_package_itself(package: Package) -> None:
    shown = show(package)
    assert shown["digest"] == package.digest and shown["signed_by"] == package.signed_by
    assert shown["graph"]["operators"]["ai.onnx.Gemm"] == 1
    assert shown["bytes"] == sum(len(data) for data in package.files.values())
    assert shown["metrics"][0]["name"] == "roc_auc"
