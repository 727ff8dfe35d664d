"""Packages of models that read one text, image or series per row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import package_arguments as given
import pytest
from onnx import TensorProto, helper
from package_graphs import tensor

from modelworks.core.estimator import FittedModel
from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.core.signature import CHARACTERS, PIXELS, SERIES, Signature, Tensor
from modelworks.packaging import Package, SigningKey, TrustPolicy, build, export, open_package

KINDS: dict[str, tuple[Tensor, int, list[int | None], list[int], list[Any]]] = {
    "text": (
        Tensor(name=CHARACTERS, datatype="INT64", shape=(-1, -1), columns=("said",)),
        TensorProto.INT64, [None, None], [1], ["good", "", "Gr\u00fcezi \U0001f600"],
    ),
    "image": (
        Tensor(name=PIXELS, datatype="UINT8", shape=(-1, -1, -1, 3), columns=("photo",)),
        TensorProto.UINT8, [None, None, None, 3], [1, 2, 3],
        [np.full((200, 300, 3), 7, np.uint8), np.zeros((5, 4, 3), np.uint8)],
    ),
    "series": (
        Tensor(name=SERIES, datatype="FP32", shape=(-1, 2, 6), columns=("wave",)),
        TensorProto.FLOAT, [None, 2, 6], [1, 2], [[[1.0, 2.0], [3.0, None]], np.ones((2, 6), np.float32)],
    ),
}  # fmt: skip


def mean_graph(what: Tensor, element: int, shape: list[int | None], axes: list[int]) -> bytes:
    """Return a graph that averages what is present of one sample."""
    nodes = [
        helper.make_node("Cast", [what.name], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("IsNaN", ["numbers"], ["gaps"]),
        helper.make_node("Where", ["gaps", "zero", "numbers"], ["filled"]),
        helper.make_node("ReduceMean", ["filled", "axes"], ["prediction"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes, "mean", [helper.make_tensor_value_info(what.name, element, shape)],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, [None])],
        [tensor("zero", np.float32(0)), tensor("axes", np.array(axes, np.int64))],
    )  # fmt: skip
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    ).SerializeToString()


@pytest.fixture(params=KINDS)
def sample_package(
    request: pytest.FixtureRequest, key: SigningKey, trust: TrustPolicy, tmp_path: Path
) -> Package:
    what, element, shape, axes, values = KINDS[request.param]
    arguments = given.build_arguments(mean_graph(what, element, shape, axes), key)
    signature = Signature(inputs=(what,), outputs=(Tensor(name="prediction", datatype="FP32", shape=(-1,)),))
    arguments["model"] = FittedModel(onnx=arguments["model"].onnx, signature=signature)
    arguments["schema"] = Schema((Column(name=what.columns[0], kind=ColumnKind.TEXT),))
    arguments["examples"] = [{what.columns[0]: value} for value in values]
    build(tmp_path / "package", **arguments)
    return open_package(tmp_path / "package", trust)


def test_golden_samples_are_replayed(sample_package: Package) -> None:
    replayed = sample_package.verify()
    assert replayed.rows == len(sample_package.examples["rows"]) >= 3
    assert len(sample_package.files["examples.json"]) < 2**20


def test_predict_gives_the_same_answers(sample_package: Package, tmp_path: Path) -> None:
    folder = export(sample_package, "predict", tmp_path / "predict")
    rows = sample_package.examples["rows"]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    command = [sys.executable, "-I", str(folder / "predict.py"), str(tmp_path / "rows.json")]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = [json.loads(line)["prediction"] for line in shown.stdout.splitlines()]
    assert found == pytest.approx(sample_package.examples["expected"]["prediction"], rel=1e-5)


def test_triton_gets_every_axis(sample_package: Package, tmp_path: Path) -> None:
    text_format = pytest.importorskip("google.protobuf.text_format")
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    folder = export(sample_package, "triton", tmp_path / "triton")
    config = text_format.Parse((folder / "churn" / "config.pbtxt").read_text(), schema.ModelConfig())
    assert list(config.input[0].dims) == list(sample_package.signature.inputs[0].shape[1:])
    onnx.checker.check_model(str(folder / "churn" / "1" / "model.onnx"))
