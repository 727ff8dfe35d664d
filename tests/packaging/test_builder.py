"""Building: equal inputs give equal bytes, a folder appears whole or not at all, and no secret gets in (S21)."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import package_arguments as given
import pytest
from onnx import helper
from package_graphs import model

from modelworks.core.errors import Conflict, DataError, ExecutionError
from modelworks.core.estimator import FittedModel
from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.core.signature import Signature, Tensor
from modelworks.core.verdict import VerdictKind
from modelworks.packaging import Package, SigningKey, TrustPolicy, build, open_package
from modelworks.packaging import publishing as publishing_module
from modelworks.packaging.golden import UNSEEN, differences, golden_rows
from modelworks.packaging.manifest import NEEDED


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_equal_arguments_give_equal_bytes(onnx_bytes: bytes, key: SigningKey, tmp_path: Path) -> None:
    for name in ("one", "two"):
        build(tmp_path / name, **given.build_arguments(onnx_bytes, key))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    later = {**given.build_arguments(onnx_bytes, key), "created": 1_700_000_001.0}
    build(tmp_path / "three", **later)
    assert contents(tmp_path / "three")["manifest.json"] != contents(tmp_path / "one")["manifest.json"]


def test_the_folder_must_be_new(onnx_bytes: bytes, key: SigningKey, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(Conflict):
        build(tmp_path / "there", **given.build_arguments(onnx_bytes, key))


def test_a_build_that_is_cut_short_leaves_nothing(
    onnx_bytes: bytes, key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def failing(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(publishing_module.os, "fsync", failing)
    with pytest.raises(OSError, match="No space"):
        build(tmp_path / "package", **given.build_arguments(onnx_bytes, key))
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_tells_everything(package: Package) -> None:
    told = package.manifest
    assert told.name == "churn" and told.created == "2023-11-14T22:13:20.000Z"
    assert told.dataset["digest"] == "ab" * 32
    assert [measure["name"] for measure in told.metrics] == ["roc_auc", "log_loss"]
    assert told.verdict["kind"] == VerdictKind.RELEASED
    assert told.measured == {"latency_ms": {"p50": 0.02, "p99": 0.05}, "size_bytes": len(package.onnx)}
    assert told.recipe["name"] == "tables.portfolio" and told.recipe["chosen"] == "linear"
    assert [column["name"] for column in told.columns] == ["age", "income", "city", "joined"]
    assert {entry.size for entry in told.files.values()} == {len(package.files[name]) for name in told.files}


def test_golden_rows_hold_missing_and_unseen_values(package: Package) -> None:
    rows = package.examples["rows"]
    assert rows[0] == {"age": 31, "income": 52_000.5, "city": "Bern", "joined": "2024-03-01T00:00:00"}
    assert set(rows[3].values()) == {None}
    assert rows[4]["city"] == UNSEEN
    assert "churn" not in rows[0], "the answer is no input"
    many = [{"age": index} for index in range(100)]
    assert len(golden_rows(package.signature, many)) == 15


def test_without_rows_there_are_still_golden_examples(
    onnx_bytes: bytes, key: SigningKey, trust: TrustPolicy, tmp_path: Path
) -> None:
    build(tmp_path / "p", **{**given.build_arguments(onnx_bytes, key), "examples": []})
    assert open_package(tmp_path / "p", trust).verify().rows == 3


def test_a_model_that_answers_nonsense_is_not_packed(key: SigningKey, tmp_path: Path) -> None:
    columns = ("a", "b", "c")
    signature = Signature(
        inputs=(Tensor(name="x", datatype="FP32", shape=(-1, 3), columns=columns),),
        outputs=(Tensor(name="y", datatype="FP32", shape=(-1, 3)),),
    )
    graph = model([helper.make_node("Log", ["x"], ["y"])]).SerializeToString()
    arguments = given.build_arguments(graph, key)
    arguments["model"] = FittedModel(onnx=graph, signature=signature)
    arguments["schema"] = Schema(tuple(Column(name=name, kind=ColumnKind.NUMBER) for name in columns))
    with pytest.raises(ExecutionError, match="not finite"):
        build(tmp_path / "p", **{**arguments, "examples": [{"a": -1.0}]})


def test_an_example_of_the_wrong_type_is_named(onnx_bytes: bytes, key: SigningKey, tmp_path: Path) -> None:
    arguments = {**given.build_arguments(onnx_bytes, key), "examples": [{"age": "old"}]}
    with pytest.raises(DataError, match="column 'age'"):
        build(tmp_path / "p", **arguments)


CANARY = "canary-5f2c"


def test_secrets_and_private_folders_stay_outside(onnx_bytes: bytes, key: SigningKey, tmp_path: Path) -> None:
    url = f"postgresql://ann:{CANARY}@db.internal:5432/sales?password={CANARY}"
    arguments: dict[str, Any] = given.build_arguments(onnx_bytes, key)
    task = arguments["task"]
    arguments["task"] = replace(
        task, data=url, split=replace(task.split, test_data=f"s3://bucket/test.csv?X-Amz-Signature={CANARY}")
    )
    arguments["lineage"] = {
        **arguments["lineage"],
        "dataset": {"digest": "ab" * 32, "name": url},
        "source": {"url": f"https://host/x?token={CANARY}"},
    }
    arguments["verdict"] = replace(given.VERDICT, cause=f"read from {url}", fix=f"mw produce '{url}'")
    arguments["report"] = {
        "guard": [{"code": "x", "severity": "warning", "message": f"{url} is slow"}],
        "commands": [["Again", f"mw produce {url}"]],
    }
    arguments["profile"] = {"source": url}
    build(tmp_path / "p", **arguments)
    for name, data in contents(tmp_path / "p").items():
        assert CANARY.encode() not in data, name
    local = given.build_arguments(onnx_bytes, key)
    local["task"] = replace(local["task"], data="/home/ann/secret-project/churn.csv")
    local["lineage"]["dataset"]["name"] = "/home/ann/secret-project/churn.csv"
    local["report"] = {"commands": [["Ask it", "mw predict churn /home/ann/secret-project/churn.csv"]]}
    build(tmp_path / "q", **local)
    for name, data in contents(tmp_path / "q").items():
        assert b"secret-project" not in data, name


def test_the_signing_key_is_in_no_file(package: Package) -> None:
    import base64

    seed = bytes(range(32))
    for data in package.files.values():
        assert (
            seed not in data and base64.b64encode(seed)[:40] not in data and seed.hex().encode() not in data
        )


def test_files_are_plain_and_readable_by_all(package_folder: Path) -> None:
    for name in NEEDED:
        status = (package_folder / name).stat()
        assert status.st_nlink == 1 and status.st_mode & 0o444 == 0o444


@pytest.mark.parametrize(
    ("expected", "found", "wrong"),
    [
        ([0.1, 0.2], [0.1, 0.2], 0),
        ([0.1, 0.2], [0.1, 0.20001], 0),
        ([0.1, 0.2], [0.1, 0.3], 1),
        ([1e6], [1e6 + 50], 0),
        (["a"], ["b"], 1),
        ([True], [1], 1),
        ([1.0], [True], 1),
        ([0.5], [float("nan")], 1),
        ([[1.0, 2.0]], [[1.0]], 1),
        ([1.0], None, 1),
    ],
)
def test_answers_are_compared_exactly_or_within_tolerance(expected: Any, found: Any, wrong: int) -> None:
    assert differences(expected, found, {"absolute": 1e-4, "relative": 1e-4}) == wrong


def test_numpy_rows_become_json(package: Package) -> None:
    rows = golden_rows(
        package.signature, [{"age": np.float32(3.5), "income": float("nan"), "city": np.str_("Bern")}]
    )
    assert rows[0] == {"age": 3.5, "income": None, "city": "Bern"}
