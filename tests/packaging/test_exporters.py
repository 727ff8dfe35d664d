"""Other systems' forms, read by those systems' own parsers where they can be had."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml

from modelworks.compute.feeds import pack_rows
from modelworks.core.errors import Conflict, TrustError, UsageError
from modelworks.packaging import Package, TrustPolicy, export, open_package, unpack
from modelworks.packaging.exporters import KINDS
from modelworks.packaging.exporters.triton import triton_files


def answers(onnx: bytes, package: Package) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    found = session.run(None, pack_rows(package.signature, package.examples["rows"]))
    return {item.name: array.tolist() for item, array in zip(session.get_outputs(), found, strict=True)}


def test_triton_reads_the_configuration(package: Package, tmp_path: Path) -> None:
    text_format = pytest.importorskip("google.protobuf.text_format")
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    folder = export(package, "triton", tmp_path / "repository")
    config = text_format.Parse((folder / "churn" / "config.pbtxt").read_text(), schema.ModelConfig())
    assert config.name == "churn" and config.platform == "onnxruntime_onnx" and config.max_batch_size == 1024
    types = {item.name: (schema.DataType.Name(item.data_type), list(item.dims)) for item in config.input}
    assert types == {
        "numbers": ("TYPE_FP32", [2]),
        "strings": ("TYPE_STRING", [1]),
        "datetimes": ("TYPE_INT64", [1]),
    }
    outputs = {item.name: item for item in config.output}
    assert list(outputs["probabilities"].dims) == [2]
    assert outputs["probabilities"].label_filename == "labels.txt"
    assert schema.DataType.Name(outputs["label"].data_type) == "TYPE_STRING"
    assert list(outputs["label"].dims) == [1] and list(outputs["label"].reshape.shape) == []
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert (folder / "churn" / "labels.txt").read_text() == "no\nyes\n"
    assert (
        answers((folder / "churn" / "1" / "model.onnx").read_bytes(), package) == package.examples["expected"]
    )


def test_a_name_cannot_leave_its_quotes_in_the_triton_configuration(package: Package) -> None:
    text_format = pytest.importorskip("google.protobuf.text_format")
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    odd = 'x" ] } name: "y\\\n\u00fc'
    signature = package.signature
    inputs = (replace(signature.inputs[0], name=odd), *signature.inputs[1:])
    renamed = replace(
        package, manifest=replace(package.manifest, signature=replace(signature, inputs=inputs))
    )
    text = triton_files(renamed)["churn/config.pbtxt"].decode()
    assert text_format.Parse(text, schema.ModelConfig()).input[0].name == odd


def test_mlflow_finds_its_flavours_and_tensor_signature(package: Package, tmp_path: Path) -> None:
    folder = export(package, "mlflow", tmp_path / "mlflow")
    model = yaml.safe_load((folder / "MLmodel").read_text())
    assert model["flavors"]["onnx"]["data"] == "model.onnx"
    assert model["flavors"]["python_function"]["loader_module"] == "mlflow.onnx"
    inputs = json.loads(model["signature"]["inputs"])
    assert [(item["name"], item["tensor-spec"]["shape"]) for item in inputs] == [
        ("numbers", [-1, 2]),
        ("strings", [-1, 1]),
        ("datetimes", [-1, 1]),
    ]
    assert [np.dtype(item["tensor-spec"]["dtype"]).kind for item in inputs] == ["f", "O", "i"]
    for name in ("conda.yaml", "python_env.yaml"):
        assert yaml.safe_load((folder / name).read_text())["dependencies"]
    assert answers((folder / "model.onnx").read_bytes(), package) == package.examples["expected"]


def test_mlflow_itself_loads_and_answers(package: Package, tmp_path: Path) -> None:
    pytest.importorskip("mlflow.onnx", reason="mlflow-skinny is not installed")
    import mlflow

    folder = export(package, "mlflow", tmp_path / "mlflow")
    rows = package.examples["rows"]
    found = mlflow.pyfunc.load_model(str(folder)).predict(pack_rows(package.signature, rows))
    assert found["label"].tolist() == package.examples["expected"]["label"]


def test_the_container_holds_the_package_and_trusts_its_maker_only(
    package: Package, trust: TrustPolicy, tmp_path: Path
) -> None:
    folder = export(package, "docker", tmp_path / "context")
    assert open_package(folder / "package", trust).digest == package.digest
    assert [path.stem for path in (folder / "trusted").iterdir()] == [package.signed_by]
    text = (folder / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?:--\S+ )*(\S+) ", text, re.MULTILINE)
    assert all((folder / name).exists() for name in copied)
    assert re.search(r"^USER 10001$", text, re.MULTILINE)
    assert "--tls-cert" in text, "a public bind without TLS refuses to start"
    joined = text.replace("\\\n", "")
    command = json.loads(re.search(r"^CMD (\[.*\])$", joined, re.MULTILINE).group(1))  # type: ignore[union-attr]
    assert command[2].startswith(
        f"mw package trust /opt/trusted/{package.signed_by}.pub && exec mw serve /package"
    )
    compile((folder / "healthy.py").read_text(), "healthy.py", "exec")


def test_an_unsigned_package_gets_no_container(package: Package, tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="only signed"):
        export(replace(package, signed_by=""), "docker", tmp_path / "context")


def test_a_packed_package_unpacks_to_the_same_bytes(
    package: Package, trust: TrustPolicy, tmp_path: Path
) -> None:
    path = export(package, "mwpkg", tmp_path / "churn.mwpkg")
    again = export(package, "mwpkg", tmp_path / "again.mwpkg")
    assert path.read_bytes() == again.read_bytes()
    folder = unpack(open_package(path, trust), tmp_path / "folder")
    assert open_package(folder, trust).files == package.files


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_overwritten(package: Package, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "there"
    target.write_text("mine")
    with pytest.raises(Conflict):
        export(package, kind, target)
    assert target.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_misspelt_form_is_answered_with_the_nearest(package: Package, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'triton'"):
        export(package, "trition", tmp_path / "x")
