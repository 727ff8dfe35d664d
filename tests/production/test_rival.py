"""Beside the heads of texts stands a sparse linear model: taken if its held-out loss is lower, told either way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelworks.compute.feeds import answer
from modelworks.compute.runtime import GraphSession
from modelworks.core.errors import MissingExtra
from modelworks.core.estimator import FittedModel
from modelworks.core.signature import Signature
from modelworks.core.task import Task, TaskKind
from modelworks.data.samples.training import TrainingSamples
from modelworks.production import escalating
from modelworks.production.escalating import has_rival

TASK = Task(name="t", data="x.csv", target="label", modality="text")


def _train() -> TrainingSamples:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 120)
    words = [["leaks", "oil", "noise", "hot"], ["fine", "quiet", "cold", "dry"]]
    texts = np.array([" ".join(rng.choice([*words[label], "pump", "valve"], 7)) for label in labels], object)
    return TrainingSamples(
        payload=texts, column="text", modality="text", kind=TaskKind.BINARY, target=labels.astype(np.int64),
        classes=("bad", "good"), weight=None, folds=(np.arange(120) % 5).astype(np.int8),
    )  # fmt: skip


def _head(loss: float) -> FittedModel:
    members = [{"name": "text.ngrams", "oof_loss": loss, "weight": 1.0, "kept": True}]
    return FittedModel(
        onnx=b"head",
        signature=Signature(inputs=(), outputs=()),
        diagnostics={"oof_loss": loss, "members": members},
    )


def test_the_lower_held_out_loss_ships() -> None:
    train = _train()
    model, recipe, found = escalating._rival(_head(0.68), {"name": "samples.heads"}, train, TASK)
    assert found["chosen"] == "rival" and recipe["name"] == "text.linear"
    assert [item["kept"] for item in model.diagnostics["members"]] == [False, True]
    assert [item["weight"] for item in model.diagnostics["members"]] == [0.0, 1.0]
    said = answer(GraphSession(model.onnx), model.signature, {"text": train.payload}, train.rows)
    named = np.array([train.classes.index(str(label)) for label in said["label"]])
    assert (named == train.target).mean() > 0.95


def test_a_head_that_does_better_stays_and_the_other_is_told() -> None:
    model, recipe, found = escalating._rival(_head(1e-6), {"name": "samples.heads"}, _train(), TASK)
    assert found["chosen"] == "head" and found["tried"] and model.onnx == b"head"
    assert recipe == {"name": "samples.heads"}
    assert [item["name"] for item in model.diagnostics["members"]] == ["text.ngrams", "text.linear"]
    assert "text.linear: held-out loss" in model.diagnostics["rival"]


def test_without_the_extra_the_head_ships_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise MissingExtra.named(name, "text")

    monkeypatch.setattr("modelworks.algorithms.plugins.estimator", absent)
    model, _, found = escalating._rival(_head(0.68), {}, _train(), TASK)
    assert found["chosen"] == "head" and not found["tried"] and "modelworks[text]" in found["hint"]
    assert model.onnx == b"head"


def test_a_named_backbone_is_not_contested() -> None:
    named = Task(name="t", data="x.csv", target="label", modality="text", options={"backbone": "text.minilm"})
    image = Task(name="t", data="x", target="label", modality="image")
    assert has_rival(TASK, "binary") and has_rival(TASK, "multilabel")
    assert (
        not has_rival(TASK, "regression")
        and not has_rival(named, "binary")
        and not has_rival(image, "binary")
    )
