"""Packages whose texts go through a ``tokenizer.json``: declared, signed, replayed in the limited child, refused."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import package_arguments as given
import pytest
from onnx import TensorProto, helper
from package_graphs import table_graph, tensor

from modelworks.compute.feeds import pack_rows
from modelworks.core.backbone import Backbone
from modelworks.core.errors import DataError, ModelworksError, TrustError
from modelworks.core.estimator import FittedModel
from modelworks.core.schema import Column, ColumnKind, Schema
from modelworks.core.signature import ATTENTION, TOKEN_IDS, TOKENIZER, Signature, Tensor, Tokenizer
from modelworks.packaging import Package, SigningKey, TrustPolicy, build, export, open_package
from modelworks.packaging.manifest import FILE_KINDS
from modelworks.packaging.replay import ReplayLimits, replay
from modelworks.serving.rows import RowReader

pytest.importorskip("tokenizers", reason="needs the extra 'text'")

WORDS = {"[UNK]": 1, "[CLS]": 2, "good": 10, "bad": 20, "##ly": 5, "!": 7}
FILE = json.dumps(
    {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": WORDS,
        },
    }
).encode()  # fmt: skip
COLUMN = "said"


def summing_graph() -> bytes:
    """Return a graph that sums the tokens of a text."""
    nodes = [
        helper.make_node("Mul", [TOKEN_IDS, ATTENTION], ["present"]),
        helper.make_node("ReduceSum", ["present", "axes"], ["sums"], keepdims=0),
        helper.make_node("Cast", ["sums"], ["prediction"], to=TensorProto.FLOAT),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, [None, None])
        for name in (TOKEN_IDS, ATTENTION)
    ]
    outputs = [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, [None])]
    graph = helper.make_graph(nodes, "sum", inputs, outputs, [tensor("axes", np.array([1], np.int64))])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def signature_of(data: bytes = FILE, max_tokens: int = 4) -> Signature:
    backbone = Backbone(
        name="b", modality="text", onnx=b"", width=1, licence="MIT", preprocessor=data,
        about={"max_tokens": max_tokens},
    )  # fmt: skip
    names = (TOKEN_IDS, ATTENTION)
    return Signature(
        inputs=tuple(Tensor(name=n, datatype="INT64", shape=(-1, -1), columns=(COLUMN,)) for n in names),
        outputs=(Tensor(name="prediction", datatype="FP32", shape=(-1,)),),
        tokenizer=backbone.tokenizer,
    )


@pytest.fixture
def package(key: SigningKey, trust: TrustPolicy, tmp_path: Path) -> Package:
    arguments = given.build_arguments(summing_graph(), key)
    arguments["model"] = FittedModel(onnx=arguments["model"].onnx, signature=signature_of())
    arguments["schema"] = Schema((Column(name=COLUMN, kind=ColumnKind.TEXT),))
    arguments["examples"] = [{COLUMN: text} for text in ("Good!", "badly bad bad bad bad", "")]
    build(tmp_path / "package", **arguments)
    return open_package(tmp_path / "package", trust)


def test_texts_become_tokens_cut_and_padded() -> None:
    feeds = pack_rows(signature_of(), [{COLUMN: "Good badly"}, {COLUMN: None}, {COLUMN: "bad " * 9}])
    assert feeds[TOKEN_IDS].tolist() == [[10, 20, 5, 0], [0, 0, 0, 0], [20, 20, 20, 20]]
    assert feeds[ATTENTION].tolist() == [[1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]]
    assert pack_rows(signature_of(), [{COLUMN: "\ud800 good"}])[TOKEN_IDS].tolist() == [[1, 10]]
    with pytest.raises(DataError, match="Column 'said': row 0: expected a text, got 7"):
        pack_rows(signature_of(), [{COLUMN: 7}])


def test_the_package_declares_it_and_the_child_replays_through_it(package: Package, tmp_path: Path) -> None:
    declared = json.loads(package.files["manifest.json"])["signature"]["preprocessor"]
    assert (declared["kind"], declared["file"], declared["max_tokens"]) == ("tokenizers", TOKENIZER, 4)
    assert package.examples["expected"]["prediction"][:3] == [17.0, 65.0, 0.0]
    replayed = package.verify()
    assert replayed.rows == len(package.examples["rows"])
    assert replayed.protections["system_calls"]
    archive = export(package, "mwpkg", tmp_path / "p.mwpkg")
    opened = open_package(archive, TrustPolicy(require_signed=False))
    assert opened.signature == package.signature
    assert opened.signature.tokenizer is not None
    assert opened.signature.tokenizer.data == FILE
    found = RowReader(opened.signature).read(b'[{"said": "good"}, {}]')
    assert found[TOKEN_IDS].tolist() == [[10], [0]]


def test_predict_gives_the_same_answers(package: Package, tmp_path: Path) -> None:
    folder = export(package, "predict", tmp_path / "predict")
    rows = package.examples["rows"]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    command = [sys.executable, "-I", str(folder / "predict.py"), str(tmp_path / "rows.json")]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = [json.loads(line)["prediction"] for line in shown.stdout.splitlines()]
    assert found == package.examples["expected"]["prediction"]
    for form in ("triton", "mlflow", "docker"):
        assert list(export(package, form, tmp_path / form).rglob(TOKENIZER)), form


def test_a_changed_missing_or_undeclared_tokenizer_is_refused(
    package: Package, trust: TrustPolicy, tmp_path: Path
) -> None:
    def changed(data: bytes | None, source: Path = tmp_path / "package") -> Path:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy)
        (copy / TOKENIZER).unlink(missing_ok=True)
        if data is not None:
            (copy / TOKENIZER).write_bytes(data)
        return copy

    for data in (FILE.replace(b"10", b"11"), None, b" " * (FILE_KINDS[TOKENIZER] + 1)):
        with pytest.raises(TrustError):
            open_package(changed(data), trust)
    assert open_package(changed(FILE), trust).digest == package.digest
    with pytest.raises(TrustError, match="declares"):
        replace(package.signature, tokenizer=None).with_tokenizer(FILE)


def test_a_package_without_one_may_not_hold_one(key: SigningKey, trust: TrustPolicy, tmp_path: Path) -> None:
    build(tmp_path / "package", **given.build_arguments(table_graph().SerializeToString(), key))
    (tmp_path / "package" / TOKENIZER).write_bytes(FILE)
    with pytest.raises(TrustError, match="more or fewer"):
        open_package(tmp_path / "package", trust)


def test_damaged_tokenizers_end_in_the_child(package: Package) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed={seed}")
    dice = random.Random(seed)
    crafted: list[bytes] = [
        b"", b"{}", b"[" * 100_000, b"\xff\xfe", FILE[:-1], FILE.replace(b"WordPiece", b"Unigram"),
        FILE.replace(b'"##"', b"7"), FILE.replace(b"10", b"99999999999999999999"), FILE.replace(b"[UNK]", b"[NO]", 1),
    ]  # fmt: skip
    for _ in range(30):
        data = bytearray(FILE)
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(len(data))
            data[place : place + dice.randint(0, 3)] = dice.randbytes(dice.randint(0, 3))
        crafted.append(bytes(data))
    for data in crafted:
        assert_harmless(package, data)


def assert_harmless(package: Package, data: bytes) -> None:
    """Replay with other bytes, rightly declared: it works or is refused, and the next package opens."""
    other: Any = replace(package.signature, tokenizer=Tokenizer.from_json(declared_as(data)))
    try:
        replay(package.onnx, other.with_tokenizer(data), package.examples, ReplayLimits())
    except ModelworksError as error:
        assert isinstance(error, TrustError), data


def declared_as(data: bytes) -> dict[str, Any]:
    tokenizer = signature_of(data).tokenizer
    assert tokenizer is not None
    return tokenizer.to_json()


@pytest.mark.parametrize(
    "wrong", [{"kind": "pickle"}, {"file": "../x"}, {"max_tokens": 10**9}, {"max_tokens": True}]
)
def test_another_preprocessor_is_not_read(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="preprocessor"):
        Tokenizer.from_json({**declared_as(FILE), **wrong})
